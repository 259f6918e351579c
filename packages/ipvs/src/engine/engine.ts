/**
 * Persistence engines: what makes connections belong together besides the client's network, as a packet itself says it. `sip` (spec
 * section 15.2) takes the Call-ID, so that all packets of one call go to one real server.
 *
 * Such a template is found by what it remembers, in a table of its own; the flows of other templates know nothing of it. What it
 * remembers is kept by its number for as long as it is listed, which may be longer than it is found.
 */
import {
  ANY,
  array,
  assign,
  be16,
  clear,
  hashMap,
  NO_EXIST,
  percpuArray,
  struct,
  u8,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import type { Opening } from '../connection/opening.ts';
import { Address6 } from '../packet/address.ts';
import { NONE, ServiceKey } from '../service/service.ts';

/** A template's key with what the engine found; bytes beyond `length` are 0. */
export const EngineKey = struct('engine_key', {
  client: Address6,
  virtual: Address6,
  port: be16,
  protocol: u8,
  family: u8,
  length: u32,
  data: array(u8, 256),
});
export type EngineKey = ViewOf<typeof EngineKey>;

export const EngineFlow = struct('engine_flow', { connection: u32 });

const MOST = 65_536;
export const engineFlows = hashMap('engine_flows', EngineKey, EngineFlow, { maxEntries: MOST, noPreallocation: true });
/** By number of the template. */
export const engineData = hashMap('engine_data', EngineFlow, EngineKey, { maxEntries: MOST, noPreallocation: true });

/** Real servers that may open connections themselves, by the source of their packets; written by user space. */
export const EngineServerKey = struct('engine_server_key', { address: Address6, port: be16, protocol: u8, family: u8 });
export const EngineServer = struct('engine_server', { service: ServiceKey, server: u32 });
export const engineServers = hashMap('engine_servers', EngineServerKey, EngineServer, {
  maxEntries: MOST,
  noPreallocation: true,
});

/** Each CPU's own: the key of the packet that it is at. */
const engineKeys = percpuArray('engine_keys', EngineKey, { maxEntries: 1 });
export const engineKeyOf = (): EngineKey | null => engineKeys.at(0);

/** Begins the packet's key; the engine adds its data. */
export function beginKey(key: EngineKey): void {
  clear(key);
}

/** The rest of this CPU's key is that of the template without an engine. */
export function finishKey(wanted: Opening): EngineKey | null {
  const key = engineKeyOf();
  if (key === null) return null;
  assign(key.client, wanted.client);
  assign(key.virtual, wanted.virtual);
  key.port = wanted.virtualPort;
  key.protocol = wanted.protocol;
  key.family = wanted.family;
  return key;
}

/** The number of the template with that key, or NONE. */
export function findByKey(key: EngineKey | null): u32 {
  if (key === null) return NONE;
  const flow = engineFlows.lookup(key);
  return flow === null ? NONE : flow.connection;
}

/**
 * Lets packets with this CPU's key find the template. False when another CPU was first or there is no room.
 * @subprog
 */
export function enterByKey(index: u32): boolean {
  const key = engineKeyOf();
  const own = numbers.at(0);
  if (key === null || own === null) return false;
  own.connection = index;
  if (engineFlows.update(key, own, NO_EXIST) !== 0) return false;
  if (engineData.update(own, key, ANY) === 0) return true;
  engineFlows.delete(key);
  return false;
}

/**
 * No packet finds it from now on.
 * @subprog
 */
export function leaveByKey(index: u32): void {
  const own = numbers.at(0);
  if (own === null) return;
  own.connection = index;
  const key = engineData.lookup(own);
  if (key !== null) engineFlows.delete(key);
}

/**
 * What it remembered goes with it.
 * @subprog
 */
export function forgetData(index: u32): void {
  const own = numbers.at(0);
  if (own === null) return;
  own.connection = index;
  engineData.delete(own);
}

const numbers = percpuArray('engine_numbers', EngineFlow, { maxEntries: 1 });
