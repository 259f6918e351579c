/**
 * The settings of a sync daemon as it runs: what the operator left open is filled in here, by the kernel's rules. Until
 * connection sync lands these are kept and listed, and nothing is sent.
 */
import { type Address, familyOf } from './address.ts';
import type { SyncDaemon, SyncDaemonSettings } from './model.ts';

const defaults = { group: '224.0.0.81', port: 8848, ttl: 1 } as const;

/** A message fills one frame of plain Ethernet unless told otherwise; a backup must be ready for larger interfaces. */
const etherMtu = 1500;
const shortestBackupMessage = 1024;

export function runningDaemon(settings: SyncDaemonSettings, interfaceMtu: number): SyncDaemon {
  const group = settings.group ?? defaults.group;
  const headers = headerLength(group);
  const backup = settings.role === 'backup';
  const mtu = backup ? clamp(interfaceMtu, etherMtu, 65535) : etherMtu;
  return {
    role: settings.role,
    interfaceName: settings.interfaceName,
    syncId: settings.syncId,
    maximumLength: settings.maximumLength
      ? clamp(settings.maximumLength, backup ? shortestBackupMessage : 1, 65535 - headers)
      : mtu - headers,
    group,
    port: settings.port || defaults.port,
    ttl: settings.ttl || defaults.ttl,
  };
}

/** IP and UDP. */
function headerLength(group: Address): number {
  return (familyOf(group) === 'ipv6' ? 40 : 20) + 8;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
