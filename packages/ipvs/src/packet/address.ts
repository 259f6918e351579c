/**
 * Addresses. What lasts (services, real servers, connections) holds both families in 16 bytes: an IPv4 address is the first
 * word and zeros, and the family stands beside it. Only packet headers and flow keys have each family's own size.
 */
import { be32, struct, type ViewOf } from '@ipvsd/bpf';

export const Address4 = struct('address4', { a: be32 });
export const Address6 = struct('address6', { a: be32, b: be32, c: be32, d: be32 });

export type Address4 = ViewOf<typeof Address4>;
export type Address6 = ViewOf<typeof Address6>;

/** Numbers of the address families, as the kernel's sockets have them. */
export const AF_INET = 2;
export const AF_INET6 = 10;

export const isSameAddress = (a: Address6, b: Address6): boolean =>
  a.a === b.a && a.b === b.b && a.c === b.c && a.d === b.d;
