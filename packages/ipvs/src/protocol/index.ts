/** All protocols that are balanced, and what to ask of the one that a packet or a connection has. */
import type { Skb, u32 } from '@ipvsd/bpf';
import { IPPROTO_GRE } from '../packet/headers.ts';
import { settings, ticksOf } from '../settings.ts';
import type { Protocol } from './protocol.ts';
import { sctp } from './sctp.ts';
import { tcp } from './tcp.ts';
import { udp } from './udp.ts';

/** The most frequent first. */
export const PROTOCOLS: readonly Protocol[] = [tcp, udp, sctp];

export function isBalanced(protocol: u32): boolean {
  for (const known of PROTOCOLS) if (protocol === known.number) return true;
  return false;
}

export function eventOf(skb: Skb, protocol: u32, transport: u32): u32 {
  for (const known of PROTOCOLS) if (protocol === known.number) return known.event(skb, transport);
  return 0;
}

export function mayOpen(protocol: u32, event: u32): boolean {
  for (const known of PROTOCOLS) if (protocol === known.number) return known.mayOpen(event);
  return false;
}

export function isFirst(protocol: u32, event: u32): boolean {
  for (const known of PROTOCOLS) if (protocol === known.number) return known.isFirst(event);
  return false;
}

export function nextState(protocol: u32, state: u32, event: u32, direction: u32): u32 {
  for (const known of PROTOCOLS) if (protocol === known.number) return known.next(state, event, direction);
  return state;
}

export function isActive(protocol: u32, state: u32): boolean {
  for (const known of PROTOCOLS) {
    if (protocol === known.number) return ((known.activeStates >>> (state & 15)) & 1) !== 0;
  }
  return false;
}

/** Whether a connection that comes into this state makes its template assured. */
export function isEstablished(protocol: u32, state: u32): boolean {
  for (const known of PROTOCOLS) if (protocol === known.number) return state === known.established;
  return false;
}

/** What has no states, echo, may be silent for so long; calls (GRE) as long as UDP. */
const STATELESS_TIMEOUT = ticksOf(30);

/** Ticks of silence in this state. */
export function timeoutOf(protocol: u32, state: u32): u32 {
  for (const known of PROTOCOLS) {
    if (protocol === known.number) return settings.only.timeouts.get(known.slot + (state & 15));
  }
  return protocol === IPPROTO_GRE ? settings.only.timeouts.get(udp.slot) : STATELESS_TIMEOUT;
}
