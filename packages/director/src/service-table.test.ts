import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Command } from './command.ts';
import { createEnvironment } from './environment.ts';
import { MemoryDirector } from './memory-director.ts';
import { plainTunnel, type RealServerSettings, type ServiceId, type ServiceSettings } from './model.ts';
import { apply, emptyTable, type ServiceTable, TableDraft } from './service-table.ts';

const environment = createEnvironment({ interfaces: new Map([['or0', 1500]]) });
const web: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '192.0.2.10', port: 80 };
const web6: ServiceId = { ...web, family: 'ipv6', address: '2001:db8::10' };
const settings: ServiceSettings = {
  scheduler: 'rr',
  schedulerFlags: 0,
  persistence: null,
  persistenceEngine: null,
  onePacket: false,
};
const serverSettings: RealServerSettings = {
  forwarding: 'masq',
  weight: 1,
  upperThreshold: 0,
  lowerThreshold: 0,
  tunnel: plainTunnel,
};

const addWeb: Command = { kind: 'addService', service: web, settings };
const add = (address: string, changed: Partial<RealServerSettings> = {}, service = web): Command => ({
  kind: 'addServer',
  service,
  server: { address, port: 80 },
  settings: { ...serverSettings, ...changed },
});

function after(...commands: readonly Command[]): ServiceTable {
  return commands.reduce((table, command) => apply(table, command, environment).ok ?? table, emptyTable());
}

function refusal(table: ServiceTable, command: Command): string | undefined {
  return apply(table, command, environment).error?.code;
}

describe('a service', () => {
  test('that exists cannot be added again, whatever else is wrong', () => {
    expect(refusal(after(addWeb), { ...addWeb, settings: { ...settings, scheduler: 'nosuch' } })).toBe('EEXIST');
  });

  test('needs a scheduler and an engine that exist, and "none" is one', () => {
    const withSettings = (changed: Partial<ServiceSettings>) =>
      refusal(emptyTable(), { ...addWeb, settings: { ...settings, ...changed } });
    expect(withSettings({ scheduler: 'nosuch' })).toBe('ENOENT');
    expect(withSettings({ persistenceEngine: 'nosuch' })).toBe('ENOENT');
    expect(withSettings({ scheduler: 'none', persistenceEngine: 'sip' })).toBeUndefined();
  });

  test('of IPv6 groups its clients by a prefix of 1 to 128 bits', () => {
    const persistence = { timeoutSeconds: 60, netmask: 129 };
    expect(refusal(emptyTable(), { ...addWeb, service: web6, settings: { ...settings, persistence } })).toBe('EINVAL');
  });

  test('that does not exist can be neither edited nor deleted nor zeroed', () => {
    expect(refusal(emptyTable(), { ...addWeb, kind: 'editService' })).toBe('ESRCH');
    expect(refusal(emptyTable(), { kind: 'deleteService', service: web })).toBe('ESRCH');
    expect(refusal(emptyTable(), { kind: 'zero', service: web })).toBe('ESRCH');
    expect(refusal(emptyTable(), { kind: 'zero' })).toBeUndefined();
  });

  test('keeps its real servers when it is edited', () => {
    const table = after(addWeb, add('10.2.0.11'), {
      ...addWeb,
      kind: 'editService',
      settings: { ...settings, scheduler: 'lc' },
    });
    const [service] = table.services.values();
    expect(service).toMatchObject({ scheduler: 'lc', realServers: [{ address: '10.2.0.11' }] });
  });

  test('of a mark exists once per family', () => {
    const mark: ServiceId = { kind: 'fwmark', family: 'ipv4', fwmark: 3 };
    const table = after({ ...addWeb, service: mark }, { ...addWeb, service: { ...mark, family: 'ipv6' } });
    expect(table.services.size).toBe(2);
  });
});

describe('a real server', () => {
  test('goes to the head of the list and keeps its place when edited', () => {
    const table = after(addWeb, add('10.2.0.11'), add('10.2.0.12'), add('10.2.0.13'), {
      ...add('10.2.0.12', { weight: 7 }),
      kind: 'editServer',
    } as Command);
    const [service] = table.services.values();
    expect(service!.realServers.map(({ address, weight }) => [address, weight])).toEqual([
      ['10.2.0.13', 1],
      ['10.2.0.12', 7],
      ['10.2.0.11', 1],
    ]);
  });

  test.each([
    ['of an unknown service', 'ESRCH', emptyTable(), add('10.2.0.11', { weight: -1 })],
    ['that is there', 'EEXIST', after(addWeb, add('10.2.0.11')), add('10.2.0.11')],
    ['with a negative weight', 'ERANGE', after(addWeb), add('10.2.0.11', { weight: -1 })],
    ['with the lower threshold above the upper', 'ERANGE', after(addWeb), add('10.2.0.11', { lowerThreshold: 1 })],
    ['with a threshold no int can hold', 'EINVAL', after(addWeb), add('10.2.0.11', { upperThreshold: 2 ** 31 })],
    ['that is no unicast address', 'EINVAL', after(addWeb), add('224.0.0.5')],
    [
      'behind GUE without a port',
      'EINVAL',
      after(addWeb),
      add('10.2.0.1', { forwarding: 'tunnel', tunnel: { ...plainTunnel, type: 'gue' } }),
    ],
    ['of the other family without a tunnel', 'EINVAL', after(addWeb), add('2001:db8::1')],
  ] as const)('%s is refused with %s', (_, code, table, command) => {
    expect(refusal(table, command)).toBe(code);
  });

  test('of the other family and a sync daemon exclude each other', () => {
    const tunnel = add('2001:db8::1', { forwarding: 'tunnel' });
    const start: Command = { kind: 'startDaemon', daemon: { role: 'master', interfaceName: 'or0', syncId: 0 } };
    expect(refusal(after(addWeb, tunnel), start)).toBe('EINVAL');
    expect(refusal(after(addWeb, start), tunnel)).toBe('EINVAL');
  });

  test('that is not there can be neither edited nor deleted', () => {
    expect(refusal(after(addWeb), { ...add('10.2.0.11'), kind: 'editServer' } as Command)).toBe('ENOENT');
    const server = { address: '10.2.0.11', port: 80 };
    expect(refusal(after(addWeb), { kind: 'deleteServer', service: web, server })).toBe('ENOENT');
  });
});

describe('the settings beside the services', () => {
  test('a timeout of 0 stays what it was', () => {
    const table = after({ kind: 'setTimeouts', timeouts: { tcp: 100, tcpFin: 0, udp: 30 } });
    expect(table.timeouts).toEqual({ tcp: 100, tcpFin: 120, udp: 30 });
  });

  test('a sync daemon runs once per role, on an interface that exists, and says what it chose', () => {
    const start = (role: 'master' | 'backup', interfaceName: string): Command => ({
      kind: 'startDaemon',
      daemon: { role, interfaceName, syncId: 1, group: 'ff02::81' },
    });
    const table = after(start('backup', 'or0'), start('master', 'or0'));
    expect(table.daemons).toMatchObject([
      { role: 'master', maximumLength: 1452, port: 8848, ttl: 1 },
      { role: 'backup', maximumLength: 1452 },
    ]);
    expect(refusal(table, start('master', 'nosuch0'))).toBe('ENODEV');
    expect(refusal(table, start('master', 'or0'))).toBe('EEXIST');
    expect(refusal(emptyTable(), { kind: 'stopDaemon', role: 'master' })).toBe('ESRCH');
  });

  test('flush leaves them alone', () => {
    const table = after(addWeb, { kind: 'setTimeouts', timeouts: { tcp: 1, tcpFin: 2, udp: 3 } }, { kind: 'flush' });
    expect(table.services.size).toBe(0);
    expect(table.timeouts.tcp).toBe(1);
  });

  test('a local address is added once and deleted once', () => {
    const local = (kind: 'addLocalAddress' | 'deleteLocalAddress'): Command => ({
      kind,
      service: web,
      address: '10.0.0.1',
    });
    expect(refusal(after(addWeb, local('addLocalAddress')), local('addLocalAddress'))).toBe('EEXIST');
    expect(refusal(after(addWeb), local('deleteLocalAddress'))).toBe('ENOENT');
  });
});

test('a table is a value: applying a command leaves the old one as it was', () => {
  const before = after(addWeb, add('10.2.0.11'));
  const changed = apply(before, add('10.2.0.12'), environment).ok!;
  expect([...before.services.values()][0]!.realServers).toHaveLength(1);
  expect([...changed.services.values()][0]!.realServers).toHaveLength(2);
});

describe('many commands in a row', () => {
  const mixed = fc.array(
    fc.oneof(
      fc.constantFrom(addWeb, { kind: 'flush' } as const, { kind: 'deleteService', service: web } as const),
      fc.nat(3).map((n) => add(`10.2.0.${n}`)),
      fc.nat(3).map((n) => ({ ...add(`10.2.0.${n}`, { weight: n }), kind: 'editServer' }) as Command),
      fc
        .nat(3)
        .map((n): Command => ({ kind: 'deleteServer', service: web, server: { address: `10.2.0.${n}`, port: 80 } })),
    ),
  );

  test('give the table and the errors they give one by one', () => {
    fc.assert(
      fc.property(mixed, (commands) => {
        const draft = new TableDraft(emptyTable(), environment);
        const together = commands.map((command) => draft.apply(command)?.code);
        let table = emptyTable();
        const oneByOne = commands.map((command) => {
          const { ok, error } = apply(table, command, environment);
          table = ok ?? table;
          return error?.code;
        });
        expect(together).toEqual(oneByOne);
        expect(draft.finish()).toEqual(table);
      }),
    );
  });

  test('are all or nothing when atomic', () => {
    const director = new MemoryDirector({ environment });
    const codes = (atomic: boolean) =>
      director.executeAll([addWeb, add('10.2.0.11'), addWeb], { atomic }).map((error) => error?.code);
    expect(codes(true)).toEqual([undefined, undefined, 'EEXIST']);
    expect(director.table().services.size).toBe(0);
    expect(codes(false)).toEqual([undefined, undefined, 'EEXIST']);
    expect(director.table().services.size).toBe(1);
  });

  // Their square would take longer than the test may.
  test('are applied by the ten thousand', { timeout: 30_000 }, () => {
    const director = new MemoryDirector({ environment });
    const commands = Array.from({ length: 50_000 }, (_, n) => add(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`));
    director.executeAll([addWeb, ...commands], { atomic: false });
    expect(director.service(web)!.realServers).toHaveLength(50_000);
  });
});
