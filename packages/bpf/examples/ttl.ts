// One source for two families: sets the time to live (IPv4, with its checksum mended) or hop limit (IPv6) of every packet.
// `family` is a build-time argument, so the program holds two copies, each with its own offsets and without a test.
import { array, be16, htons, l3CsumReplace, type Skb, struct, TC_ACT_UNSPEC, tcProgram, u8 } from '@ipvsd/bpf';

const Ipv4 = struct('ipv4', { start: array(u8, 8), hops: u8, protocol: u8, checksum: be16 });
const Ipv6 = struct('ipv6', { start: array(u8, 7), hops: u8 });

const IPV4 = { Header: Ipv4, checksum: 14 + 10 };
const IPV6 = { Header: Ipv6, checksum: 0 } as unknown as typeof IPV4;

const HOPS = 33;

function limit(skb: Skb, family: typeof IPV4): void {
  const ip = skb.header(family.Header, 14);
  if (ip === null) return;
  const old = ip.hops;
  ip.hops = HOPS;
  // The 16-bit word that holds the byte changes by as much; the other byte of the word cancels out.
  if (family.checksum !== 0) l3CsumReplace(skb, family.checksum, old, HOPS, 2);
}

export const program = tcProgram('ttl', (skb) => {
  if (skb.protocol === htons(0x0800)) limit(skb, IPV4);
  if (skb.protocol === htons(0x86dd)) limit(skb, IPV6);
  return TC_ACT_UNSPEC;
});
