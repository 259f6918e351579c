/**
 * What a helper is: a module for a protocol whose packets name addresses and ports of further connections. It reads the packets of
 * a control connection, lets the connections that they speak of in (connection/expected.ts), and puts the virtual service's
 * address where the real server wrote its own.
 *
 * Helpers run in the packet path as everything else: nothing has to live for them, and a packet is not held up. Each is a program
 * of its own in the table `helpers`, so a connection without one never meets them. A packet that a helper cannot read goes on as
 * it is, and is counted.
 */
import { ntohl, percpuArray, type Skb, struct, tailCall, u32, type ViewOf } from '@ipvsd/bpf';
import { type Connection, connections } from '../connection/connection.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, REQUEST } from '../family.ts';
import { ETHERNET, IPPROTO_TCP, Tcp, Udp } from '../packet/headers.ts';
import { ESTABLISHED } from '../protocol/tcp.ts';
import { errandOf, helpers } from '../stages.ts';
import { beginReading } from './reading.ts';

export interface Helper {
  /** As in the setting that says which ports it helps: `ftp_ports`. */
  readonly name: string;
  /** 1 to 7, in the flags of the connections that it helps. */
  readonly number: number;
  /** Of the control connection. */
  readonly protocol: number;
  /** What it makes work, as the end of a sentence. */
  readonly helps: string;
  /** Ports of virtual services that are helped unless an operator says otherwise. */
  readonly ports: readonly number[];
  /** A packet of the control connection with payload, which is read next; before it is readdressed. */
  readonly request: (skb: Skb, family: Family, control: Control, c: Connection) => void;
  readonly reply: (skb: Skb, family: Family, control: Control, c: Connection) => void;
}

/** The packet of the control connection. */
export const Control = struct('control', {
  /** Number of the connection. */
  connection: u32,
  /** Offsets of the transport header and of the payload. */
  transport: u32,
  payload: u32,
  /** TCP's sequence number of the payload's first byte. */
  sequence: u32,
});
export type Control = ViewOf<typeof Control>;
const controls = percpuArray('controls', Control, { maxEntries: 1 });

/** The program of a helper: reads the packet, and hands it on. */
export function help(skb: Skb, family: Family, helper: Helper): number {
  const errand = errandOf();
  const control = controls.at(0);
  if (errand === null || control === null) return because(REASONS.corrupt);
  const c = connections.at(errand.connection);
  const ip = skb.header(family.Header, ETHERNET);
  if (c === null || ip === null) return because(REASONS.corrupt);
  const talks = helper.protocol !== IPPROTO_TCP || c.state === ESTABLISHED;
  if (talks && !family.isFragmented(ip) && locate(skb, family, helper, control)) {
    control.connection = errand.connection;
    if (errand.direction === REQUEST) helper.request(skb, family, control, c);
    else helper.reply(skb, family, control, c);
  }
  return tailCall(skb, helpers, 0);
}

/** Finds the payload and begins to read it; false where there is none. */
function locate(skb: Skb, family: Family, helper: Helper, control: Control): boolean {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return false;
  const transport = family.transport(ip);
  const end = u32(family.length(ip) + ETHERNET);
  let length: u32 = Udp.size;
  if (helper.protocol === IPPROTO_TCP) {
    const tcp = skb.header(Tcp, transport);
    if (tcp === null) return false;
    length = (tcp.dataOffset >>> 4) * 4;
    control.sequence = ntohl(tcp.sequence);
  }
  const payload = u32(transport + length);
  // What is segmented later has no text that could be changed as one.
  if (payload >= end || end > skb.len || skb.gsoSize !== 0) return false;
  control.transport = transport;
  control.payload = payload;
  beginReading(payload, end);
  return true;
}
