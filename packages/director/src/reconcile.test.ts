import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createEnvironment } from './environment.ts';
import { type RealServer, realServerKey, serviceKey, type VirtualService } from './model.ts';
import { reconcile, type Step } from './reconcile.ts';
import { apply, emptyTable, type ServiceTable } from './service-table.ts';
import { serviceTables } from './testing/tables.ts';

const environment = createEnvironment();

/** What a plane does with a step. */
function carryOut(table: ServiceTable, step: Step): ServiceTable {
  if (step.kind !== 'orderServers') {
    const { ok, error } = apply(table, step, environment);
    if (error) throw error;
    return ok;
  }
  const key = serviceKey(step.service);
  const service = table.services.get(key)!;
  const byKey = new Map(service.realServers.map((server) => [realServerKey(server), server]));
  const realServers = step.order.map((id) => byKey.get(realServerKey(id))!);
  return { ...table, services: new Map(table.services).set(key, { ...service, realServers }) };
}

test('the steps lead from any table to any other', () => {
  fc.assert(
    fc.property(serviceTables, serviceTables, (wanted, actual) => {
      const reached = reconcile(wanted, actual).reduce(carryOut, actual);
      expect(reached).toEqual({ ...wanted, services: expect.any(Map) });
      expect(Object.fromEntries(reached.services)).toEqual(Object.fromEntries(wanted.services));
    }),
  );
});

test('from a table to itself there are no steps', () => {
  fc.assert(fc.property(serviceTables, (table) => reconcile(table, table).length === 0));
});

test('what stays is changed in place, never deleted and added', () => {
  const tableOf = (realServers: readonly RealServer[], service: VirtualService): ServiceTable => ({
    ...emptyTable(),
    services: new Map([[serviceKey(service.id), { ...service, realServers }]]),
  });
  fc.assert(
    fc.property(serviceTables, fc.nat(), (table, seed) => {
      for (const service of table.services.values()) {
        const wanted = service.realServers
          .filter((_, index) => (seed >> index) & 1)
          .map((server) => ({ ...server, weight: 9 }));
        const kinds = reconcile(tableOf(wanted, service), tableOf(service.realServers, service)).map(
          ({ kind }) => kind,
        );
        expect(kinds).not.toContain('addServer');
        expect(kinds.filter((kind) => kind === 'deleteServer')).toHaveLength(
          service.realServers.length - wanted.length,
        );
      }
    }),
  );
});
