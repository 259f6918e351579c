/** The rules that give packets a firewall mark, as the maps hold them. A change is made whole or not at all. */
import { bytesOf, htons, type MapStore, ntohs } from '@ipvsd/bpf';
import { MARK_KEY_BITS, Mark, MarkKey, marks, Settings, settings } from '@ipvsd/ipvs';
import { DirectorError } from '../errors.ts';
import { formatMarkDestination, type MarkDestination, type MarkRule, markRuleKey } from '../mark-rule.ts';
import type { Protocol } from '../model.ts';
import { FAMILY_NUMBERS, familyName, loadAddress, PROTOCOL_NUMBERS, protocolName, storeAddress } from './codec.ts';
import type { Plane } from './plane.ts';

export interface MarkChange {
  readonly remove?: readonly MarkDestination[];
  readonly add?: readonly MarkRule[];
}

const KEY = new Uint8Array(4);

export class MarkTable {
  readonly #plane: Plane;

  constructor(plane: Plane) {
    this.#plane = plane;
  }

  /** By mark, then by destination. */
  list(): readonly MarkRule[] {
    return [...this.#store().entries()].map(([key, value]) => ruleOf(key, value)).sort(compareRules);
  }

  /**
   * What `change` answers, given the rules as they are, at once and while nobody else changes them. Removing what is not
   * there, and adding where another mark is, is refused.
   */
  update(change: (rules: readonly MarkRule[]) => MarkChange): void {
    this.#plane.exclusively(() => {
      const before = this.list();
      const { remove = [], add = [] } = change(before);
      const rules = new Map(before.map((rule) => [markRuleKey(rule), rule]));
      for (const destination of remove) {
        if (!rules.delete(markRuleKey(destination)))
          throw refuse('delete', destination, 'ENOENT', 'there is no such rule');
      }
      for (const rule of add) {
        const known = rules.get(markRuleKey(rule));
        if (known !== undefined && known.mark !== rule.mark) {
          throw refuse('add', rule, 'EEXIST', `it has mark ${known.mark}, must be deleted first`);
        }
        rules.set(markRuleKey(rule), rule);
      }
      this.#write(before, rules);
    });
  }

  #write(before: readonly MarkRule[], after: ReadonlyMap<string, MarkRule>): void {
    const store = this.#store();
    if (after.size > store.maxEntries) {
      throw new DirectorError(
        'ENOMEM',
        `Cannot add rules for marks: there would be ${after.size}, must be at most ${store.maxEntries}`,
      );
    }
    try {
      replace(store, before, [...after.values()]);
    } catch (error) {
      replace(store, this.list(), before);
      throw error;
    }
    this.#announce(after.size > 0);
  }

  /** Packets ask for rules only where there are any. */
  #announce(any: boolean): void {
    const store = this.#plane.store(settings);
    const s = Settings.on(store.lookup(KEY)!);
    if (s.markRules === Number(any)) return;
    s.markRules = Number(any);
    store.update(KEY, bytesOf(s));
  }

  #store(): MapStore {
    return this.#plane.store(marks);
  }
}

/** New ones first: a packet in between finds a rule. */
function replace(store: MapStore, before: readonly MarkRule[], after: readonly MarkRule[]): void {
  const known = new Map(before.map((rule) => [markRuleKey(rule), rule.mark]));
  const wanted = new Set(after.map(markRuleKey));
  const gone = before.filter((rule) => !wanted.has(markRuleKey(rule)));
  // Where the table is nearly full there is no room for both.
  const cramped = before.length + after.length > store.maxEntries;
  const remove = (): void => {
    for (const rule of gone) store.delete(bytesOf(keyOfRule(rule)));
  };
  if (cramped) remove();
  for (const rule of after) {
    if (known.get(markRuleKey(rule)) === rule.mark) continue;
    store.update(bytesOf(keyOfRule(rule)), bytesOf(Mark.create({ mark: rule.mark })));
  }
  if (!cramped) remove();
}

function keyOfRule({ family, address, prefix, protocol, port }: MarkDestination) {
  const key = MarkKey.create({
    prefix: MARK_KEY_BITS + prefix,
    protocol: protocol === null ? 0 : PROTOCOL_NUMBERS[protocol],
    family: FAMILY_NUMBERS[family],
    port: htons(port),
  });
  storeAddress(key.address, address);
  return key;
}

function ruleOf(key: Uint8Array, value: Uint8Array): MarkRule {
  const { prefix, protocol, family, port, address } = MarkKey.on(key);
  return {
    mark: Mark.on(value).mark,
    family: familyName(family),
    address: loadAddress(address, family),
    prefix: prefix - MARK_KEY_BITS,
    protocol: protocol === 0 ? null : (protocolName(protocol) as Protocol),
    port: ntohs(port),
  };
}

const compareRules = (a: MarkRule, b: MarkRule): number =>
  a.mark - b.mark ||
  a.family.localeCompare(b.family) ||
  a.address.localeCompare(b.address, 'en', { numeric: true }) ||
  (a.protocol ?? '').localeCompare(b.protocol ?? '') ||
  a.port - b.port ||
  a.prefix - b.prefix;

function refuse(verb: string, destination: MarkDestination, code: 'ENOENT' | 'EEXIST', reason: string): DirectorError {
  const what = `${destination.protocol ?? 'any protocol'} to ${formatMarkDestination(destination)}`;
  return new DirectorError(code, `Cannot ${verb} the rule for ${what}: ${reason}`);
}
