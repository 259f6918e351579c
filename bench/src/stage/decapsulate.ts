/**
 * A real server behind a tunnel takes the outer header off. Linux does that with an ipip interface; a kernel without one (such as
 * small virtual machines have) gets this program on the interface instead.
 */
import {
  adjustRoom,
  array,
  BPF_ADJ_ROOM_MAC,
  BPF_F_ADJ_ROOM_FIXED_GSO,
  htons,
  struct,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  tcProgram,
  u8,
} from '@ipvsd/bpf';

const Ipv4 = struct('ipv4', { start: array(u8, 9), protocol: u8, rest: array(u8, 10) });
const ETHERNET = 14;
const ETH_P_IP = htons(0x0800);
const IPPROTO_IPIP = 4;
const OUTER_BYTES = 20;

export const program = tcProgram('decapsulate', (skb) => {
  if (skb.protocol !== ETH_P_IP) return TC_ACT_UNSPEC;
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null || ip.protocol !== IPPROTO_IPIP) return TC_ACT_UNSPEC;
  if (adjustRoom(skb, -OUTER_BYTES, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) !== 0) return TC_ACT_SHOT;
  return TC_ACT_UNSPEC;
});
