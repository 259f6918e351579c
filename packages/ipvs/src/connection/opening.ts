/** What the first packet of a connection says, and the answers to it that are no numbers of connections. */
import { be16, percpuArray, type Skb, struct, u8, u32, type ViewOf } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { Address6 } from '../packet/address.ts';
import { ETHERNET, FRAGMENT6, Fragment6, IPPROTO_FRAGMENT, Ports } from '../packet/headers.ts';
import { Service } from '../service/service.ts';

export const Opening = struct('opening', {
  client: Address6,
  virtual: Address6,
  clientPort: be16,
  virtualPort: be16,
  protocol: u8,
  family: u8,
  /** Number of the persistence engine that the template is of; 0: none. */
  engine: u8,
  reserved: u8,
  mark: u32,
});
export type Opening = ViewOf<typeof Opening>;

/**
 * Each CPU's own, as a packet is handled from end to end by one: the packet's, and the key of its template. Not on the stack:
 * it is small, and the verifier would follow every way in which they can be filled.
 */
export const openings = percpuArray('openings', Opening, { maxEntries: 2 });
export const OF_PACKET = 0;
export const OF_ITS_TEMPLATE = 1;

/** Writes what the packet says of itself, but for its mark; gives where its transport header lies, or 0 where it ends before. */
export function readOpening(skb: Skb, family: Family, opening: Opening): u32 {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return 0;
  let transport: u32 = family.transport(ip);
  let protocol: u8 = ip.protocol;
  if (protocol === IPPROTO_FRAGMENT) {
    const extension = skb.header(Fragment6, transport);
    if (extension === null) return 0;
    protocol = extension.next;
    transport = transport + FRAGMENT6;
  }
  const ports = skb.header(Ports, transport);
  if (ports === null) return 0;
  opening.clientPort = ports.sourcePort;
  opening.virtualPort = ports.destinationPort;
  opening.protocol = protocol;
  opening.family = family.number;
  family.widen(opening.client, ip.source);
  family.widen(opening.virtual, ip.destination);
  return transport;
}

/** What is to become of it, from stage to stage. */
export const Plan = struct('plan', {
  /** As it was when the packet came. */
  service: Service,
  /** Number of its valid template, or NONE. */
  template: u32,
  /** Number of its real server, or NONE. */
  chosen: u32,
  /** Number of the finished connection whose ports its client uses anew, or NONE (connection/reuse.ts). */
  finished: u32,
});
export type Plan = ViewOf<typeof Plan>;

const plans = percpuArray('plans', Plan, { maxEntries: 1 });

/** This CPU's plan; null never happens, but the verifier asks. */
export const planOf = (): Plan | null => plans.at(0);

/** Where a first packet is met: `finished` is the connection that its client has done with, or NONE. */
export function beginPlan(finished: u32): void {
  const plan = planOf();
  if (plan !== null) plan.finished = finished;
}

/** No real server may have it. */
export const NO_SERVER = 0xffff_fff1;
/** There is no room for the entry. */
export const TABLE_FULL = 0xffff_fff2;
/** FULLNAT: the service has no local address; all local ports towards the real server are taken. */
export const NO_LOCAL_ADDRESS = 0xffff_fff3;
export const NO_LOCAL_PORT = 0xffff_fff4;
/** Greater numbers are answers. */
export const LAST_CONNECTION = 0xffff_ffef;
