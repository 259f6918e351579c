/** Which helper connections get: by the port of their virtual service, as an operator has set it. */
import { be16, hashMap, stack, struct, u8, u32 } from '@ipvsd/bpf';

export const HelpedPort = struct('helped_port', { port: be16, protocol: u8, reserved: u8 });
export const HelperNumber = struct('helper_number', { helper: u32 });
export const helpedPorts = hashMap('helped_ports', HelpedPort, HelperNumber, { maxEntries: 64 });

/** The number of the helper for connections to that port, or 0. */
export function helperOf(protocol: u8, port: be16): u32 {
  const key = stack(HelpedPort, { port, protocol });
  const found = helpedPorts.lookup(key);
  return found === null ? 0 : found.helper;
}
