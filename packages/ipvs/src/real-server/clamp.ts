/**
 * A real server's answer to a SYN does not pass the director, so only here can a client be told to send what still fits with an
 * outer header before it.
 */
import { type Skb, stack, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { clampSegmentSize } from '../forward/segment-size.ts';
import { ETHERNET, IPPROTO_TCP } from '../packet/headers.ts';
import { VipKey, vips } from './vips.ts';

export function clamp(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null || ip.protocol !== IPPROTO_TCP || family.isFragmented(ip)) return TC_ACT_UNSPEC;
  const key = stack(VipKey, { family: family.number });
  family.widen(key.address, ip.source);
  const vip = vips.lookup(key);
  if (vip === null || vip.segmentSize === 0) return TC_ACT_UNSPEC;
  clampSegmentSize(skb, family.transport(ip), vip.segmentSize);
  return TC_ACT_UNSPEC;
}
