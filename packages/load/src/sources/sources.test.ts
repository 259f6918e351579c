/** Each source against a server that speaks its protocol, and the agent against its own sources. */
import { createSocket } from 'node:dgram';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { readCommandOutput, startAgent } from '../agent/agent.ts';
import { cpuTimes, loadOf, measure } from '../agent/measure.ts';
import { Feedback } from '../feedback.ts';
import { agentSource } from './agent-source.ts';
import { httpSource, readReport } from './http-source.ts';
import { cpuSeconds, parseSamples, prometheusSource, readNode } from './prometheus-source.ts';
import { decodeResponse, encodeGet } from './snmp.ts';
import { readUcd, SS_CPU_IDLE, snmpSource } from './snmp-source.ts';
import { sourceFrom } from './source.ts';

const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push(server);
  return (server.address() as AddressInfo).port;
}

const speaking = (line: string) => listen(createServer((socket) => socket.end(line)));
const timeoutMs = 300;

describe('agent-check', () => {
  test('one line is read and understood', async () => {
    const port = await speaking('up 40% maxconn:9\n');
    const report = { state: 'up', weightPercent: 40, maxConnections: 9 };
    expect(await agentSource({ port, timeoutMs }).ask('127.0.0.1')).toEqual(report);
    expect((await agentSource({ port, timeoutMs, percentIsIdle: true }).ask('127.0.0.1')).load).toBeCloseTo(0.6);
  });

  test('drain lasts until ready, whatever is said meanwhile', async () => {
    const lines = ['drain 50%\n', 'up 80%\n', 'ready\n'];
    const port = await listen(createServer((socket) => socket.end(lines.shift() ?? 'up\n')));
    const source = agentSource({ port, timeoutMs });
    expect(await source.ask('127.0.0.1')).toEqual({ state: 'drain', weightPercent: 50 });
    expect(await source.ask('127.0.0.1')).toEqual({ state: 'drain', weightPercent: 80 });
    expect(await source.ask('127.0.0.1')).toEqual({ state: 'ready', weightPercent: 80 });
  });

  test('half a line, silence and a closed port change nothing: they are no answer', async () => {
    const half = await speaking('up 40%');
    const silent = await listen(createServer(() => {}));
    await expect(agentSource({ port: half, timeoutMs }).ask('127.0.0.1')).rejects.toThrow('closed before the end');
    await expect(agentSource({ port: silent, timeoutMs }).ask('127.0.0.1')).rejects.toThrow('no answer in time');
    await expect(agentSource({ port: 1, timeoutMs }).ask('127.0.0.1')).rejects.toThrow('ECONNREFUSED');
  });
});

describe('HTTP with JSON', () => {
  test('a number is found where it is said to be, and scaled', async () => {
    const port = await listen(createHttpServer((_, response) => response.end('{"system":{"load":1.5},"state":"up"}')));
    const source = httpSource({ port, timeoutMs, field: 'system.load', full: 3 });
    expect(await source.ask('127.0.0.1')).toEqual({ load: 0.5, state: 'up' });
  });

  test('an answer without the number is no answer, but a state alone is one', () => {
    expect(() => readReport({ other: 1 }, 'load', 1)).toThrow('there is no number "load"');
    expect(readReport({ state: 'drain' }, 'load', 1)).toEqual({ state: 'drain' });
  });
});

describe('Prometheus', () => {
  const metrics = (idle: number, running: number) => `# HELP node_cpu_seconds_total Seconds.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} ${idle}
node_cpu_seconds_total{cpu="0",mode="iowait"} 1
node_cpu_seconds_total{cpu="0",mode="user"} ${200 - idle} 1700000000000
node_load1 0.5
node_procs_running ${running}
odd{label="a \\"quoted\\" }"} 1e3
`;

  test('the CPU is what was not idle since the last look; the first look has the load average', async () => {
    const answers = [metrics(100, 1), metrics(100, 1).replace('"user"} 100', '"user"} 110')];
    const port = await listen(createHttpServer((_, response) => response.end(answers.shift())));
    const source = prometheusSource({ port, timeoutMs });
    expect(await source.ask('127.0.0.1')).toEqual({ load: 0.5 });
    expect(await source.ask('127.0.0.1')).toEqual({ load: 1 });
  });

  test('labels may hold anything, and what waits counts on top', () => {
    const samples = parseSamples(metrics(100, 4));
    expect(samples.at(-1)).toEqual({ name: 'odd', labels: { label: 'a \\"quoted\\" }' }, value: 1000 });
    const now = cpuSeconds(samples);
    expect(readNode(samples, now, { idle: now.idle - 5, all: now.all - 10 }).load).toBe(2.5);
  });
});

describe('SNMP', () => {
  test('a GET is what RFC 3416 says, byte for byte', () => {
    const sent = Buffer.from(encodeGet('public', 1, [SS_CPU_IDLE])).toString('hex');
    const binding = '300e060a2b060104018f650b0b000500';
    const request = `0201010201000201003010${binding}`;
    expect(sent).toBe(`302802010104067075626c6963a01b${request}`);
  });

  test('an agent that answers is understood, one that is silent is not waited for', async () => {
    const agent = createSocket('udp4', (bytes, { port, address }) => {
      // The answer is the question with another tag, and integers where there was nothing.
      const reply = Buffer.from(bytes.toString('hex').replace('a0', 'a2'), 'hex');
      const { id } = decodeResponse(reply);
      agent.send(response(id, 25), port, address);
    });
    await new Promise<void>((resolve) => agent.bind(0, '127.0.0.1', resolve));
    open.push(agent);
    const source = snmpSource({ port: agent.address().port, timeoutMs });
    expect((await source.ask('127.0.0.1')).load).toBeCloseTo(0.75);
    const silent = createSocket('udp4');
    await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
    open.push(silent);
    const other = snmpSource({ port: silent.address().port, timeoutMs: 100 });
    await expect(other.ask('127.0.0.1')).rejects.toThrow('no answer in time');
  });

  test('without the idle share the load average serves, by the number of CPUs', () => {
    const values = new Map([['1.3.6.1.4.1.2021.10.1.5.1', 250]]);
    expect(readUcd({ id: 1, error: 0, values }, 4)).toEqual({ load: 0.625 });
    expect(() => readUcd({ id: 1, error: 0, values: new Map() }, 4)).toThrow('no UCD figures');
  });

  /** ssCpuIdle.0 = value, as RFC 3416 encodes it. */
  function response(id: number, value: number): Buffer {
    const binding = Buffer.from('300f060a2b060104018f650b0b00', 'hex');
    const bindings = Buffer.concat([binding, Buffer.of(2, 1, value)]);
    const numbers = Buffer.concat([
      Buffer.of(2, 4),
      int32(id),
      Buffer.of(2, 1, 0, 2, 1, 0, 0x30, bindings.length),
      bindings,
    ]);
    const pdu = Buffer.concat([Buffer.of(0xa2, numbers.length), numbers]);
    const head = Buffer.concat([Buffer.of(2, 1, 1, 4, 6), Buffer.from('public')]);
    return Buffer.concat([Buffer.of(0x30, head.length + pdu.length), head, pdu]);
  }

  function int32(value: number): Buffer {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(value);
    return bytes;
  }
});

describe('the agent', () => {
  const stat = (user: number, idle: number, running: number) =>
    `cpu  ${user} 0 0 ${idle} 0 0 0 0 0 0\ncpu0 1 2 3\nprocs_running ${running}\n`;
  const meminfo = 'MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n';
  const sockstat = 'sockets: used 9\nTCP: inuse 7 orphan 0\n';

  test('CPU, memory, run queue and sockets make one load', () => {
    const before = cpuTimes(stat(100, 100, 1));
    const seen = measure({ stat: stat(130, 170, 1), meminfo, sockstat }, before, 2);
    expect(seen).toEqual({ cpu: 0.3, memory: 0.4, running: 1, cpus: 2, sockets: 7 });
    expect(loadOf(seen)).toBe(0.3);
    expect(loadOf({ ...seen, cpu: 1, running: 7 }), 'four wait for two CPUs').toBe(3);
    expect(loadOf({ ...seen, memory: 0.95 })).toBeCloseTo(0.5);
  });

  test('answers agent-check and HTTP, and what the operator has to say comes first', async () => {
    let user = 0;
    const read = () => {
      user += 25;
      return { stat: stat(user, user * 3, 1), meminfo, sockstat };
    };
    const agent = await startAgent({ host: '127.0.0.1', agentPort: 0, httpPort: 0, read, periodMs: 10_000 });
    open.push(agent);
    expect((await agentSource({ port: agent.agentPort!, timeoutMs }).ask('127.0.0.1')).weightPercent).toBe(75);
    expect((await httpSource({ port: agent.httpPort!, timeoutMs }).ask('127.0.0.1')).load).toBeCloseTo(0.25);
    const drained = await startAgent({ host: '127.0.0.1', agentPort: 0, read, drainFile: '/proc/self/stat' });
    open.push(drained);
    expect((await agentSource({ port: drained.agentPort!, timeoutMs }).ask('127.0.0.1')).state).toBe('drain');
    expect(readCommandOutput(' 85.5\n')).toEqual({ load: 0.855 });
    expect(readCommandOutput('drain')).toEqual({ state: 'drain' });
  });
});

test('a source is named by a word, a port and a path', () => {
  expect(() => sourceFrom('http:8080/load')).not.toThrow();
  expect(() => sourceFrom('snmp')).not.toThrow();
  expect(() => sourceFrom('telepathy')).toThrow('Cannot use load source "telepathy"');
  expect(() => sourceFrom('agent:70000')).toThrow('port must be 1..65535');
});

test('a host is asked once for all its services, and its silence is told once', async () => {
  const asked: string[] = [];
  const complaints: string[] = [];
  let now = 0;
  const weights = new Map<string, number | undefined>();
  const feedback = new Feedback({
    openSource: (name) => ({
      ask: async (address) => {
        asked.push(`${name} ${address}`);
        if (address === 'c') throw new Error('no answer in time');
        return { load: address === 'a' ? 0.9 : 0.1 };
      },
    }),
    now: () => now,
    apply: (service, reasons) => {
      for (const { key, weight } of reasons) weights.set(`${service} ${key}`, weight);
    },
    complain: (address) => complaints.push(address),
  });
  const servers = ['a', 'b', 'c'].map((address) => ({ key: `${address}:80`, address, configuredWeight: 1 }));
  feedback.setServices([
    { key: 'one', servers, source: 'agent', everyMs: 1000 },
    { key: 'two', servers: servers.slice(0, 2), source: 'agent', everyMs: 1000 },
    { key: 'three', servers: servers.slice(0, 1), source: 'http', everyMs: 5000 },
  ]);
  for (let turn = 0; turn < 10; turn++) {
    await feedback.turn();
    now += 1000;
  }
  expect(asked.filter((question) => question.startsWith('agent')).length).toBe(30);
  expect(asked.filter((question) => question.startsWith('http')).length, 'another source, every 5 s').toBe(2);
  expect(complaints).toEqual(['c']);
  const [a = 0, b = 0, c = 0] = servers.map(({ key }) => weights.get(`one ${key}`));
  expect(a).toBeLessThan(c);
  expect(c).toBe(100);
  expect(b).toBeGreaterThan(c);
  expect(feedback.explain('two', 'a:80')?.because).toContain('busier');
});
