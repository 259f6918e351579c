/**
 * Real servers that may open connections to clients themselves, as those of a service with a persistence engine may: by what
 * their packets bear as source, so that the data plane finds the service with one lookup.
 */
import { bytesOf, htons, type MapStore } from '@ipvsd/bpf';
import { EngineServer, EngineServerKey, engineServers, Settings, settings } from '@ipvsd/ipvs';
import type { ServiceId, VirtualService } from '../model.ts';
import { FAMILY_NUMBERS, keyOf, PROTOCOL_NUMBERS, storeAddress } from './codec.ts';
import type { Plane } from './plane.ts';

const KEY = new Uint8Array(4);

export class EngineServers {
  readonly #plane: Plane;

  constructor(plane: Plane) {
    this.#plane = plane;
  }

  /** The service became `after`, whose real servers have these numbers; undefined: it is not there. */
  write(before: VirtualService | undefined, after: VirtualService | undefined, numbers: readonly number[]): void {
    const gone = before === undefined ? [] : sourcesOf(before);
    const there = after === undefined ? [] : sourcesOf(after);
    if (gone.length === 0 && there.length === 0) return;
    const store = this.#plane.store(engineServers);
    const wanted = new Set(there.map(({ key }) => textOf(key)));
    for (const { key } of gone) if (!wanted.has(textOf(key))) this.#remove(store, key, before!.id);
    for (const { key, place } of there) {
      const value = EngineServer.create({ server: numbers[place]! });
      bytesOf(value.service).set(bytesOf(keyOf(after!.id)));
      store.update(key, bytesOf(value));
    }
    this.#announce([...store.entries()].length > 0);
  }

  /** Not where another service has it by now. */
  #remove(store: MapStore, key: Uint8Array, id: ServiceId): void {
    const value = store.lookup(key);
    if (value === null) return;
    const { service } = EngineServer.on(value);
    if (Buffer.compare(bytesOf(service), bytesOf(keyOf(id))) === 0) store.delete(key);
  }

  /** Packets ask for them only where there are any. */
  #announce(any: boolean): void {
    const store = this.#plane.store(settings);
    const s = Settings.on(store.lookup(KEY)!);
    if (s.engineServers === Number(any)) return;
    s.engineServers = Number(any);
    store.update(KEY, bytesOf(s));
  }
}

const textOf = (key: Uint8Array): string => key.join();

/** Of a service by address and port, over UDP, whose real servers are behind NAT. */
function sourcesOf({ id, persistence, persistenceEngine, realServers }: VirtualService) {
  if (id.kind !== 'address' || id.protocol !== 'udp' || id.port === 0) return [];
  if (persistence === null || persistenceEngine === null) return [];
  return realServers.flatMap(({ address, port, forwarding, family }, place) => {
    if (forwarding !== 'masq' || port === 0) return [];
    const key = EngineServerKey.create({
      port: htons(port),
      protocol: PROTOCOL_NUMBERS.udp,
      family: FAMILY_NUMBERS[family],
    });
    storeAddress(key.address, address);
    return [{ key: bytesOf(key), place }];
  });
}
