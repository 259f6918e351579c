/**
 * Where a packet goes on by tail call: each stage is a program with a stack of its own, verified by itself.
 *
 * `schedulers` and `helpers` have one program for each, at its number: one can be added or exchanged with no other touched.
 */
import { be32, percpuArray, programTable, struct, u8, u32, type ViewOf } from '@ipvsd/bpf';

export const FIRST_PACKET = 0;
export const CONNECT = 1;
/** An ICMP error is made of the packet (forward/answer.ts). */
export const ANSWER = 2;
export const TUNNEL = 3;
/** ICMP errors: about a connection, about our own tunnels, about what may become a connection. */
export const RELATED = 4;
export const OWN_TUNNEL = 5;
export const UNRELATED = 6;
export const ORPHAN = 7;
export const FRAGMENT = 8;
export const FIRST_FRAGMENT = 9;
/** Both ends of the packet are rewritten (forward/fullnat.ts). */
export const FULLNAT = 10;
export const ENGINE = 11;
export const OUTGOING = 12;
/** Packets of hosts behind the director to the outside: what opens a connection, and echo, which has no ports. */
export const MASQUERADE = 13;
export const ECHO = 14;
/** Segments under FULLNAT that tell real servers of their clients, and the first ones (forward/tell.ts). */
export const TELL = 15;

export const LATER_FRAGMENT = 16;
/** A fragment for which others have waited. */
export const RELEASE = 17;
/** What is too long in a tunnel. */
export const SPLIT = 18;
/** GRE (call.ts). */
export const CALL = 19;
/** Both ends of the packet are rewritten, and its family is another (forward/nat64.ts); ICMP errors about such a connection. */
export const NAT64 = 20;
export const NAT64_ERROR = 21;
/** Handshakes whose segments are limited (forward/handshake.ts). */
export const HANDSHAKE = 24;
/** Datagrams under FULLNAT that tell real servers of their clients (forward/tell-datagram.ts). */
export const TELL_DATAGRAM = 25;

/** What a stage is told by the one before. Each CPU's own, as a packet is handled from end to end by one. */
export const Errand = struct('errand', {
  /** TUNNEL: number of the real server. */
  server: u32,
  /** ANSWER: type, code and the four bytes behind the checksum. */
  rest: be32,
  type: u8,
  code: u8,
  /** 1: from the director's own address, not from the packet's destination. */
  own: u8,
  /** MASQUERADE: 1 where the packet may open a connection. */
  opens: u8,
  /** FULLNAT and `helpers`: number of the connection, which way the packet goes, and where its transport header lies. */
  connection: u32,
  direction: u32,
  transport: u32,
  /** Number plus one of the entry that ends with this packet (one-packet scheduling); 0: none does. */
  once: u32,
});
export type Errand = ViewOf<typeof Errand>;
const errands = percpuArray('errands', Errand, { maxEntries: 1 });

/** This CPU's errand; null never happens, but the verifier asks. */
export const errandOf = (): Errand | null => errands.at(0);

export const stages = programTable('stages', { maxEntries: 32 });
export const schedulers = programTable('schedulers', { maxEntries: 64 });
/** Packets of connections that are not only readdressed: at 0 altered.ts, then a program for each helper (helper/helper.ts). */
export const helpers = programTable('helpers', { maxEntries: 8 });
