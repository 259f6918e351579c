/** The ways into the stage that splits what is too long (split.ts). */
import { type Skb, tailCall, type u32, type ViewOf } from '@ipvsd/bpf';
import { because, REASONS } from '../counters.ts';
import type { Family } from '../family.ts';
import { LONGEST } from '../frame-store.ts';
import { AF_INET } from '../packet/address.ts';
import { IPPROTO_SCTP, type Ipv4 } from '../packet/headers.ts';
import { errandOf, SPLIT, stages } from '../stages.ts';
import { completeChecksum } from './complete-checksum.ts';

/** A packet, or a piece that came in once more: `towards` and `number` as in followed.ts. */
export function sendPiece(skb: Skb, towards: u32, number: u32): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  errand.direction = towards;
  errand.server = number;
  return tailCall(skb, stages, SPLIT);
}

/** A packet that need not be a fragment yet: a card must not sum up pieces of it. */
export function splitWhole(skb: Skb, family: Family, transport: u32, protocol: u32, towards: u32, number: u32): number {
  completeChecksum(skb, family, transport, protocol);
  return sendPiece(skb, towards, number);
}

/** A router may split it, and we can. SCTP's sum over all of it may be left to the network card, which would sum up pieces. */
export const maySplit = (skb: Skb, family: Family, ip: ViewOf<typeof Ipv4>): boolean =>
  family.number === AF_INET &&
  !family.isWhole(ip) &&
  ip.protocol !== IPPROTO_SCTP &&
  skb.gsoSize === 0 &&
  skb.len <= LONGEST;
