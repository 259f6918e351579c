/**
 * Packets that came to this host in a tunnel (ignore_tunneled): what was let out of one that a director has sent, as to a real
 * server on this very host, is not to be balanced a second time.
 *
 * They arrive on the tunnel's own interface. Which interfaces these are user space keeps up to date whenever it attaches to
 * interfaces; tunnels over UDP, AH and ESP are not among them, as the kernel's IPVS takes those for balanced protocols.
 */
import { hashMap, type Skb, stack, struct, u32 } from '@ipvsd/bpf';
import { settings } from './settings.ts';

export const TunnelLinkKey = struct('tunnel_link_key', { ifindex: u32 });
export const TunnelLink = struct('tunnel_link', { reserved: u32 });
export const tunnelLinks = hashMap('tunnel_links', TunnelLinkKey, TunnelLink, { maxEntries: 4096 });

/** Kinds of interfaces, as rtnetlink names them. */
export const TUNNEL_KINDS: readonly string[] = ['ipip', 'sit', 'ip6tnl', 'gre', 'ip6gre', 'gretap', 'ip6gretap'];

export function wasTunneled(skb: Skb): boolean {
  if (settings.only.ignoreTunneled === 0) return false;
  return tunnelLinks.lookup(stack(TunnelLinkKey, { ifindex: skb.ingressIfindex })) !== null;
}
