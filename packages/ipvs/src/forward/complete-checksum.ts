/**
 * A checksum that was left to the network card, made before the packet is split: a card would sum up one piece of it. Such a one holds
 * the pseudo header's sum until then; what only looks like it is made anew, and becomes what it was.
 */
import { be16, htons, raw, rawBe16, type Skb, struct, u32 } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { ETHERNET, IPPROTO_TCP, IPPROTO_UDP, MAX_OFFSET } from '../packet/headers.ts';
import { finishSum, sumOf } from '../packet/sum.ts';

const Checksum = struct('transport_sum', { value: be16 });
const OF_TCP = 16;
const OF_UDP = 6;

/** @subprog */
export function completeChecksum(skb: Skb, family: Family, transport: u32, protocol: u32): void {
  const from = transport & MAX_OFFSET;
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null || family.isFragmented(ip) || (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP)) return;
  const at = from + (protocol === IPPROTO_TCP ? OF_TCP : OF_UDP);
  const end = family.length(ip) + ETHERNET;
  const length: u32 = end > from ? u32(end - from) & 0xffff : 0;
  const pseudo = family.sum(ip) + raw(htons(protocol)) + raw(htons(length));
  const left = skb.header(Checksum, at);
  if (left === null || raw(left.value) !== 0xffff - finishSum(pseudo)) return;
  left.value = htons(0);
  const sum = finishSum(pseudo + sumOf(skb, from, length)) & 0xffff;
  const made = skb.header(Checksum, at);
  if (made !== null) made.value = rawBe16(sum === 0 && protocol === IPPROTO_UDP ? 0xffff : sum);
}
