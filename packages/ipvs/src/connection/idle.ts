/**
 * What a service says of silence: how long its established connections may be silent, and whether both ends of a TCP connection
 * are told with a RST when it goes that way, as otherwise each finds out for itself, hours later.
 *
 * A RST counts only if it bears the very number that its receiver expects next (RFC 5961). Each end says that itself in what it
 * acknowledges; of a real server whose replies take another way it is what the client would send next.
 *
 * A timer of the kernel cannot send, so what is to be told is put in a queue for user space (director/plane/reset-sender.ts).
 * Connections of other services pay one test of a flag.
 */
import {
  ANY,
  assign,
  be16,
  clear,
  hashMap,
  ntohl,
  percpuArray,
  queue,
  type Skb,
  stack,
  struct,
  u8,
  u32,
  u64,
  type ViewOf,
} from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { Address6, AF_INET, AF_INET6 } from '../packet/address.ts';
import { ETHERNET, IPPROTO_TCP, IPPROTO_UDP, Tcp } from '../packet/headers.ts';
import { isEstablished } from '../protocol/index.ts';
import { CLOSE_WAIT, ESTABLISHED, FIN_WAIT } from '../protocol/tcp.ts';
import { IDLE_RESETS, IDLE_SECONDS, METHOD_FULLNAT, type Service } from '../service/service.ts';
import { type Connection, HAS_IDLE_RULE, MAX_CONNECTIONS, METHOD_MASK, NO_OUTPUT, OTHER_FAMILY } from './connection.ts';
import { localEnds } from './local-end.ts';

const IdleKey = struct('idle_key', { connection: u32 });
export const IdleRule = struct('idle_rule', {
  /** Ticks of silence; 0: as the protocol says. */
  timeout: u32,
  /** 1: both ends are told. */
  resets: u32,
  /** The sequence numbers that client and real server expect next, and whether they are known. */
  clientNext: u32,
  serverNext: u32,
  clientKnown: u32,
  serverKnown: u32,
});

/** By the connection's number. */
export const idleRules = hashMap('idle_rules', IdleKey, IdleRule, {
  maxEntries: MAX_CONNECTIONS,
  noPreallocation: true,
});

/** A TCP connection that has gone by silence, with what its ends are to be told. */
export const IdleEnd = struct('idle_end', {
  client: Address6,
  virtual: Address6,
  real: Address6,
  /** Of the director, towards the real server; FULLNAT only. */
  local: Address6,
  clientPort: be16,
  virtualPort: be16,
  realPort: be16,
  localPort: be16,
  family: u8,
  /** Of connection flags: the forwarding method. */
  method: u8,
  /** Of `real` and `local`. */
  realFamily: u8,
  reserved: u8,
  clientNext: u32,
  serverNext: u32,
});
/** The oldest are forgotten where nobody takes them out. */
export const idleEnds = queue('idle_ends', IdleEnd, { maxEntries: 16_384 });

const ends = percpuArray('idle_end', IdleEnd, { maxEntries: 1 });
const EXIST = 2;

/**
 * A new connection takes its service's rule. False where there is no room for it.
 * @subprog
 */
export function beginIdleRule(c: Connection, service: Service): boolean {
  const said = service.idleRule;
  const key = stack(IdleKey, { connection: c.number });
  const rule = stack(IdleRule, {
    timeout: u32((u64(said & IDLE_SECONDS) * 1_000_000_000n) >> 20n),
    resets: said >= IDLE_RESETS ? 1 : 0,
  });
  if (idleRules.update(key, rule, ANY) !== 0) return false;
  c.flags = u32(c.flags | HAS_IDLE_RULE);
  return true;
}

/** @subprog */
export function endIdleRule(c: Connection): void {
  const key = stack(IdleKey, { connection: c.number });
  idleRules.delete(key);
}

/**
 * A packet of the client: how long silence may last from now, and what the two ends expect.
 * @subprog
 */
export function noteRequest(skb: Skb, family: Family, c: Connection, transport: u32): void {
  const rule = ruleOf(c);
  if (rule === null || rule.resets === 0 || c.protocol !== IPPROTO_TCP) return;
  const ip = skb.header(family.Header, ETHERNET);
  const tcp = skb.header(Tcp, transport & 0xfff);
  if (ip === null || tcp === null) return;
  const flags = tcp.flags;
  if ((flags & ACK) !== 0) {
    const next = ntohl(tcp.acknowledgement);
    if (rule.clientKnown === 0 || isLater(next, rule.clientNext)) rule.clientNext = next;
    rule.clientKnown = 1;
  }
  // Who does not hear the real server takes what the client has sent for received.
  if ((c.flags & NO_OUTPUT) === 0) return;
  const header = u32((transport & 0xfff) - ETHERNET + (tcp.dataOffset >>> 4) * 4);
  const whole = family.length(ip);
  const payload = whole > header ? u32(whole - header) : 0;
  const next = u32(ntohl(tcp.sequence) + payload + ((flags & SYN) !== 0 ? 1 : 0) + (flags & FIN));
  if (rule.serverKnown === 0 || isLater(next, rule.serverNext)) rule.serverNext = next;
  rule.serverKnown = 1;
}

/**
 * A packet of the real server: likewise.
 * @subprog
 */
export function noteReply(skb: Skb, c: Connection, transport: u32): void {
  const rule = ruleOf(c);
  if (rule === null || rule.resets === 0 || c.protocol !== IPPROTO_TCP) return;
  const tcp = skb.header(Tcp, transport & 0xfff);
  if (tcp === null || (tcp.flags & ACK) === 0) return;
  const next = ntohl(tcp.acknowledgement);
  if (rule.serverKnown === 0 || isLater(next, rule.serverNext)) rule.serverNext = next;
  rule.serverKnown = 1;
}

const FIN = 1;
const SYN = 2;
const ACK = 16;

/** Sequence numbers go round (RFC 9293 section 3.4). */
const isLater = (a: u32, b: u32): boolean => u32(a - b) < 0x8000_0000;

/** The connection's rule; its timeout counts from the packet that comes now. */
function ruleOf(c: Connection): ViewOf<typeof IdleRule> | null {
  const rule = idleRules.lookup(stack(IdleKey, { connection: c.number }));
  if (rule === null) return null;
  const isOpen = c.protocol === IPPROTO_UDP || isEstablished(c.protocol, c.state);
  if (isOpen && rule.timeout !== 0) c.timeout = rule.timeout;
  return rule;
}

/**
 * It goes by silence: where its ends may still hold it for open, they are told.
 * @subprog
 */
export function announceEnd(c: Connection): void {
  const rule = idleRules.lookup(stack(IdleKey, { connection: c.number }));
  const end = ends.at(0);
  if (rule === null || end === null || c.protocol !== IPPROTO_TCP) return;
  if (rule.resets === 0 || rule.clientKnown === 0 || rule.serverKnown === 0) return;
  if (c.state !== ESTABLISHED && c.state !== FIN_WAIT && c.state !== CLOSE_WAIT) return;
  clear(end);
  assign(end.client, c.client);
  assign(end.virtual, c.virtual);
  assign(end.real, c.real);
  end.clientPort = c.clientPort;
  end.virtualPort = c.virtualPort;
  end.realPort = c.realPort;
  end.family = c.family;
  end.method = u8(c.flags & 7);
  // Tunnels lead into either family, NAT64 into IPv4.
  end.realFamily = (c.flags & OTHER_FAMILY) === 0 ? c.family : u8(AF_INET + AF_INET6 - c.family);
  if ((c.flags & METHOD_MASK) === METHOD_FULLNAT) {
    const own = localEnds.at(c.number);
    if (own === null) return;
    assign(end.local, own.address);
    end.localPort = own.port;
  }
  end.clientNext = rule.clientNext;
  end.serverNext = rule.serverNext;
  idleEnds.push(end, EXIST);
}
