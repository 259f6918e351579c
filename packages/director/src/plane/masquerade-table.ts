/** The networks whose hosts reach the outside as the director, as the maps hold them. A change is made whole or not at all. */
import { bytesOf, type MapStore } from '@ipvsd/bpf';
import { MASQUERADE_KEY_BITS, Masquerade, MasqueradeKey, masquerades, Settings, settings } from '@ipvsd/ipvs';
import type { Address, Family } from '../address.ts';
import { DirectorError } from '../errors.ts';
import type { parseNetwork } from '../mark-rule.ts';
import { FAMILY_NUMBERS, familyName, loadAddress, storeAddress } from './codec.ts';
import type { Plane } from './plane.ts';

/** A network: its first address and the length of its prefix. */
export type Network = NonNullable<ReturnType<typeof parseNetwork>>;

export interface MasqueradeRule {
  readonly from: Network;
  /** The interface to the outside. */
  readonly ifindex: number;
  /** The director's address there, for kernels that do not say which one a route prefers. */
  readonly address: Address;
}

const KEY = new Uint8Array(4);
export const formatNetwork = ({ address, prefix }: Network): string => `${address}/${prefix}`;

export class MasqueradeTable {
  readonly #plane: Plane;

  constructor(plane: Plane) {
    this.#plane = plane;
  }

  /** IPv4 before IPv6, then by address. */
  list(): readonly MasqueradeRule[] {
    return [...this.#store().entries()].map(([key, value]) => ruleOf(key, value)).sort(compareRules);
  }

  /** Another interface for a network that is there takes the place of the old one. Connections that live keep theirs. */
  add(rule: MasqueradeRule): void {
    this.#plane.exclusively(() => {
      const store = this.#store();
      const known = this.#has(rule.from);
      if (!known && this.list().length >= store.maxEntries) {
        const reason = `there are ${store.maxEntries} networks, must remove one first`;
        throw new DirectorError('ENOMEM', `Cannot masquerade ${formatNetwork(rule.from)}: ${reason}`);
      }
      const value = Masquerade.create({ ifindex: rule.ifindex });
      storeAddress(value.address, rule.address);
      store.update(keyOf(rule.from), bytesOf(value));
      if (!known) this.#count(rule.from.family, 1);
    });
  }

  remove(from: Network): void {
    this.#plane.exclusively(() => {
      if (!this.#has(from)) {
        const reason = 'it is not masqueraded, must be one that `ipvsd masquerade list` shows';
        throw new DirectorError('ENOENT', `Cannot remove ${formatNetwork(from)}: ${reason}`);
      }
      this.#store().delete(keyOf(from));
      this.#count(from.family, -1);
    });
  }

  /** A lookup would find a larger network too. */
  #has(from: Network): boolean {
    return this.list().some((rule) => formatNetwork(rule.from) === formatNetwork(from));
  }

  /** Packets of a family are looked at only where it has virtual services or networks. */
  #count(family: Family, difference: number): void {
    const store = this.#plane.store(settings);
    const s = Settings.on(store.lookup(KEY)!);
    s.masquerades += difference;
    if (family === 'ipv4') s.services4 += difference;
    else s.services6 += difference;
    store.update(KEY, bytesOf(s));
  }

  #store(): MapStore {
    return this.#plane.store(masquerades);
  }
}

function keyOf({ family, address, prefix }: Network): Uint8Array {
  const key = MasqueradeKey.create({ prefix: MASQUERADE_KEY_BITS + prefix, family: FAMILY_NUMBERS[family] });
  storeAddress(key.address, address);
  return bytesOf(key);
}

function ruleOf(key: Uint8Array, value: Uint8Array): MasqueradeRule {
  const { prefix, family, address } = MasqueradeKey.on(key);
  const stored = Masquerade.on(value);
  return {
    from: { family: familyName(family), address: loadAddress(address, family), prefix: prefix - MASQUERADE_KEY_BITS },
    ifindex: stored.ifindex,
    address: loadAddress(stored.address, family),
  };
}

const compareRules = ({ from: a }: MasqueradeRule, { from: b }: MasqueradeRule): number =>
  a.family.localeCompare(b.family) ||
  a.address.localeCompare(b.address, 'en', { numeric: true }) ||
  a.prefix - b.prefix;
