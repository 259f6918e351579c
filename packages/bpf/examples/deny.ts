// Drops UDP to the ports that user space put into a map, and counts each drop.
import {
  array,
  atomicAdd,
  be16,
  hashMap,
  htons,
  stack,
  struct,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  tcProgram,
  u8,
  u16,
  u64,
} from '@ipvsd/bpf';

const Ipv4 = struct('ipv4', { versionAndLength: u8, start: array(u8, 8), protocol: u8, rest: array(u8, 10) });
const Udp = struct('udp', { source: be16, destination: be16, length: u16, checksum: u16 });
const Port = struct('port', { number: be16 });
const Drops = struct('drops', { packets: u64 });

export const denied = hashMap('denied', Port, Drops, { maxEntries: 1024 });

// Functions are inlined: this is a two-byte key on the stack.
const stackPort = (number: be16) => stack(Port, { number });

const ETHERNET = 14;
const UDP = 17;

export const program = tcProgram('deny', (skb) => {
  if (skb.protocol !== htons(0x0800)) return TC_ACT_UNSPEC;
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null || ip.protocol !== UDP) return TC_ACT_UNSPEC;
  const udp = skb.header(Udp, ETHERNET + (ip.versionAndLength & 15) * 4);
  if (udp === null) return TC_ACT_UNSPEC;
  const drops = denied.lookup(stackPort(udp.destination));
  if (drops === null) return TC_ACT_UNSPEC;
  atomicAdd(drops, 'packets', 1n);
  return TC_ACT_SHOT;
});
