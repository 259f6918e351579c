/** Which helper connections get: by the port of their virtual service, as an operator has set it. */
import { be16, hashMap, ntohs, stack, struct, u8, u32 } from '@ipvsd/bpf';
import { settings } from '../settings.ts';

export const HelpedPort = struct('helped_port', { port: be16, protocol: u8, reserved: u8 });
export const HelperNumber = struct('helper_number', { helper: u32 });
export const helpedPorts = hashMap('helped_ports', HelpedPort, HelperNumber, { maxEntries: 64 });

/** Bits of `settings.helped`, by the lowest five of a port: most ports are known by them to be of no helper. */
export const helpedBits = (ports: readonly number[]): number =>
  ports.reduce((bits, port) => (bits | (1 << (port & 31))) >>> 0, 0);

/** The number of the helper for connections to that port, or 0. */
export function helperOf(protocol: u8, port: be16): u32 {
  if (((settings.only.helped >>> (ntohs(port) & 31)) & 1) === 0) return 0;
  const key = stack(HelpedPort, { port, protocol });
  const found = helpedPorts.lookup(key);
  return found === null ? 0 : found.helper;
}
