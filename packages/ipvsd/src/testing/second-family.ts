/** IPv6 beside IPv4 on hosts that have none: 192.168.2.10 is fd00:192:168:2::10 too, and ways lead there as they do in IPv4. */
import type { Host } from '../demo/cluster.ts';

export function sixOf(address: string): string {
  const [a, b, c, d] = address.split('.');
  return `fd00:${a}:${b}:${c}::${d}`;
}

export function addSecondFamily(host: Host): void {
  const ip = (...args: readonly string[]): string => {
    const { status, stdout, stderr } = host.run('ip', args);
    if (status !== 0) throw new Error(`Cannot give ${host.name} IPv6: ip ${args.join(' ')} ended with: ${stderr}`);
    return stdout;
  };
  for (const [, name, address, prefix] of ip('-4', '-o', 'address').matchAll(/^\d+: (\S+) +inet ([\d.]+)\/(\d+)/gm)) {
    if (name === 'lo') continue;
    ip('-6', 'address', 'add', `${sixOf(address!)}/${prefix === '32' ? 128 : 64}`, 'dev', name!, 'nodad');
  }
  for (const [, via] of ip('-4', 'route').matchAll(/^default via (\S+)/gm))
    ip('-6', 'route', 'add', 'default', 'via', sixOf(via!));
  const forwards = host.run('cat', ['/proc/sys/net/ipv4/ip_forward']).stdout.trim();
  host.sysctl('net.ipv6.conf.all.forwarding', forwards);
}
