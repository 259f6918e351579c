/** The programs on a real server's interfaces: a collection of their own, as a real server needs none of a director's tables. */
import { TC_ACT_UNSPEC, tcProgram } from '@ipvsd/bpf';
import { byFamily, PACKET_HOST } from '../director.ts';
import { clamp } from '../real-server/clamp.ts';
import { decapsulate } from '../real-server/decapsulate.ts';

export const decapsulating = tcProgram('ipvsd_decap', (skb) =>
  skb.pktType === PACKET_HOST ? byFamily(skb, decapsulate) : TC_ACT_UNSPEC,
);
export const clamping = tcProgram('ipvsd_clamp', (skb) => byFamily(skb, clamp));
