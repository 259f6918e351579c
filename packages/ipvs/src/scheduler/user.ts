/**
 * What a scheduler of an operator's own is written with: `import { ... } from 'ipvsd/scheduler'`, wherever the file lies.
 *
 * `scheduler(name, choose)` makes the program that `ipvsd scheduler add` compiles. It stands between the choice and the packet:
 * a real server that is quiesced, overloaded, in the trash or another service's is never taken, whatever was chosen.
 */
import { ntohl, ntohs, raw, type Skb, type TcProgram, tailCall, tcProgram, u32 } from '@ipvsd/bpf';
import { OF_PACKET, type Opening, openings, planOf } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { NONE, type Service, type ServiceState, type Standing, serviceStates } from '../service/service.ts';
import { CONNECT, stages } from '../stages.ts';
import { fo } from './fo.ts';
import { lc } from './lc.ts';
import { ll } from './ll.ts';
import { nq } from './nq.ts';
import { memberNumber, type Scheduler } from './scheduler.ts';
import { sed } from './sed.ts';
import { takesConnections } from './table.ts';
import { wlc } from './wlc.ts';

export * from '@ipvsd/bpf';
export { IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../packet/headers.ts';
export { eachServer, isEligible, isOverloaded, memberAt, memberNumber, overhead } from './scheduler.ts';
export { NONE, type Service, type ServiceState, type Standing };

/** The packet that asks. */
export type Asking = Opening;

/** The number of the chosen real server, or NONE: the client is told that there is none. */
export type Choose = (service: Service, asking: Asking, state: ServiceState) => u32;

export interface UserScheduler extends TcProgram {
  /** As `ipvsadm -s` names it. */
  readonly scheduler: string;
}

/** Export this: `export default scheduler('mine', (service, asking, state) => ...)`. */
export function scheduler(name: string, choose: Choose): UserScheduler {
  if (!/^[A-Za-z0-9_]{1,15}$/.test(name)) {
    throw new RangeError(`Cannot name a scheduler "${name}": a name has 1 to 15 letters, digits and underscores`);
  }
  const program = tcProgram(name, (skb) => go(skb, choose));
  return { ...program, scheduler: name };
}

function go(skb: Skb, choose: Choose): number {
  const plan = planOf();
  const opening = openings.at(OF_PACKET);
  if (plan === null || opening === null) return because(REASONS.corrupt);
  const state = serviceStates.at(plan.service.index);
  if (state === null) return because(REASONS.corrupt);
  const chosen = u32(choose(plan.service, opening, state));
  plan.chosen = takesConnections(plan.service, chosen) ? chosen : NONE;
  return tailCall(skb, stages, CONNECT);
}

/** The real server that was added first, or NONE where it takes no connections. */
export function oldest(service: Service): u32 {
  const count: u32 = service.count;
  if (count === 0) return NONE;
  const number = memberNumber(service, u32(count - 1));
  return takesConnections(service, number) ? number : NONE;
}

/** What the scheduler of that name would choose; `leastLoad` is ours. */
const like = (built: Scheduler) => (service: Service, asking: Asking, state: ServiceState) =>
  built.schedule(service, state, asking);
export const leastConnections = like(lc);
export const weightedLeastConnections = like(wlc);
export const shortestExpectedDelay = like(sed);
export const neverQueue = like(nq);
export const failOver = like(fo);
export const leastLoad = like(ll);

/** An IPv4 network, made at build time. */
export interface Network {
  readonly address: u32;
  readonly mask: u32;
}

/** `network('10.1.0.0/16')`, at module scope. */
export function network(text: string): Network {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text);
  const numbers = (match ?? []).slice(1).map(Number);
  const [a = 256, b = 256, c = 256, d = 256, bits = 33] = numbers;
  if (Math.max(a, b, c, d) > 255 || bits > 32) {
    throw new RangeError(`Cannot read network "${text}": it must be an IPv4 prefix such as 10.1.0.0/16`);
  }
  const mask = bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0;
  const address = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
  return { address: (address & mask) >>> 0, mask };
}

/** Whether the client's address is of the network. */
export const isClientOf = (asking: Asking, { address, mask }: Network): boolean =>
  asking.family === AF_INET && u32(ntohl(asking.client.a) & mask) === address;

/** The client's address as one number, for hashing: IPv4 in host order, IPv6 its four words xor-ed. */
export const clientNumber = ({ client }: Asking): u32 => fold(client);
const fold = ({ a, b, c, d }: Address6): u32 => u32(raw(a) ^ raw(b) ^ raw(c) ^ raw(d));

export const clientPort = (asking: Asking): u32 => ntohs(asking.clientPort);
export const virtualPort = (asking: Asking): u32 => ntohs(asking.virtualPort);
