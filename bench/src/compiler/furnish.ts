/** Puts virtual services with one real server each into the maps of director.ts, which has no user space of its own. */
import { bytesOf, htons } from '@ipvsd/bpf';
import type { Collection } from '@ipvsd/bpf/kernel';
import { parseIp } from '@ipvsd/linux';
import { Member, RealServer, Service, ServiceKey, Settings, ticksOf } from './director.ts';

export interface Furniture {
  readonly address: string;
  readonly port: number;
  readonly real: string;
  readonly realPort: number;
}

const AVAILABLE = 1;
const ROUND_ROBIN = 1;
const TCP = 6;
/** Of every state: nothing is to expire meanwhile. */
const TIMEOUT_SECONDS = 900;

export function furnish(collection: Collection, services: readonly Furniture[]): void {
  const settings = Settings.create({ maxConnections: collection.map('connections').maxEntries, connectionReuse: 1 });
  for (let state = 0; state < 16; state++) settings.tcpTimeouts.set(state, ticksOf(TIMEOUT_SECONDS));
  collection.map('settings').update(number(0), bytesOf(settings));
  for (const [i, { address, port, real, realPort }] of services.entries()) {
    const family = address.includes(':') ? 10 : 2;
    const server = RealServer.create({
      flags: AVAILABLE,
      weight: 1,
      lastWeight: 1,
      service: i,
      port: htons(realPort),
      family,
    });
    collection.map('servers').update(number(i), withAddress(RealServer, bytesOf(server), real));
    collection.map('members').update(number(i), bytesOf(Member.create({ server: i })));
    const key = ServiceKey.create({ port: htons(port), protocol: TCP, family });
    const service = Service.create({ index: i, scheduler: ROUND_ROBIN, first: i, count: 1 });
    collection.map('services').update(withAddress(ServiceKey, bytesOf(key), address), bytesOf(service));
  }
}

/** 16 bytes for both families, an IPv4 address in the first four. */
function withAddress(
  struct: { readonly layout: readonly { readonly name: string; readonly offset: number }[] },
  bytes: Uint8Array,
  address: string,
): Uint8Array {
  bytes.set(parseIp(address), struct.layout.find(({ name }) => name === 'address')!.offset);
  return bytes;
}

const number = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
