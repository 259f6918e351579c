// Counts packets and bytes by IP protocol. Passes everything.
import { array, arrayMap, atomicAdd, be16, be32, htons, struct, TC_ACT_UNSPEC, tcProgram, u8, u64 } from '@ipvsd/bpf';

const Ipv4 = struct('ipv4', { start: array(u8, 9), protocol: u8, checksum: be16, source: be32, destination: be32 });
const Count = struct('count', { packets: u64, bytes: u64 });

export const counts = arrayMap('counts', Count, { maxEntries: 256 });

export const program = tcProgram('count', (skb) => {
  if (skb.protocol !== htons(0x0800)) return TC_ACT_UNSPEC;
  // A view, or null where the packet is shorter; TypeScript makes you ask.
  const ip = skb.header(Ipv4, 14);
  if (ip === null) return TC_ACT_UNSPEC;
  const count = counts.at(ip.protocol);
  if (count === null) return TC_ACT_UNSPEC;
  atomicAdd(count, 'packets', 1n);
  atomicAdd(count, 'bytes', u64(skb.len));
  return TC_ACT_UNSPEC;
});
