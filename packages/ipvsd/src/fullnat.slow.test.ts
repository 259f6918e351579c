/** FULLNAT with real programs: real servers that know no way to the clients, our built commands, eBPF in the kernel. */
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours, serveName, startServer } from './testing/ours.ts';

const node = process.execPath;
const VIP4 = '172.16.45.10';
const VIP6 = 'fd00:45::10';
const LOCAL4 = '192.168.45.1';
const LOCAL6 = 'fd00:46::1';

let cluster: Cluster;
let client: Host;
let director: Host;
let one: Host;
let two: Host;

const ipvsadm = (...args: string[]): string => ours(director, 'ipvsadm', ...args);

const get = (url: string): string => {
  const { stdout, stderr } = client.run('curl', ['-sS', '--max-time', '10', url]);
  expect(stderr).toBe('');
  return stdout;
};

/** A virtual service whose real servers are behind FULLNAT. */
function service(option: string, virtual: string, local: string, ...reals: string[]): void {
  ipvsadm('-A', option, virtual, '-s', 'rr');
  ipvsadm('-P', option, virtual, '-z', local, '-F', 'eth1');
  for (const real of reals) ipvsadm('-a', option, virtual, '-r', real, '--fullnat');
}

describeKernel('a FULLNAT cluster on the real kernel', () => {
  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-fnat'));
    client = cluster.host('client');
    director = cluster.host('director');
    one = cluster.host('real1');
    two = cluster.host('real2');
    cluster.connect(client, { name: 'eth0', addresses: ['172.16.45.2/24', 'fd00:45::2/64'] }, director, {
      name: 'eth0',
      addresses: [`${VIP4}/24`, `${VIP6}/64`],
    });
    // No default route: what a real server answers can only go to the director's own address.
    cluster.switch('switch', [
      [director, { name: 'eth1', addresses: [`${LOCAL4}/24`, `${LOCAL6}/64`] }],
      [one, { name: 'eth0', addresses: ['192.168.45.2/24', 'fd00:46::2/64'] }],
      [two, { name: 'eth0', addresses: ['192.168.45.3/24', 'fd00:46::3/64'] }],
    ]);
    director.sysctl('net.ipv4.ip_forward', 1);
    director.sysctl('net.ipv6.conf.all.forwarding', 1);
    await Promise.all([serveName(one, 8000), serveName(two, 80)]);
    service('-t', `${VIP4}:80`, LOCAL4, '192.168.45.2:8000', '192.168.45.3');
    service('-t', `[${VIP6}]:80`, LOCAL6, '[fd00:46::2]:8000', '[fd00:46::3]:80');
  });

  afterAll(() => cluster?.remove());

  test.each([
    ['IPv4', `http://${VIP4}/`, LOCAL4],
    ['IPv6', `http://[${VIP6}]/`, LOCAL6],
  ])('curl reaches both real servers, who see the local address (%s)', (_, url, local) => {
    const answers = [1, 2, 3, 4].map(() => get(url));
    expect(answers.map((text) => text.split(' ')[0]).sort()).toEqual(['real1', 'real1', 'real2', 'real2']);
    for (const text of answers) expect(text).toContain(local);
  });

  test('thousands of requests at once, none of them fails', () => {
    const load = client.run(node, [
      bundle('ipvsd'),
      'demo-load',
      `http://${VIP4}/`,
      '--requests',
      '5000',
      '--concurrency',
      '50',
    ]);
    expect(JSON.parse(load.stdout)).toMatchObject({ requests: 5000, failures: 0 });
  });

  test('the host itself does not answer for its local address', () => {
    const resets = director.run('cat', ['/proc/net/snmp']).stdout.split('\n');
    const [names, values] = resets.filter((line) => line.startsWith('Tcp:')).map((line) => line.split(' '));
    expect(values![names!.indexOf('OutRsts')]).toBe('0');
  });

  test('large segments pass whole both ways', async () => {
    const megabytes = 64;
    const script = `require('net').createServer({ allowHalfOpen: true }, (s) => { let n = 0; s.on('data', (c) => (n += c.length)).on('end', () => s.end(Buffer.alloc(n))); }).listen(7000, '::', () => console.log('up'))`;
    await startServer(one, ['-e', script]);
    service('-t', `${VIP4}:7000`, LOCAL4, '192.168.45.2:7000');
    const read = `let n = 0; const s = require('net').connect(7000, '${VIP4}').on('data', (c) => (n += c.length)).on('close', () => console.log(n)); s.end(Buffer.alloc(${megabytes} << 20))`;
    expect(client.run(node, ['-e', read]).stdout.trim()).toBe(`${megabytes << 20}`);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    const line = ipvsadm('-Ln', '-t', `${VIP4}:7000`, '--stats', '--exact')
      .split('\n')
      .find((l) => l.startsWith('TCP'))!;
    const [, , , inPackets, outPackets, inBytes, outBytes] = line.split(/\s+/).map(Number);
    expect(inBytes! / inPackets!).toBeGreaterThan(4 * 1500);
    expect(outBytes! / outPackets!).toBeGreaterThan(4 * 1500);
  });

  test('a UDP datagram of 20,000 bytes comes back in its fragments', async () => {
    const script = `const s = require('dgram').createSocket('udp4').on('message', (m, from) => s.send(m, from.port, from.address)).bind(9000, () => console.log('up'))`;
    await startServer(two, ['-e', script]);
    service('-u', `${VIP4}:9000`, LOCAL4, '192.168.45.3:9000');
    const ask = `const s = require('dgram').createSocket('udp4').on('message', (m) => { console.log(m.length); s.close(); }); setTimeout(() => process.exit(1), 5000).unref(); s.send(Buffer.alloc(20000), 9000, '${VIP4}')`;
    expect(client.run(node, ['-e', ask]).stdout.trim()).toBe('20000');
  });

  test('a closed port of the real server is refused at once, by its own reset', () => {
    service('-t', `${VIP4}:81`, LOCAL4, '192.168.45.2:81');
    // 7: the connection was refused; a connection that nobody answers would end with 28.
    expect(client.run('curl', ['-sS', '--max-time', '5', `http://${VIP4}:81/`]).status).toBe(7);
  });

  test('the listing says so, and what is saved is restored', () => {
    expect(ipvsadm('-Ln', '-t', `${VIP4}:80`)).toMatch(/192\.168\.45\.2:8000 +FullNat/);
    expect(ipvsadm('-G', '-t', `${VIP4}:80`)).toContain(`  -> ${LOCAL4}\n`);
    const saved = ours(director, 'ipvsadm-save', '-n');
    expect(saved).toContain(`-P -t ${VIP4}:80 -z ${LOCAL4}\n`);
    ipvsadm('-C');
    director.run('sh', ['-c', `echo '${saved}' | ${node} ${bundle('ipvsadm-restore')}`]);
    expect(ours(director, 'ipvsadm-save', '-n')).toBe(saved);
    expect(get(`http://[${VIP6}]/`)).toContain(LOCAL6);
  });
});
