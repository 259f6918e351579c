/**
 * What a scheduler would choose now: the very code that the kernel runs, in Node, on a copy of what it reads. Nothing that it
 * remembers changes, so the next client still gets its turn.
 */
import { bytesOf, htons, type MapDefinition, World } from '@ipvsd/bpf';
import {
  loads,
  localities,
  members,
  NONE,
  Opening,
  opened,
  SCHEDULERS,
  ServiceState,
  schedulerTables,
  servers,
  serviceStates,
  settings,
  standings,
  TableKey,
} from '@ipvsd/ipvs';
import type { EndPoint } from '../model.ts';
import { FAMILY_NUMBERS, storeAddress } from './codec.ts';
import { indexKey } from './index-key.ts';
import type { Plane } from './plane.ts';
import type { Stored } from './stored-table.ts';

/** The number of the real server; undefined where none takes the connection, and for a scheduler of an operator's own. */
export function rehearse(plane: Plane, stored: Stored, client: EndPoint, virtual: EndPoint): number | undefined {
  const { record, numbers, service } = stored;
  const scheduler = SCHEDULERS.find(({ number }) => number === record.scheduler);
  if (scheduler === undefined) return undefined;
  const world = new World({ now: () => plane.now(), random: () => Math.floor(Math.random() * 2 ** 32) });
  const copy = (definition: MapDefinition, key: Uint8Array): boolean => {
    const value = plane.store(definition).lookup(key);
    if (value !== null) world.store(definition).update(key, value);
    return value !== null;
  };
  copy(settings, indexKey(0));
  copy(serviceStates, indexKey(record.index));
  for (const definition of [members, standings, loads, opened]) copy(definition, indexKey(0));
  for (const number of numbers) copy(servers, indexKey(number));
  for (let block = 0; copy(schedulerTables, bytesOf(TableKey.create({ table: record.table, block }))); block++);
  for (const [key] of plane.store(localities).entries()) copy(localities, key);

  const asking = Opening.create({
    clientPort: htons(client.port),
    virtualPort: htons(virtual.port),
    family: FAMILY_NUMBERS[service.id.family],
  });
  storeAddress(asking.client, client.address);
  storeAddress(asking.virtual, virtual.address);
  const chosen = world.run(() => {
    const state = serviceStates.at(record.index) ?? ServiceState.create();
    return scheduler.schedule(record, state, asking);
  });
  return chosen === NONE ? undefined : chosen;
}
