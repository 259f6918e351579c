/** What a reload writes into the data plane's maps, counted. */
import type { Fields, MapDefinition, MapStore, SyscallProgram, View } from '@ipvsd/bpf';
import { MapDirector, NodePlane } from '@ipvsd/director';
import { Daemon, loadKeepalivedText, type Sockets, TimingWheel } from '@ipvsd/keepalived';
import { expect, test } from 'vitest';

const SERVICES = 500;
const CHANGES = new Set(['update', 'updateMany', 'delete', 'clear']);

/** Counts changes by map, and orders to the data plane as one more. */
class CountedPlane extends NodePlane {
  readonly writes = new Map<string, number>();

  override store(definition: MapDefinition): MapStore {
    return new Proxy(super.store(definition), {
      get: (store, name: keyof MapStore) => {
        const member: unknown = store[name];
        if (typeof member !== 'function') return member;
        return (...given: readonly unknown[]) => {
          if (CHANGES.has(name)) this.#count(definition.name, name === 'updateMany' ? (given[0] as []).length : 1);
          return Reflect.apply(member, store, given) as unknown;
        };
      },
    });
  }

  override call<Fs extends Fields>(program: SyscallProgram<Fs>, context: View<Fs>): number {
    this.#count('orders to the data plane', 1);
    return super.call(program, context);
  }

  #count(what: string, times: number): void {
    this.writes.set(what, (this.writes.get(what) ?? 0) + times);
  }
}

test('a reload of 500 services writes the entries of those that changed, and no other', () => {
  let now = 0;
  const wheel = new TimingWheel(() => now);
  const plane = new CountedPlane({ now: () => 10n ** 12n, random: () => 4, route: () => 0 });
  const director = new MapDirector(plane);
  director.writeSettings(undefined, 1024);
  const nothing = { send() {}, close() {} };
  const sockets: Sockets = {
    tcp: (_, events) => {
      wheel.after(0, () => events.open());
      return nothing;
    },
    udp: () => nothing,
    ping: () => nothing,
    run: () => ({ kill() {} }),
    readFile: () => undefined,
  };
  const log = { info() {}, warn() {}, error: (text: string) => expect.fail(text) };
  const daemon = new Daemon({ director, sockets, timers: wheel, log });
  const service = (i: number, more = ''): string => {
    const last = `${Math.floor(i / 250)}.${(i % 250) + 1}`;
    const servers = [1, 2].map((net) => `real_server 10.${net}.${last} 80 {\n${more}TCP_CHECK {\n}\n}\n`);
    return `virtual_server 10.0.${last} 80 {\ndelay_loop 1\nlvs_sched wlc\nlvs_method NAT\nprotocol TCP\n${servers.join('')}}\n`;
  };
  const services = Array.from({ length: SERVICES }, (_, i) => service(i));
  const reload = (): Record<string, number> => {
    plane.writes.clear();
    daemon.configure(loadKeepalivedText(services.join('')).configuration);
    for (let end = now + 3000; now < end; now += 10) wheel.advance();
    return Object.fromEntries(plane.writes);
  };
  expect(reload()).toMatchObject({ services: SERVICES, 'orders to the data plane': SERVICES });
  expect(reload(), 'the same again').toEqual({});
  services[7] = services[7]!.replace('wlc', 'rr');
  // Besides the service: what its scheduler remembers, and which numbers are given out.
  expect(reload(), 'another scheduler').toEqual({
    services: 1,
    service_states: 1,
    allocation: expect.any(Number) as number,
  });
  services[8] = service(8, 'weight 5\n');
  expect(reload(), 'other weights').toMatchObject({ services: 1, 'orders to the data plane': 1 });
  services.splice(9, 1);
  expect(reload()['services'], 'one less').toBe(1);
});
