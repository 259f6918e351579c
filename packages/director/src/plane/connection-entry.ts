/** An entry of the connection table as operators read it. */
import { ntohs } from '@ipvsd/bpf';
import {
  AF_INET,
  AF_INET6,
  type Connection,
  HELPER_MASK,
  HELPER_SHIFT,
  HELPERS,
  METHOD_FULLNAT,
  METHOD_MASK,
  NONE,
  OF_ENGINE,
  OTHER_FAMILY,
  PROTOCOLS,
  secondsOf,
  TEMPLATE,
} from '@ipvsd/ipvs';
import type { ConnectionEntry } from '../model.ts';
import { loadAddress, protocolName } from './codec.ts';

/**
 * Undefined for a place without a live entry, and for a masqueraded host's, which is of no virtual service. `now` in ticks;
 * `remembered`: what a persistence engine keeps of it.
 */
export function connectionEntry(
  c: Connection,
  now: number,
  remembered: () => string | null,
): ConnectionEntry | undefined {
  if (c.alive !== 1) return undefined;
  if (c.server === NONE && (c.flags & METHOD_MASK) === METHOD_FULLNAT) return undefined;
  const left = c.timeout - ((now - c.lastSeen) >>> 0);
  if (left < 0 && c.controls === 0) return undefined;
  return {
    protocol: protocolName(c.protocol),
    client: { address: loadAddress(c.client, c.family), port: ntohs(c.clientPort) },
    virtual: { address: loadAddress(c.virtual, c.family), port: ntohs(c.virtualPort) },
    real: { address: loadAddress(c.real, familyOfReal(c)), port: ntohs(c.realPort) },
    state: stateName(c),
    expiresSeconds: Math.max(0, Math.floor(secondsOf(left))),
    synced: false,
    persistenceEngine: (c.flags & OF_ENGINE) !== 0 ? 'sip' : null,
    persistenceData: (c.flags & OF_ENGINE) !== 0 ? remembered() : null,
    ...helperOf(c),
  };
}

function helperOf(c: Connection): { readonly helper?: string } {
  const helper = HELPERS.find(({ number }) => number === (c.flags & HELPER_MASK) >>> HELPER_SHIFT);
  return helper === undefined ? {} : { helper: helper.name };
}

function familyOfReal(c: Connection): number {
  if ((c.flags & OTHER_FAMILY) === 0) return c.family;
  return c.family === AF_INET ? AF_INET6 : AF_INET;
}

function stateName(c: Connection): string {
  if ((c.flags & TEMPLATE) !== 0) return c.state !== 0 ? 'ASSURED' : 'NONE';
  return PROTOCOLS.find(({ number }) => number === c.protocol)?.states[c.state] ?? 'NONE';
}
