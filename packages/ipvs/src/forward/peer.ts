/**
 * Local peers: the next hop lies behind a veth pair, in another network namespace of this machine (a container, say). The
 * packet is received there at once, with no queue and no driver between: 1.5 of the 5 us that a director costs a connection.
 *
 * Which interfaces these are only user space can tell: it keeps `peers` up to date whenever it attaches to interfaces.
 */
import {
  be32,
  type FibLookup,
  hashMap,
  rawBe32,
  redirectPeer,
  type Skb,
  stack,
  struct,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { because, REASONS } from '../counters.ts';
import type { Route } from '../service/service.ts';
import { settings } from '../settings.ts';

export const PeerKey = struct('peer_key', { ifindex: u32 });
export const Peer = struct('peer', { reserved: u32 });
export const peers = hashMap('peers', PeerKey, Peer, { maxEntries: 4096 });

/** The addresses of a frame: destination and source, six bytes each. */
const LinkAddresses = struct('link_addresses', { a: be32, b: be32, c: be32 });

/** Whether the other end of the interface is in another network namespace of this machine. */
export function isPeer(ifindex: u32): boolean {
  if (settings.only.localPeers === 0) return false;
  return peers.lookup(stack(PeerKey, { ifindex })) !== null;
}

/** A peer is given frames as they are, so the route keeps what redirect_neigh would have filled in. */
export function keepLinkAddresses(route: Route, answer: ViewOf<typeof FibLookup>): void {
  const { hop } = route;
  hop.a = rawBe32(u32(answer.destinationMac.get(0) | (answer.destinationMac.get(1) << 16)));
  hop.b = rawBe32(u32(answer.destinationMac.get(2) | (answer.sourceMac.get(0) << 16)));
  hop.c = rawBe32(u32(answer.sourceMac.get(1) | (answer.sourceMac.get(2) << 16)));
}

export function sendToPeer(skb: Skb, route: Route): number {
  const link = skb.header(LinkAddresses, 0);
  if (link === null) return because(REASONS.truncated);
  link.a = route.hop.a;
  link.b = route.hop.b;
  link.c = route.hop.c;
  // A mark is of this namespace: the kernel takes it off where a packet goes through the pair, and not here.
  if (skb.mark !== 0) skb.mark = 0;
  return redirectPeer(route.ifindex, 0);
}
