import { MemoryDirector, type RealServer, type VirtualService } from '@ipvsd/director';
import { expect, test } from 'vitest';
import { drain, undrain } from './drain.ts';

const id = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '10.0.0.1', port: 80 } as const;
const target = { address: '10.1.0.1', port: 80 };

/** A table whose one real server loses a connection with every look after the first. */
function world(connections: number) {
  const director = new MemoryDirector();
  const settings = { scheduler: 'rr', schedulerFlags: 0, persistence: null, persistenceEngine: null, onePacket: false };
  const tunnel = { type: 'ipip', port: 0, checksum: 'none' } as const;
  director.execute({ kind: 'addService', service: id, settings });
  director.execute({
    kind: 'addServer',
    service: id,
    server: target,
    settings: { forwarding: 'masq', weight: 3, upperThreshold: 0, lowerThreshold: 0, tunnel },
  });
  let active = connections;
  let now = 0;
  const withConnections = (server: RealServer): RealServer => ({ ...server, activeConnections: active });
  const watched = new Proxy(director, {
    get(subject, name) {
      if (name !== 'table') {
        const value: unknown = Reflect.get(subject, name);
        return typeof value === 'function' ? value.bind(subject) : value;
      }
      return () => {
        const table = subject.table();
        const services = [...table.services].map(([key, service]): [string, VirtualService] => [
          key,
          { ...service, realServers: service.realServers.map(withConnections) },
        ]);
        return { ...table, services: new Map(services) };
      };
    },
  });
  const said: string[] = [];
  const tools = {
    director: watched,
    controlPath: '/nowhere/daemon.sock',
    write: (text: string) => said.push(text.trim()),
    now: () => now,
    sleep: async (ms: number) => {
      now += ms;
      active = Math.max(0, active - 1);
    },
  };
  return { director, tools, said, seconds: () => now / 1000 };
}

test('drain quiesces, tells its progress, and takes the real server out when its connections have ended', async () => {
  const { director, tools, said } = world(2);
  await drain(target, { deadlineSeconds: 60 }, tools);
  expect(said).toEqual([
    '2 active connections on 10.1.0.1:80',
    '1 active connections on 10.1.0.1:80',
    '0 active connections on 10.1.0.1:80',
    '10.1.0.1:80 is out of the table (ipvsd undrain 10.1.0.1:80 calls it back)',
  ]);
  expect(director.service(id)?.realServers).toEqual([]);
});

test('the deadline ends the waiting', async () => {
  const { director, tools, said, seconds } = world(100);
  await drain(target, { deadlineSeconds: 2 }, tools);
  expect(seconds()).toBe(2);
  expect(said).toContain('The deadline has passed with 96 active connections');
  expect(director.service(id)?.realServers).toEqual([]);
});

test('with --keep it stays with weight 0, and undrain gives it a weight back', async () => {
  const { director, tools } = world(0);
  await drain(target, { deadlineSeconds: 1, keep: true }, tools);
  expect(director.service(id)?.realServers[0]?.weight).toBe(0);
  await expect(undrain(target, {}, tools)).rejects.toThrow('say --weight');
  await undrain(target, { weight: 4 }, tools);
  expect(director.service(id)?.realServers[0]?.weight).toBe(4);
});

test('a real server that nobody has cannot be drained', async () => {
  const { tools } = world(0);
  await expect(drain({ address: '10.9.9.9', port: undefined }, { deadlineSeconds: 1 }, tools)).rejects.toThrow(
    'Cannot drain 10.9.9.9: no virtual service has it',
  );
});
