/** What an operator wants of a real server: which virtual addresses it answers for, and how their packets come. */
import { type Address, type Family, familyOf } from '@ipvsd/director';

export type Method = 'dr' | 'tun';
export type Tunnel = 'ipip' | 'gre' | 'gue';
/** Who takes outer headers off: an interface of the kernel's, or our program. */
export type Decapsulation = 'device' | 'program';

export interface Wish {
  readonly vip: Address;
  readonly method: Method;
  /** TUN: how the director sends, as in `ipvsadm --tun-type`. */
  readonly tunnel: Tunnel;
  /** GUE: where to. */
  readonly port: number;
  /** TUN: clients are told to send segments that fit with an outer header: by the interfaces' MTU, as said, or not at all. */
  readonly segmentSize: 'auto' | 'off' | number;
  /** Nothing: the kernel's where it has one. */
  readonly decapsulation?: Decapsulation;
  /** The director's own address, where it is known: replies must not go there, and what comes in a tunnel comes from there. */
  readonly director?: Address;
}

/** The whole address as a prefix. */
export const hostPrefix = (vip: Address): string => `${vip}/${familyOf(vip) === 'ipv4' ? 32 : 128}`;

/** What the outer header takes, by the family of the way to this real server. */
export function overheadOf({ tunnel }: Wish, outer: Family): number {
  const header = outer === 'ipv4' ? 20 : 40;
  if (tunnel === 'gue') return header + 12;
  // With its checksum, which the director may add.
  return tunnel === 'gre' ? header + 8 : header;
}

/** What TCP segments may hold on an interface with this MTU. */
export function segmentSizeFor(wish: Wish, outer: Family, mtu: number): number {
  const inner = familyOf(wish.vip) === 'ipv4' ? 20 : 40;
  return mtu - overheadOf(wish, outer) - inner - 20;
}
