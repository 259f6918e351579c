/** The program on each interface of the director, on packets as they arrive, and the stages of a packet that opens a connection. */
import { tcProgram } from '@ipvsd/bpf';
import { connect } from '../connect.ts';
import { byFamily, director } from '../director.ts';
import { firstPacket } from '../first-packet.ts';
import { CONNECT, FIRST_PACKET, stages } from '../stages.ts';

export const ingress = tcProgram('ipvsd_ingress', (skb) => director(skb));
export const first = stages.set(
  FIRST_PACKET,
  tcProgram('ipvsd_first', (skb) => byFamily(skb, firstPacket)),
);
export const connecting = stages.set(
  CONNECT,
  tcProgram('ipvsd_connect', (skb) => byFamily(skb, connect)),
);
