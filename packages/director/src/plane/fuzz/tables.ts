/** Random changes of the service table: everything that an operator may say, most of it sensible. */
import { SCHEDULER_NAMES } from '@ipvsd/ipvs';
import type { Family } from '../../address.ts';
import type { Command } from '../../command.ts';
import type { MarkRule } from '../../mark-rule.ts';
import { plainTunnel, type RealServerSettings, type ServiceId, type ServiceSettings } from '../../model.ts';
import { describeSysctls } from '../../sysctls.ts';
import type { Random } from './random.ts';
import { GUE_PORT, LOCALS, MARKS, PORTS, REAL_SERVERS, SITES } from './site.ts';

/** Settings that packets ask for, with the values worth a try. */
const SYSCTLS: Readonly<Record<string, readonly string[]>> = {
  am_droprate: ['1', '2', '10', '0', '-1'],
  amemthresh: ['0', '3', '15', '1024'],
  backup_only: ['0', '0', '0', '1'],
  cache_bypass: ['0', '1'],
  conn_reuse_mode: ['0', '1', '2', '3'],
  drop_entry: ['0', '1', '3'],
  drop_packet: ['0', '1', '3'],
  expire_nodest_conn: ['0', '1'],
  expire_quiescent_template: ['0', '1'],
  ftp_ports: ['21', '21', '21,80,53', 'none'],
  irc_ports: ['none', '81'],
  pptp_ports: ['none', '81', '21'],
  rtsp_ports: ['none', 'none', '21', '80'],
  ignore_tunneled: ['0', '1'],
  lblc_expiration: ['1', '30', '86400'],
  lblcr_expiration: ['1', '30', '86400'],
  local_port_range: ['2000 2001', '2000 2015', '1024 32767'],
  nat_icmp_send: ['0', '1'],
  pmtu_disc: ['0', '1'],
  run_estimation: ['0', '1'],
  schedule_icmp: ['0', '1'],
  secure_tcp: ['0', '1', '3'],
  sloppy_sctp: ['0', '1'],
  sloppy_tcp: ['0', '1'],
  tftp_ports: ['53', '53,80', 'none'],
  toa_option: ['0', '254', '253'],
  uoa_mode: ['1', '2', '2'],
};
const INITIAL = new Map(describeSysctls().map(({ name, initial }) => [name, initial]));

const SCHEDULERS = SCHEDULER_NAMES.filter((name) => name !== 'none');

const family = (random: Random): Family => random.pick(['ipv4', 'ipv4', 'ipv6']);
const protocol = (random: Random) => random.pick(['tcp', 'tcp', 'udp', 'udp', 'sctp'] as const);

function serviceId(random: Random): ServiceId {
  const of = family(random);
  if (random.oneIn(5)) return { kind: 'fwmark', family: of, fwmark: random.pick(MARKS) };
  return {
    kind: 'address',
    family: of,
    protocol: protocol(random),
    address: random.pick(SITES[of].virtual),
    port: random.oneIn(10) ? 0 : random.pick(PORTS),
  };
}

function serviceSettings(random: Random, id: ServiceId): ServiceSettings {
  const netmask =
    id.family === 'ipv4'
      ? random.pick([0xffff_ffff, 0xffff_ff00, 0xffff_fffc, 0xffff_0003, 0])
      : random.pick([128, 120, 126, 1]);
  const persistent = random.oneIn(3) || (id.kind === 'address' && id.port === 0);
  return {
    scheduler: random.oneIn(30) ? 'none' : random.pick(SCHEDULERS),
    schedulerFlags: random.pick([0, 0, 1, 2, 3, 7]),
    persistence: persistent ? { timeoutSeconds: random.pick([1, 10, 100, 360]), netmask } : null,
    persistenceEngine: persistent && random.oneIn(4) ? 'sip' : null,
    onePacket: random.oneIn(8),
    ...(random.oneIn(3) && { proxyProtocol: random.pick(['v1', 'v2', 'v2-each'] as const) }),
    ...(random.oneIn(3) && (id.kind === 'fwmark' || id.protocol === 'tcp')
      ? { segmentSize: random.pick(['auto', 'auto', 48, 300, 536, 1200, 1400] as const) }
      : {}),
    ...(random.oneIn(4) && { idle: { timeoutSeconds: random.below(100), reset: random.oneIn(2) } }),
  };
}

function serverSettings(random: Random): RealServerSettings {
  const forwarding = random.pick([
    'masq',
    'masq',
    'masq',
    'masq',
    'fullnat',
    'fullnat',
    'tunnel',
    'tunnel',
    'route',
    'local',
  ] as const);
  const upperThreshold = random.pick([0, 0, 0, 1, 3, 10]);
  return {
    forwarding,
    weight: random.pick([0, 1, 1, 2, 3, 4, 10, 1000, 65_535]),
    upperThreshold,
    lowerThreshold: random.pick([0, 0, 1, upperThreshold]),
    tunnel: forwarding !== 'tunnel' ? plainTunnel : tunnel(random),
  };
}

const tunnel = (random: Random): RealServerSettings['tunnel'] =>
  random.pick([
    plainTunnel,
    { type: 'gre', port: 0, checksum: random.pick(['none', 'full'] as const) },
    { type: 'gue', port: GUE_PORT, checksum: random.pick(['none', 'full', 'remote'] as const) },
  ]);

/** `known`: services there are; most changes are about one of these. */
export function randomCommand(random: Random, known: readonly ServiceId[]): Command {
  if (known.length === 0 || random.oneIn(8)) {
    const service = serviceId(random);
    return { kind: 'addService', service, settings: serviceSettings(random, service) };
  }
  const service = random.pick(known);
  const settings = serverSettings(random);
  // Tunnels lead into the other family as well, and FULLNAT from IPv6 to IPv4.
  const crosses = random.oneIn(settings.forwarding === 'tunnel' ? 3 : settings.forwarding === 'fullnat' ? 2 : 100);
  const four = (service.family === 'ipv4') !== crosses;
  const server = {
    address: SITES[four ? 'ipv4' : 'ipv6'].real(random.below(REAL_SERVERS)),
    port: ['masq', 'fullnat'].includes(settings.forwarding)
      ? random.pick([80, 8000, 0])
      : service.kind === 'address'
        ? service.port
        : 0,
  };
  const local = random.pick(LOCALS[random.oneIn(2) ? 'ipv4' : service.family]);
  const sysctl = random.pick(Object.keys(SYSCTLS));
  const value = random.oneIn(3) ? random.pick(SYSCTLS[sysctl]!) : INITIAL.get(sysctl)!;
  const choices: readonly Command[] = [
    { kind: 'addServer', service, server, settings },
    { kind: 'addServer', service, server, settings },
    { kind: 'addServer', service, server, settings },
    { kind: 'addServer', service, server, settings },
    { kind: 'addServer', service, server, settings },
    { kind: 'editServer', service, server, settings },
    { kind: 'editServer', service, server, settings: { ...settings, weight: random.below(2) } },
    { kind: 'deleteServer', service, server },
    { kind: 'setSysctl', name: sysctl, value },
    { kind: 'setSysctl', name: sysctl, value },
    { kind: 'editService', service, settings: serviceSettings(random, service) },
    { kind: 'addLocalAddress', service, address: local },
    { kind: 'addLocalAddress', service, address: local },
    { kind: 'addLocalAddress', service, address: local },
    { kind: 'addLocalAddress', service, address: local },
    { kind: 'deleteLocalAddress', service, address: local },
  ];
  if (!random.oneIn(12)) return random.pick(choices);
  return random.pick<Command>([
    { kind: 'deleteService', service },
    { kind: 'deleteService', service },
    { kind: 'zero', service },
    { kind: 'zero' },
    { kind: 'setTimeouts', timeouts: { tcp: random.below(100), tcpFin: random.below(20), udp: random.below(50) } },
    { kind: 'startDaemon', daemon: { role: 'backup', interfaceName: 'lo', syncId: 1 } },
    { kind: 'stopDaemon', role: 'backup' },
    ...(random.oneIn(10) ? [{ kind: 'flush' } as const] : []),
  ]);
}

/** What it takes for NAT64 to work, which chance alone seldom brings together; what is there already is refused. */
export function nat64Commands(random: Random): readonly Command[] {
  const address = random.pick(SITES.ipv6.virtual);
  const service: ServiceId = { kind: 'address', family: 'ipv6', protocol: protocol(random), address, port: 80 };
  const settings = { ...serverSettings(random), forwarding: 'fullnat' as const, weight: 1, tunnel: plainTunnel };
  const server = { address: SITES.ipv4.real(random.below(REAL_SERVERS)), port: random.pick([80, 8000]) };
  return [
    { kind: 'addService', service, settings: { ...serviceSettings(random, service), onePacket: false } },
    { kind: 'addLocalAddress', service, address: random.pick(LOCALS.ipv4) },
    { kind: 'addServer', service, server, settings },
  ];
}

export function randomMarkRule(random: Random): MarkRule {
  const of = family(random);
  const withProtocol = random.oneIn(2) ? protocol(random) : null;
  const [address, prefix] = random.pick<readonly [string, number]>(
    of === 'ipv4'
      ? [
          ['10.1.0.0', 24],
          ['10.1.0.100', 32],
          ['0.0.0.0', 0],
        ]
      : [
          ['2001:db8:1::', 64],
          ['2001:db8:1::100', 128],
          ['::', 0],
        ],
  );
  const port = withProtocol === null || random.oneIn(2) ? 0 : random.pick(PORTS);
  return { family: of, address, prefix, protocol: withProtocol, port, mark: random.pick([0, 7, 8, 9]) };
}
