/** The program on each interface of the director, on packets as they arrive, and the stages of a packet that opens a connection. */
import { tcProgram } from '@ipvsd/bpf';
import { altered } from '../altered.ts';
import { call } from '../call.ts';
import { connect } from '../connect.ts';
import { byFamily, director } from '../director.ts';
import { echo } from '../echo.ts';
import { askEngine, firstPacket } from '../first-packet.ts';
import { answer } from '../forward/answer.ts';
import { fullnat } from '../forward/fullnat.ts';
import { handshake } from '../forward/handshake.ts';
import { nat64 } from '../forward/nat64.ts';
import { nat64Error } from '../forward/nat64-error.ts';
import { split } from '../forward/split.ts';
import { tell } from '../forward/tell.ts';
import { tellDatagram } from '../forward/tell-datagram.ts';
import { tunnel } from '../forward/tunnel.ts';
import { firstFragment, fragment, laterFragment, releasing } from '../fragment.ts';
import { masquerade } from '../masquerade.ts';
import { orphan } from '../orphan.ts';
import { outgoing } from '../outgoing.ts';
import { ownTunnel } from '../own-tunnel.ts';
import { related } from '../related.ts';
import {
  ANSWER,
  CALL,
  CONNECT,
  ECHO,
  ENGINE,
  FIRST_FRAGMENT,
  FIRST_PACKET,
  FRAGMENT,
  FULLNAT,
  HANDSHAKE,
  helpers,
  LATER_FRAGMENT,
  MASQUERADE,
  NAT64,
  NAT64_ERROR,
  ORPHAN,
  OUTGOING,
  OWN_TUNNEL,
  RELATED,
  RELEASE,
  SPLIT,
  stages,
  TELL,
  TELL_DATAGRAM,
  TUNNEL,
  UNRELATED,
} from '../stages.ts';
import { unrelated } from '../unrelated.ts';

export const ingress = tcProgram('ipvsd_ingress', (skb) => director(skb));
export const first = stages.set(
  FIRST_PACKET,
  tcProgram('ipvsd_first', (skb) => byFamily(skb, firstPacket)),
);
export const enginePersistence = stages.set(
  ENGINE,
  tcProgram('ipvsd_engine', (skb) => byFamily(skb, askEngine)),
);
export const connecting = stages.set(
  CONNECT,
  tcProgram('ipvsd_connect', (skb) => byFamily(skb, connect)),
);
export const answering = stages.set(
  ANSWER,
  tcProgram('ipvsd_answer', (skb) => byFamily(skb, answer)),
);
export const tunnelling = stages.set(
  TUNNEL,
  tcProgram('ipvsd_tunnel', (skb) => byFamily(skb, tunnel)),
);
export const relating = stages.set(
  RELATED,
  tcProgram('ipvsd_related', (skb) => byFamily(skb, related)),
);
export const ownTunnels = stages.set(
  OWN_TUNNEL,
  tcProgram('ipvsd_owntunnel', (skb) => ownTunnel(skb)),
);
export const unrelating = stages.set(
  UNRELATED,
  tcProgram('ipvsd_unrelated', (skb) => byFamily(skb, unrelated)),
);
export const orphaning = stages.set(
  ORPHAN,
  tcProgram('ipvsd_orphan', (skb) => byFamily(skb, orphan)),
);
export const outgoings = stages.set(
  OUTGOING,
  tcProgram('ipvsd_outgoing', (skb) => byFamily(skb, outgoing)),
);
export const fragments = stages.set(
  FRAGMENT,
  tcProgram('ipvsd_fragment', (skb) => byFamily(skb, fragment)),
);
export const firstFragments = stages.set(
  FIRST_FRAGMENT,
  tcProgram('ipvsd_1stfragm', (skb) => byFamily(skb, firstFragment)),
);
export const fullnatting = stages.set(
  FULLNAT,
  tcProgram('ipvsd_fullnat', (skb) => byFamily(skb, fullnat)),
);
export const laterFragments = stages.set(
  LATER_FRAGMENT,
  tcProgram('ipvsd_laterfrag', (skb) => byFamily(skb, laterFragment)),
);
export const release = stages.set(
  RELEASE,
  tcProgram('ipvsd_release', (skb) => byFamily(skb, releasing)),
);
export const splitting = stages.set(
  SPLIT,
  tcProgram('ipvsd_split', (skb) => byFamily(skb, split)),
);
export const altering = helpers.set(
  0,
  tcProgram('ipvsd_altered', (skb) => byFamily(skb, altered)),
);
export const masquerading = stages.set(
  MASQUERADE,
  tcProgram('ipvsd_masq', (skb) => byFamily(skb, masquerade)),
);
export const echoing = stages.set(
  ECHO,
  tcProgram('ipvsd_echo', (skb) => byFamily(skb, echo)),
);
export const calling = stages.set(
  CALL,
  tcProgram('ipvsd_call', (skb) => byFamily(skb, call)),
);
export const translating = stages.set(
  NAT64,
  tcProgram('ipvsd_nat64', (skb) => byFamily(skb, nat64)),
);
export const translatingErrors = stages.set(
  NAT64_ERROR,
  tcProgram('ipvsd_nat64err', (skb) => byFamily(skb, nat64Error)),
);
export const telling = stages.set(
  TELL,
  tcProgram('ipvsd_tell', (skb) => byFamily(skb, tell)),
);
export const shaking = stages.set(
  HANDSHAKE,
  tcProgram('ipvsd_handshake', (skb) => byFamily(skb, handshake)),
);
export const tellingDatagrams = stages.set(
  TELL_DATAGRAM,
  tcProgram('ipvsd_telldgram', (skb) => byFamily(skb, tellDatagram)),
);
