import { readFileSync } from 'node:fs';
import { type ConnectionEntry, type EndPoint, MemoryDirector, parseAddress } from '@ipvsd/director';
import { expect, test } from 'vitest';
import { CapturedOutput, textInput } from './io.ts';
import { formatProcConnections, formatProcSyncedConnections } from './proc.ts';
import { runIpvsadm } from './run.ts';
import { fileNames } from './services-names.ts';

interface Recording {
  readonly scenario: string;
  readonly conns: readonly RecordedConnection[];
  readonly command: string;
  readonly stdout: string;
}

interface RecordedConnection {
  readonly proto: string;
  readonly client: string;
  readonly virtual: string;
  readonly dest: string;
  readonly state: string;
  readonly expires: number;
  readonly pe?: readonly [string, string];
}

const recordings = readFileSync(new URL('../golden/connections.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Recording);

const names = fileNames('10.2.0.11 rs1.example.net rs1', 'http 80/tcp\nsip 5060/udp\nsip-tls 5061/udp');

// The order of the recording is that of a hash with a random seed.
const asSet = (text: string) => text.split('\n').sort();

test.each(recordings)('$scenario: $command', async ({ conns, command, stdout }) => {
  const entries = conns.map(connectionEntry);
  expect(asSet(await show(command, entries))).toEqual(asSet(stdout));
});

test('a hundred thousand connections are written in pieces while they are read', async () => {
  let read = 0;
  const unread: number[] = [];
  function* many(): Generator<ConnectionEntry> {
    for (; read < 100_000; read++) yield connectionEntry(recordings[0]!.conns[0]!);
  }
  let written = 0;
  const stdout = {
    write: (text: string) => {
      written += text.split('\n').length - 1;
      unread.push(read - written);
    },
  };
  await run(['-Lnc'], many(), stdout);
  expect(written).toBe(100_002);
  expect(Math.max(...unread)).toBeLessThan(1000);
});

async function show(command: string, entries: readonly ConnectionEntry[]): Promise<string> {
  if (command === 'cat /proc/net/ip_vs_conn') return [...formatProcConnections(entries)].join('');
  if (command === 'cat /proc/net/ip_vs_conn_sync') return [...formatProcSyncedConnections(entries)].join('');
  const stdout = new CapturedOutput();
  await run(command.split(' '), entries, stdout);
  return stdout.text;
}

function run(argv: readonly string[], connections: Iterable<ConnectionEntry>, stdout: { write(text: string): void }) {
  const director = new MemoryDirector({ connections });
  const stderr = new CapturedOutput();
  return runIpvsadm(argv, {
    director: () => director,
    stdin: textInput(''),
    stdout,
    stderr,
    names,
    programName: 'ipvsadm',
  });
}

function connectionEntry({ proto, client, virtual, dest, state, expires, pe }: RecordedConnection): ConnectionEntry {
  return {
    protocol: proto.toLowerCase() as ConnectionEntry['protocol'],
    client: endPoint(client),
    virtual: endPoint(virtual),
    real: endPoint(dest),
    state,
    expiresSeconds: expires,
    synced: false,
    persistenceEngine: pe?.[0] ?? null,
    persistenceData: pe?.[1] ?? null,
  };
}

function endPoint(text: string): EndPoint {
  const colon = text.lastIndexOf(':');
  const address = parseAddress(text.slice(0, colon).replace(/[[\]]/g, ''));
  return { address: address!, port: Number(text.slice(colon + 1)) };
}
