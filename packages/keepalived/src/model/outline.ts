/** A configuration as a few lines of text that people can compare: for cases, for `check --outline`. */
import { ipv4FromNumber, type ServiceId, type Tunnel } from '@ipvsd/director';
import type { Check, Configuration, Destination, RealServer, Script, VirtualServer } from './configuration.ts';

export function outline({ virtualServers }: Configuration): string {
  return virtualServers.map(outlineService).join('');
}

function outlineService(server: VirtualServer): string {
  const { settings, realServers, localAddresses, sorryServer, services } = server;
  const lines = [`${server.name} ${outlineSettings(server)}\n`];
  if (services.length > 1 || services[0]?.kind === 'fwmark') {
    for (const id of services) lines.push(`  = ${outlineId(id)}\n`);
  }
  if (settings.persistenceEngine) lines.push(`  engine ${settings.persistenceEngine}\n`);
  if (localAddresses.length > 0) lines.push(`  local ${localAddresses.join(' ')}\n`);
  for (const real of realServers) lines.push(outlineServer(real));
  if (sorryServer) lines.push(`  sorry ${outlineDestination(sorryServer)}${sorryServer.inhibit ? ' inhibit' : ''}\n`);
  if (server.quorumUp) lines.push(`  quorum_up ${outlineScript(server.quorumUp)}\n`);
  if (server.quorumDown) lines.push(`  quorum_down ${outlineScript(server.quorumDown)}\n`);
  return lines.join('');
}

function outlineSettings({ settings, quorum, hysteresis, omega, haSuspend }: VirtualServer): string {
  const { scheduler, schedulerFlags, persistence, onePacket, idle } = settings;
  const words = [scheduler];
  if (schedulerFlags) words.push(`flags ${schedulerFlags}`);
  if (persistence) {
    const { timeoutSeconds, netmask } = persistence;
    words.push(`persistent ${timeoutSeconds} mask ${netmask > 128 ? ipv4FromNumber(netmask) : netmask}`);
  }
  if (onePacket) words.push('ops');
  if (settings.proxyProtocol) words.push(`proxy-protocol ${settings.proxyProtocol}`);
  if (settings.segmentSize) words.push(`mss ${settings.segmentSize}`);
  if (idle?.timeoutSeconds) words.push(`conn-timeout ${idle.timeoutSeconds}`);
  if (idle?.reset) words.push('reset-at-expiry');
  if (quorum !== 1 || hysteresis !== 0) words.push(`quorum ${quorum} hysteresis ${hysteresis}`);
  if (omega) words.push('omega');
  if (haSuspend) words.push('ha_suspend');
  return words.join(' ');
}

function outlineId(id: ServiceId): string {
  return id.kind === 'fwmark' ? `fwmark ${id.fwmark} ${id.family}` : `${id.protocol} [${id.address}]:${id.port}`;
}

function outlineServer(real: RealServer): string {
  const lines = [`  -> ${outlineDestination(real)}${real.inhibitOnFailure ? ' inhibit' : ''}\n`];
  if (real.notifyUp) lines.push(`     notify_up ${outlineScript(real.notifyUp)}\n`);
  if (real.notifyDown) lines.push(`     notify_down ${outlineScript(real.notifyDown)}\n`);
  for (const check of real.checks) lines.push(`     ${outlineCheck(check)}\n`);
  return lines.join('');
}

function outlineDestination({ address, port, settings }: Destination): string {
  const { forwarding, weight, upperThreshold, lowerThreshold, tunnel } = settings;
  const thresholds = upperThreshold || lowerThreshold ? ` threshold ${lowerThreshold}..${upperThreshold}` : '';
  return `[${address}]:${port} ${forwarding === 'tunnel' ? outlineTunnel(tunnel) : forwarding} weight ${weight}${thresholds}`;
}

function outlineTunnel({ type, port, checksum }: Tunnel): string {
  return `tunnel ${type}${port ? ` port ${port}` : ''}${checksum === 'none' ? '' : ` checksum ${checksum}`}`;
}

function outlineScript({ argv, runAs }: Script): string {
  const user = runAs ? ` as ${runAs.user}${runAs.group ? `:${runAs.group}` : ''}` : '';
  return JSON.stringify(argv) + user;
}

function outlineCheck(check: Check): string {
  const { delayLoopMs, retry, delayBeforeRetryMs, warmupMs, connectTimeoutMs } = check.timing;
  const seconds = (ms: number): string => `${ms / 1000}s`;
  const timing = [
    `every ${seconds(delayLoopMs)}`,
    `retry ${retry} after ${seconds(delayBeforeRetryMs)}`,
    ...(warmupMs === delayLoopMs ? [] : [`warmup ${seconds(warmupMs)}`]),
    `timeout ${seconds(check.kind === 'MISC_CHECK' ? check.timeoutMs : connectTimeoutMs)}`,
  ];
  return `${[check.kind, outlineWhat(check), ...(check.alpha ? ['alpha'] : [])].join(' ')}, ${timing.join(', ')}`;
}

function outlineWhat(check: Check): string {
  switch (check.kind) {
    case 'MISC_CHECK':
      return `${outlineScript(check.script)}${check.dynamic ? ' dynamic' : ''}`;
    case 'FILE_CHECK':
      return `${check.path} weight ${check.weight}`;
    case 'BFD_CHECK':
      return check.instance;
    case 'SMTP_CHECK':
      return `${check.connections.map(({ address, port }) => `[${address}]:${port}`).join(' ')} helo ${check.heloName}`;
    case 'HTTP_GET':
    case 'SSL_GET': {
      const urls = check.urls.map(({ path, host, statusCodes, digest, regex }) => {
        const codes = statusCodes.map(([from, to]) => (from === to ? from : `${from}-${to}`)).join(' ');
        const parts = [path, ...(host ? [`host ${host}`] : []), `status ${codes}`];
        if (digest) parts.push(`digest ${digest}`);
        if (regex) parts.push(`${regex.mustNotMatch ? 'not ' : ''}/${regex.source}/${regex.flags}`);
        return parts.join(' ');
      });
      const { address, port } = check.connection;
      return `[${address}]:${port} HTTP/${check.version} (${urls.join('; ')})${check.serverName ? ` sni ${check.serverName}` : ''}`;
    }
    default: {
      const { address, port } = check.connection;
      const extra = check.kind === 'DNS_CHECK' ? ` ${check.name} type ${check.type}` : '';
      return `[${address}]:${port}${extra}`;
    }
  }
}
