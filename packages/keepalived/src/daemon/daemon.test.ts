import { MemoryDirector } from '@ipvsd/director';
import { describe, expect, test } from 'vitest';
import type { Sockets, TcpEvents } from '../checkers/sockets.ts';
import { TimingWheel } from '../checkers/timers.ts';
import { loadKeepalivedText, loadNativeText } from '../model/load.ts';
import { Daemon } from './daemon.ts';

/** A world with its own clock and network: an address in `dead` refuses, every other one connects. */
function world() {
  let now = 0;
  const wheel = new TimingWheel(() => now);
  const dead = new Set<string>();
  const looks = new Map<string, number>();
  const scripts: string[] = [];
  const nothing = { send() {}, close() {} };
  const sockets: Sockets = {
    tcp({ address }, events: TcpEvents) {
      looks.set(address, (looks.get(address) ?? 0) + 1);
      // An answer never comes before the call that asks for it has returned.
      wheel.after(0, () => (dead.has(address) ? events.error('connection refused') : events.open()));
      return nothing;
    },
    udp: () => nothing,
    ping: () => nothing,
    run: ({ argv }) => {
      scripts.push(argv.join(' '));
      return { kill() {} };
    },
    readFile: () => undefined,
  };
  const said: string[] = [];
  const say = (text: string): void => {
    said.push(text);
  };
  const director = new MemoryDirector();
  const executed: string[] = [];
  const watched = {
    service: director.service.bind(director),
    timeouts: director.timeouts.bind(director),
    daemons: director.daemons.bind(director),
    executeAll: (commands: Parameters<MemoryDirector['executeAll']>[0], options: { atomic: boolean }) => {
      executed.push(...commands.map((command) => command.kind));
      return director.executeAll(commands, options);
    },
  };
  const addresses = new Set<string>();
  const daemon = new Daemon({
    director: watched,
    sockets,
    timers: wheel,
    log: { info: say, warn: say, error: say },
    random: () => 0,
    hasAddress: (address) => addresses.has(address),
  });
  return {
    daemon,
    director,
    dead,
    looks,
    said,
    scripts,
    addresses,
    executed,
    passSeconds(seconds: number): void {
      for (const end = now + seconds * 1000; now < end; now += 10) wheel.advance();
      wheel.advance();
    },
    seconds: () => now / 1000,
    table: () =>
      [...director.table().services.values()]
        .map(({ id, realServers }) => {
          const servers = realServers.map(
            ({ address, weight }) => `${address.slice(address.lastIndexOf('.') + 1)}=${weight}`,
          );
          return `${id.kind === 'address' ? id.address : id.fwmark}: ${servers.toReversed().join(' ')}`;
        })
        .join(' | '),
  };
}

function service(vip: string, servers: readonly string[], lines = 'delay_loop 6', serverLines = ''): string {
  const blocks = servers.map((address) => `real_server ${address} 80 {\n${serverLines}\nTCP_CHECK {\nretry 2\n}\n}\n`);
  return `virtual_server ${vip} 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n${lines}\n${blocks.join('')}}\n`;
}

function conf(text: string) {
  return loadKeepalivedText(text).configuration;
}

describe('time to leave and to return', () => {
  test('a real server that dies leaves after retry + 1 failures, and returns with its first success', () => {
    const { daemon, dead, passSeconds, table } = world();
    daemon.configure(conf(service('10.0.0.1', ['10.1.0.1', '10.1.0.2'])));
    passSeconds(1);
    dead.add('10.1.0.1');
    // Looked at at 0 s and alive; next at 6 s, then two retries, one second apart.
    passSeconds(6.5);
    expect(table()).toBe('10.0.0.1: 1=1 2=1');
    passSeconds(1);
    expect(table()).toBe('10.0.0.1: 2=1');
    dead.clear();
    passSeconds(6);
    expect(table()).toBe('10.0.0.1: 2=1 1=1');
  });

  test('one that is dead at the start leaves with the first look', () => {
    const { daemon, dead, passSeconds, table, said } = world();
    dead.add('10.1.0.2');
    daemon.configure(conf(service('10.0.0.1', ['10.1.0.1', '10.1.0.2'])));
    expect(table()).toBe('10.0.0.1: 1=1 2=1');
    passSeconds(0.1);
    expect(table()).toBe('10.0.0.1: 1=1');
    expect(said).toContain('TCP_CHECK on service [10.1.0.2]:tcp:80 failed after 2 retries: connection refused');
  });
});

test('the same check of a real server in several services runs once, and speaks for all of them', () => {
  const { daemon, dead, looks, passSeconds, table } = world();
  daemon.configure(conf(service('10.0.0.1', ['10.1.0.1', '10.1.0.2']) + service('10.0.0.2', ['10.1.0.1'])));
  expect(daemon.checkCount).toBe(2);
  passSeconds(0.5);
  expect(looks.get('10.1.0.1')).toBe(1);
  dead.add('10.1.0.1');
  passSeconds(8);
  expect(table()).toBe('10.0.0.1: 2=1 | 10.0.0.2: ');
});

describe('a reload', () => {
  test('of an equal file changes nothing: no command, no look, no forgotten state', () => {
    const { daemon, dead, looks, executed, passSeconds, table } = world();
    const text = service('10.0.0.1', ['10.1.0.1', '10.1.0.2'], 'inhibit_on_failure\ndelay_loop 6');
    dead.add('10.1.0.1');
    daemon.configure(conf(text));
    passSeconds(2);
    const before = { table: table(), looks: looks.get('10.1.0.2'), commands: executed.length };
    expect(before.table).toBe('10.0.0.1: 1=0 2=1');
    daemon.configure(conf(text));
    passSeconds(2);
    expect({ table: table(), looks: looks.get('10.1.0.2'), commands: executed.length }).toEqual(before);
  });

  test('of 500 services with one changed touches that one only, and no dead server comes back', () => {
    const { daemon, dead, executed, passSeconds, director } = world();
    const services = Array.from({ length: 500 }, (_, i) => {
      const last = `${Math.floor(i / 250)}.${(i % 250) + 1}`;
      return service(`10.0.${last}`, [`10.1.${last}`, `10.2.${last}`]);
    });
    for (let i = 1; i <= 250; i += 2) dead.add(`10.1.0.${i}`);
    daemon.configure(conf(services.join('')));
    passSeconds(1);
    const records = new Map(director.table().services);
    executed.length = 0;
    services[7] = services[7]!.replace('lvs_sched rr', 'lvs_sched wlc');
    daemon.configure(conf(services.join('')));
    passSeconds(20);
    expect(executed).toEqual(['editService']);
    const rewritten = [...director.table().services].filter(([key, record]) => records.get(key) !== record);
    expect(rewritten.map(([, { scheduler }]) => scheduler)).toEqual(['wlc']);
  });

  test('adds what is new, removes what is gone, and keeps what a changed weight belongs to', () => {
    const { daemon, executed, passSeconds, table } = world();
    daemon.configure(conf(service('10.0.0.1', ['10.1.0.1', '10.1.0.2']) + service('10.0.0.2', ['10.1.0.1'])));
    passSeconds(1);
    executed.length = 0;
    daemon.configure(
      conf(service('10.0.0.1', ['10.1.0.1', '10.1.0.3'], 'weight 5') + service('10.0.0.3', ['10.1.0.1'], 'alpha')),
    );
    expect(executed).toEqual(['deleteService', 'deleteServer', 'editServer', 'addServer', 'addService']);
    passSeconds(1);
    expect(table()).toBe('10.0.0.1: 1=5 3=5 | 10.0.0.3: 1=1');
  });

  test('puts right what was changed behind our back, and leaves alone what is not ours', () => {
    const { daemon, director, table } = world();
    const configuration = conf(service('10.0.0.1', ['10.1.0.1']));
    daemon.configure(configuration);
    const other = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '10.9.9.9', port: 80 } as const;
    const { settings } = configuration.virtualServers[0]!;
    director.execute({ kind: 'addService', service: other, settings });
    director.execute({ kind: 'deleteService', service: configuration.virtualServers[0]!.services[0]! });
    daemon.configure(configuration);
    expect(table()).toBe('10.9.9.9:  | 10.0.0.1: 1=1');
  });
});

test('at the end our services leave the table, or stay where that was asked for', () => {
  for (const leave of [false, true]) {
    const { daemon, table, scripts } = world();
    daemon.configure(conf(service('10.0.0.1', ['10.1.0.1'], 'omega\nquorum_down /down', 'notify_down /gone')));
    daemon.stop({ leave });
    expect(table()).toBe(leave ? '10.0.0.1: 1=1' : '');
    expect(scripts).toEqual(['/gone', '/down']);
  }
});

test('a thousand real servers that fail together are a few changes of the table, and scripts find it changed', () => {
  const { daemon, director, dead, executed, passSeconds, said, table } = world();
  const servers = Array.from({ length: 1000 }, (_, i) => `10.1.${Math.floor(i / 250)}.${(i % 250) + 1}`);
  let calls = 0;
  const { executeAll } = director;
  director.executeAll = (...given) => {
    calls++;
    return executeAll.apply(director, given);
  };
  daemon.configure(conf(service('10.0.0.1', servers, 'delay_loop 1')));
  passSeconds(0.5);
  expect(calls).toBe(1);
  for (const address of servers) dead.add(address);
  executed.length = 0;
  passSeconds(5);
  expect(table()).toBe('10.0.0.1: ');
  expect(executed.length).toBe(1000);
  expect(calls).toBeLessThan(10);
  expect(said.filter((line) => line.startsWith('Removing service')).length).toBe(1000);
});

describe('a real server that comes back', () => {
  const yaml = (slowStart: number): string =>
    `services:\n  - address: 10.0.0.1\n    port: 80\n    slowStart: ${slowStart}\n    scheduler: wrr\n` +
    '    checks: [{ type: tcp, every: 1, retries: 0, warmup: 0 }]\n' +
    '    realServers: [{ address: 10.1.0.1 }, { address: 10.1.0.2, weight: 2 }]\n';
  const load = (text: string) => loadNativeText('ipvsd.yaml', text).configuration;

  test('takes all its work at once, unless it is to come slowly', () => {
    const { daemon, dead, passSeconds, table } = world();
    daemon.configure(load(yaml(0)));
    dead.add('10.1.0.1');
    passSeconds(3);
    dead.clear();
    passSeconds(2);
    expect(table()).toBe('10.0.0.1: 2=2 1=1');
  });

  test('slowly: its weight rises from a tenth each second, and then all have their own again', () => {
    const { daemon, dead, passSeconds, table } = world();
    daemon.configure(load(yaml(10)));
    passSeconds(1);
    expect(table(), 'not at the start').toBe('10.0.0.1: 1=1 2=2');
    dead.add('10.1.0.1');
    passSeconds(3);
    expect(table()).toBe('10.0.0.1: 2=2');
    dead.clear();
    const seen: string[] = [];
    for (let half = 0; half < 30; half++) {
      passSeconds(0.5);
      if (table() !== seen.at(-1)) seen.push(table());
    }
    const risen = seen.map((line) => Number(/ 1=(\d+)/.exec(line)?.[1] ?? 0));
    expect(seen[0]).toBe('10.0.0.1: 2=200 1=10');
    expect(risen.slice(0, -1)).toEqual(risen.slice(0, -1).toSorted((a, b) => a - b));
    expect(risen.length).toBeGreaterThan(8);
    expect(seen.at(-1)).toBe('10.0.0.1: 2=2 1=1');
  });

  test('slowly too when a reload adds it, and a reload in between lets it rise on', () => {
    const { daemon, passSeconds, table } = world();
    const more = (text: string): string => text.replace('realServers: [', 'realServers: [{ address: 10.1.0.3 }, ');
    daemon.configure(load(yaml(10)));
    passSeconds(2);
    daemon.configure(load(more(yaml(10))));
    expect(table()).toContain('3=10');
    passSeconds(5.5);
    expect(table()).toContain('3=50');
    daemon.configure(load(more(yaml(10))));
    expect(table()).toMatch(/3=5[0-9]/);
    passSeconds(6);
    expect(table()).toContain('3=1');
    expect(table()).not.toContain('00');
  });
});

test('what an agent says it takes at most becomes its thresholds, for as long as it says so', () => {
  const { daemon, director, passSeconds } = world();
  const configuration = conf(service('10.0.0.1', ['10.1.0.1', '10.1.0.2']));
  daemon.configure(configuration);
  const [virtualServer] = daemon.services();
  const limits = (): string[] => {
    passSeconds(0.1);
    const { realServers } = director.service(configuration.virtualServers[0]!.services[0]!)!;
    return realServers.map((server) => `${server.weight} ${server.lowerThreshold}..${server.upperThreshold}`);
  };
  daemon.setLoads(virtualServer!, new Map([['10.1.0.1 80', { weight: 40, maxConnections: 30 }]]));
  expect(limits()).toEqual(['1 0..0', '40 22..30']);
  daemon.setLoads(virtualServer!, new Map([['10.1.0.1 80', undefined]]));
  expect(limits()).toEqual(['1 0..0', '1 0..0']);
});

test('with ha_suspend nobody looks while the address of the service is elsewhere', () => {
  const { daemon, addresses, looks, passSeconds } = world();
  daemon.configure(conf(service('10.0.0.1', ['10.1.0.1'], 'ha_suspend\ndelay_loop 1')));
  passSeconds(5);
  expect(looks.get('10.1.0.1')).toBeUndefined();
  addresses.add('10.0.0.1');
  daemon.resume();
  passSeconds(3);
  expect(looks.get('10.1.0.1')).toBeGreaterThan(2);
  addresses.clear();
  daemon.resume();
  const count = looks.get('10.1.0.1');
  passSeconds(5);
  expect(looks.get('10.1.0.1')).toBe(count);
});

test('a drained real server has weight 0 in every service, then leaves, and comes back when it is called', () => {
  const { daemon, table } = world();
  daemon.configure(conf(service('10.0.0.1', ['10.1.0.1', '10.1.0.2']) + service('10.0.0.2', ['10.1.0.1'])));
  expect(daemon.setDrain('10.1.0.1', undefined, 'draining').length).toBe(2);
  expect(table()).toBe('10.0.0.1: 1=0 2=1 | 10.0.0.2: 1=0');
  daemon.setDrain('10.1.0.1', undefined, 'drained');
  expect(table()).toBe('10.0.0.1: 2=1 | 10.0.0.2: ');
  daemon.setDrain('10.1.0.1', 80, 'no');
  expect(table()).toBe('10.0.0.1: 2=1 1=1 | 10.0.0.2: 1=1');
  expect(daemon.setDrain('10.1.0.1', 81, 'draining')).toEqual([]);
});
