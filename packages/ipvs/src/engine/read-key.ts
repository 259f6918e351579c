/** What the persistence engine asks of a packet, read into this CPU's key; false where the packet does not say it. */
import { type Skb, type u8, u32 } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { ETHERNET, FRAGMENT6, Fragment6, IPPROTO_FRAGMENT, IPPROTO_UDP } from '../packet/headers.ts';
import { readCallId } from './call-id.ts';
import { beginKey, engineKeyOf } from './engine.ts';

/** Bytes of a UDP header. */
const UDP = 8;

/** Of `sip`: over UDP, and not from an error that quotes such a packet (schedule_icmp), which seldom quotes so much. */
export function readKey(skb: Skb, family: Family): boolean {
  const ip = skb.header(family.Header, ETHERNET);
  const key = engineKeyOf();
  if (ip === null || key === null) return false;
  beginKey(key);
  let payload: u32 = family.transport(ip) + UDP;
  let protocol: u8 = ip.protocol;
  if (protocol === IPPROTO_FRAGMENT) {
    const extension = skb.header(Fragment6, ETHERNET + 40);
    if (extension === null) return false;
    protocol = extension.next;
    payload = payload + FRAGMENT6;
  }
  if (protocol !== IPPROTO_UDP) return false;
  const said = family.length(ip) + ETHERNET;
  const end: u32 = said < skb.len ? said : skb.len;
  return end > payload && readCallId(skb, payload, u32(end - payload), key);
}
