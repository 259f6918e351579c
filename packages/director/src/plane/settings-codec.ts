/** From the texts that operators write to the numbers that packets read. */
import { HELPERS, helpedBits, PROTOCOLS, type Settings, ticksOf } from '@ipvsd/ipvs';
import { portSetting, readPorts } from '../helped-ports.ts';
import type { Document } from './registry.ts';

/** Modes that the data plane changes between 1 and 2 by itself. */
const DEFENCE = { secure_tcp: 'secureTcp', drop_entry: 'dropEntry', drop_packet: 'dropPacket' } as const;

export function fillSettings(s: Settings, sysctls: ReadonlyMap<string, string>, { timeouts, daemons }: Document): void {
  const number = (name: string): number => Number(sysctls.get(name)) >>> 0;
  const { tcp, tcpFin, udp } = timeouts;
  const changed: Readonly<Record<string, number>> = {
    'tcp ESTABLISHED': tcp,
    'tcp FIN_WAIT': tcpFin,
    'udp UDP': udp,
  };
  for (const protocol of PROTOCOLS) {
    for (const [state, name] of protocol.states.entries()) {
      const seconds = changed[`${protocol.name} ${name}`] ?? protocol.timeouts[state]!;
      s.timeouts.set(protocol.slot + state, ticksOf(seconds));
    }
  }
  s.connectionReuse = number('conn_reuse_mode');
  s.expireNoDestination = number('expire_nodest_conn');
  s.expireQuiescentTemplate = number('expire_quiescent_template');
  s.sloppyTcp = number('sloppy_tcp');
  s.sloppySctp = number('sloppy_sctp');
  s.cacheBypass = number('cache_bypass');
  s.natIcmpSend = number('nat_icmp_send');
  s.scheduleIcmp = number('schedule_icmp');
  s.pathMtuDiscovery = number('pmtu_disc');
  s.ignoreTunneled = number('ignore_tunneled');
  s.backupOnly = number('backup_only') !== 0 && daemons.some(({ role }) => role === 'backup') ? 1 : 0;
  for (const [name, field] of Object.entries(DEFENCE)) {
    const mode = number(name);
    if (mode !== 1 || s[field] !== 2) s[field] = mode;
  }
  s.memoryThreshold = number('amemthresh');
  s.dropRate = number('am_droprate');
  const [lowest = 0, highest = 0] = sysctls.get('local_port_range')!.split('\t').map(Number);
  s.addressOption = number('toa_option');
  s.datagramOption = number('uoa_mode');
  s.helped = helpedBits(HELPERS.flatMap(({ name }) => readPorts(sysctls.get(portSetting(name)) ?? '') ?? []));
  s.firstLocalPort = lowest;
  s.localPorts = highest - lowest + 1;
  s.localPeers = number('local_peers');
  s.runEstimation = number('run_estimation');
  s.localityExpiration = ticksOf(Math.max(0, Number(sysctls.get('lblc_expiration')))) >>> 0;
  s.replicationExpiration = ticksOf(Math.max(0, Number(sysctls.get('lblcr_expiration')))) >>> 0;
}

/** Where the defence has come into force by itself, its mode reads 2. */
export function liveSysctls(sysctls: ReadonlyMap<string, string>, s: Settings): ReadonlyMap<string, string> {
  const live = new Map(sysctls);
  for (const [name, field] of Object.entries(DEFENCE)) {
    if (live.get(name) === '1' && s[field] === 2) live.set(name, '2');
  }
  return live;
}
