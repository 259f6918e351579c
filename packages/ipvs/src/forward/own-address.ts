/**
 * The director's own address on each interface, for kernels that do not say from which address they would send (before 6.7).
 * User space keeps `own_addresses` up to date whenever it attaches to interfaces.
 */
import { assign, hashMap, stack, struct, u32 } from '@ipvsd/bpf';
import { Address6 } from '../packet/address.ts';

export const OwnAddressKey = struct('own_addr_key', { ifindex: u32, family: u32 });
export const OwnAddress = struct('own_addr', { address: Address6 });
export const ownAddresses = hashMap('own_addresses', OwnAddressKey, OwnAddress, { maxEntries: 8192 });

/** False where it has none. */
export function ownAddressOn(ifindex: u32, family: u32, into: Address6): boolean {
  const own = ownAddresses.lookup(stack(OwnAddressKey, { ifindex, family }));
  if (own === null) return false;
  assign(into, own.address);
  return true;
}
