/**
 * `-L -c`, written while it is read: rows go out in batches, and no more than one batch is held, however many
 * connections there are.
 */
import type { ConnectionEntry, EndPoint } from '@ipvsd/director';
import { type Label, namedLabel, numericLabel } from './labels.ts';
import type { Names } from './services-names.ts';

export interface ConnectionsListingOptions {
  readonly numeric: boolean;
  /** Adds the persistence engine's name and data. */
  readonly persistence: boolean;
  readonly names: Names;
}

const batchLength = 512;

export async function* formatConnections(
  connections: Iterable<ConnectionEntry>,
  { numeric, persistence, names }: ConnectionsListingOptions,
): AsyncGenerator<string> {
  yield 'IPVS connection entries\n';
  yield persistence
    ? `pro expire ${row('state', 'source', 'virtual')} ${'destination'.padEnd(18)} ${'pe name'.padEnd(16)} pe_data\n`
    : `pro expire ${row('state', 'source', 'virtual')} destination\n`;
  for (const batch of batches(connections)) {
    const label = numeric ? numericLabel : await namedLabel(names, batch.flatMap(addressesOf));
    yield batch.map((entry) => formatConnection(entry, label, persistence)).join('');
  }
}

function formatConnection(entry: ConnectionEntry, label: Label, persistence: boolean): string {
  const protocol = entry.protocol === 'ip' ? null : entry.protocol;
  const name = ({ address, port }: EndPoint) => label(address, port, protocol);
  const line = `${entry.protocol.toUpperCase().padEnd(3)} ${expiry(entry.expiresSeconds).padEnd(6)} ${row(
    entry.state,
    name(entry.client),
    name(entry.virtual),
  )} `;
  if (!persistence || entry.persistenceEngine === null) return `${line}${name(entry.real)}\n`;
  // The row is not aligned with its title here; it never was.
  return `${line}${name(entry.real).padEnd(16)} ${entry.persistenceEngine.padEnd(18)} ${entry.persistenceData ?? ''}\n`;
}

function row(state: string, client: string, virtual: string): string {
  return `${state.padEnd(11)} ${client.padEnd(18)} ${virtual.padEnd(18)}`;
}

/** Minutes and seconds, two digits each or more. */
function expiry(seconds: number): string {
  const two = (value: number) => String(value).padStart(2, '0');
  return `${two(Math.floor(seconds / 60))}:${two(seconds % 60)}`;
}

function addressesOf({ client, virtual, real }: ConnectionEntry): string[] {
  return [client.address, virtual.address, real.address];
}

function* batches<T>(items: Iterable<T>): Generator<T[]> {
  let batch: T[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length === batchLength) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}
