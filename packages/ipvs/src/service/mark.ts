/**
 * Firewall marks: set by other programs before us, or by rules of our own, as nftables and iptables mark packets only after
 * they have passed here.
 *
 * A rule is a protocol, a port and a network of destinations; the most exact one counts: protocol and port, protocol alone,
 * neither; among these the longest prefix.
 */
import { be16, lpmTrie, rawBe16, type Skb, stack, struct, u8, u32 } from '@ipvsd/bpf';
import type { Opening } from '../connection/opening.ts';
import { Address6 } from '../packet/address.ts';
import { settings } from '../settings.ts';

/** `prefix` counts bits from `protocol` on; the first 32 always count. Protocol 0 and port 0 stand for any. */
export const MarkKey = struct('mark_key', {
  prefix: u32,
  protocol: u8,
  family: u8,
  port: be16,
  address: Address6,
});
export const Mark = struct('mark', { mark: u32 });

export const MARK_KEY_BITS = 32;
export const marks = lpmTrie('mark_rules', MarkKey, Mark, { maxEntries: 16_384 });

/**
 * The mark of a packet: its own, or that of a rule.
 * @subprog
 */
export function markOf(skb: Skb, opening: Opening): u32 {
  const own = skb.mark;
  if (own !== 0 || settings.only.markRules === 0) return own;
  const key = stack(MarkKey, {
    prefix: MARK_KEY_BITS + 128,
    protocol: opening.protocol,
    family: opening.family,
    port: opening.virtualPort,
  });
  key.address.a = opening.virtual.a;
  key.address.b = opening.virtual.b;
  key.address.c = opening.virtual.c;
  key.address.d = opening.virtual.d;
  const exact = marks.lookup(key);
  if (exact !== null) return exact.mark;
  key.port = rawBe16(0);
  const ofProtocol = marks.lookup(key);
  if (ofProtocol !== null) return ofProtocol.mark;
  key.protocol = 0;
  const any = marks.lookup(key);
  return any === null ? 0 : any.mark;
}
