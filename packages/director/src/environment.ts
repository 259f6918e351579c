/**
 * What a table must ask of the host it lives on: which schedulers exist, which interfaces, and whether an address is
 * its own. Deciding stays pure because these answers come in as an argument.
 */
import { type Address, addressKind } from './address.ts';

export interface Environment {
  hasScheduler(name: string): boolean;
  hasPersistenceEngine(name: string): boolean;
  /** The interface's MTU, or undefined where there is no such interface. */
  interfaceMtu(name: string): number | undefined;
  /** Whether a real server may have this address. */
  mayBeRealServer(address: Address): boolean;
}

/** `none` is a scheduler too: the virtual service exists and picks nobody. */
export const builtInSchedulers: readonly string[] = [
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'dh',
  'sh',
  'sed',
  'nq',
  'fo',
  'ovf',
  'mh',
  'twos',
  'll',
  'none',
];

export interface EnvironmentOptions {
  /** Names of schedulers the user brought along. */
  readonly schedulers?: Iterable<string>;
  readonly interfaces?: ReadonlyMap<string, number>;
  readonly localAddresses?: Iterable<Address>;
}

export function createEnvironment(options: EnvironmentOptions = {}): Environment {
  const schedulers = new Set([...builtInSchedulers, ...(options.schedulers ?? [])]);
  const interfaces = options.interfaces ?? new Map([['lo', 65536]]);
  const local = new Set(options.localAddresses);
  return {
    hasScheduler: (name) => schedulers.has(name),
    hasPersistenceEngine: (name) => name === 'sip',
    interfaceMtu: (name) => interfaces.get(name),
    // The kernel lets a link-local or otherwise odd address pass when it is the host's own.
    mayBeRealServer: (address) => addressKind(address) === 'unicast' || local.has(address),
  };
}
