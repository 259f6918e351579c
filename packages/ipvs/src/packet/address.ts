/**
 * Addresses. What lasts (services, real servers, connections) holds both families in 16 bytes: an IPv4 address is the first
 * word and zeros, and the family stands beside it. Only packet headers and flow keys have each family's own size.
 */
import { be32, raw, struct, u32, type ViewOf } from '@ipvsd/bpf';

export const Address4 = struct('address4', { a: be32 });
export const Address6 = struct('address6', { a: be32, b: be32, c: be32, d: be32 });

export type Address4 = ViewOf<typeof Address4>;
export type Address6 = ViewOf<typeof Address6>;

/** All words at once: a branch for each would be one more case for the verifier. */
export const isSame = (one: Address6, other: Address6): boolean =>
  u32(
    (raw(one.a) ^ raw(other.a)) |
      (raw(one.b) ^ raw(other.b)) |
      (raw(one.c) ^ raw(other.c)) |
      (raw(one.d) ^ raw(other.d)),
  ) === 0;

/** Numbers of the address families, as the kernel's sockets have them. */
export const AF_INET = 2;
export const AF_INET6 = 10;

export const isSameAddress = (a: Address6, b: Address6): boolean =>
  a.a === b.a && a.b === b.b && a.c === b.c && a.d === b.d;
