import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionEntry, MemoryDirector, type ServiceSettings } from '@ipvsd/director';
import { afterAll, expect, test } from 'vitest';
import { explainClient, explainWeight } from './explain.ts';
import { plan } from './plan.ts';

const folder = mkdtempSync(join(tmpdir(), 'ipvsd-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));
const controlPath = join(folder, 'nobody.sock');
const id = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '10.0.0.1', port: 80 } as const;
const tunnel = { type: 'ipip', port: 0, checksum: 'none' } as const;

function director(connections: readonly ConnectionEntry[] = [], more: Partial<ServiceSettings> = {}): MemoryDirector {
  const made = new MemoryDirector({ connections });
  const none = { schedulerFlags: 0, persistence: null, persistenceEngine: null, onePacket: false };
  const settings = { scheduler: 'rr', ...none, ...more };
  made.execute({ kind: 'addService', service: id, settings });
  for (const address of ['10.1.0.1', '10.1.0.2']) {
    const thresholds = { upperThreshold: 0, lowerThreshold: 0 };
    const server = { address, port: 80 };
    made.execute({
      kind: 'addServer',
      service: id,
      server,
      settings: { forwarding: 'masq', weight: 1, ...thresholds, tunnel },
    });
  }
  return made;
}

async function planned(text: string, from = director()): Promise<string[]> {
  const path = join(folder, 'k.conf');
  writeFileSync(path, text);
  const said: string[] = [];
  const before = from.table();
  await plan(path, { director: from, controlPath, write: (line) => said.push(line.trim()) });
  expect(from.table(), 'a plan changes nothing').toBe(before);
  return said;
}

const head = 'virtual_server 10.0.0.1 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n';

test('the plan lists what would be added, removed and changed, and whom it touches', async () => {
  const text = `${head}real_server 10.1.0.1 80 {\nweight 5\n}\nreal_server 10.1.0.3 80 {\n}\n}\n`;
  expect(await planned(text)).toEqual([
    '- real server 10.1.0.2 80 of tcp 10.0.0.1 80 (0 connections lose it)',
    '~ real server 10.1.0.1 80 of tcp 10.0.0.1 80, weight 5 (0 connections stay)',
    '+ real server 10.1.0.3 80 of tcp 10.0.0.1 80, weight 1',
    '3 changes; all else stays untouched',
  ]);
});

test('a configuration that is in force already changes nothing', async () => {
  const text = `${head}real_server 10.1.0.1 80 {\n}\nreal_server 10.1.0.2 80 {\n}\n}\n`;
  expect(await planned(text)).toEqual(['Nothing would change']);
});

test('a configuration that is refused is not planned', async () => {
  await expect(planned(`${head}quorum\n}\n`)).rejects.toThrow('is refused');
});

test('explain names the connection of a client, else its template, else the choice', () => {
  const virtual = { address: '10.0.0.1', port: 80 };
  const entry = (port: number, real: string): ConnectionEntry => ({
    protocol: 'tcp',
    client: { address: '192.0.2.7', port },
    virtual,
    real: { address: real, port: 80 },
    state: port === 0 ? 'NONE' : 'ESTABLISHED',
    expiresSeconds: 60,
    synced: false,
    persistenceEngine: null,
    persistenceData: null,
  });
  const explain = (port: number, connections: readonly ConnectionEntry[], address = '192.0.2.7'): string => {
    const persistence = { timeoutSeconds: 300, netmask: 0xffff_ff00 };
    return explained(director(connections, { persistence }), { address, port });
  };
  const connections = [entry(0, '10.1.0.2'), entry(4000, '10.1.0.1')];
  expect(explain(4000, connections)).toContain('10.1.0.1:80: it has a connection, ESTABLISHED');
  expect(explain(4001, connections)).toContain('10.1.0.2:80: persistence binds this client');
  expect(explain(4001, connections, '192.0.2.99'), 'of the same network').toContain('10.1.0.2:80: persistence binds');
  expect(explain(4001, connections, '192.0.3.7')).toContain('No connection and no persistence');
  expect(explain(4001, [])).toContain('rr would choose among\n  10.1.0.2:80 weight 1');
});

test('explain names whom the scheduler would choose now', () => {
  const from = director([], { scheduler: 'sh' });
  const [, second] = [...from.table().services.values()][0]!.realServers;
  const told = Object.assign(from, { choice: () => second });
  expect(explained(told, { address: '192.0.2.7', port: 4000 })).toContain(
    `${second!.address}:80: no connection and no persistence; sh would choose it now`,
  );
});

function explained(from: MemoryDirector, client: { address: string; port: number }): string {
  let text = '';
  const write = (part: string): void => {
    text += part;
  };
  explainClient(client, { address: '10.0.0.1', port: 80 }, { director: from, controlPath, write });
  return text;
}

test('explain says by which loads ll would choose, and by which connections where nobody reports any', () => {
  const client = { address: '192.0.2.7', port: 4000 };
  const from = director([], { scheduler: 'll' });
  expect(explained(from, client)).toContain('ll takes the least cost');
  const loads = [
    { reported: 0.5, since: 3, estimate: 0.62 },
    { reported: undefined, since: 2, estimate: 0.55 },
  ];
  const told = Object.assign(from, { loads: () => loads });
  expect(explained(told, client).split('\n')).toEqual([
    '10.1.0.1:80: no connection and no persistence; ll takes the least load',
    '  10.1.0.2:80 reported 0.50, 3 connections opened since: counts as 0.62',
    '  10.1.0.1:80 has not reported, 2 active connections: counts as 0.55',
    '',
  ]);
});

test('without a daemon nobody can explain a weight', async () => {
  const tools = { director: director(), controlPath, write() {} };
  const place = { address: '10.0.0.1', port: 80 };
  await expect(explainWeight(place, place, tools)).rejects.toThrow('no daemon runs');
});
