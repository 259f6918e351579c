/**
 * Plays tcp-states.jsonl and sctp-states.jsonl: crafted packets one at a time from a client and a real server that answer
 * nothing by themselves, and after each the entry's state, its time left, and whether the packet came out on the other side.
 */
import type { ConnectionEntry } from '@ipvsd/director';
import type { Names } from '@ipvsd/ipvsadm';
import type { Difference, Result } from './report.ts';
import { type MakePlane, Stage, splitArgs } from './stage.ts';
import { type Ends, parsePacket, sctpPacket, tcpPacket } from './wire.ts';

export interface StateSequence {
  readonly set: string;
  readonly setup: readonly string[];
  readonly sysctls: readonly (readonly [string, string | number])[];
  readonly steps: readonly StateStep[];
}

interface StateStep {
  readonly pkt: string;
  readonly conn: readonly [string, number] | null;
  readonly forwarded: number;
}

const CLIENT = { 4: '192.168.77.1', 6: '2001:db8:77::1' } as const;
const CLIENT_PORT = 5000;
/** The recorder looked a moment after each packet. */
const MOMENT = 20_000;
const SECOND = 1_000_000;

export async function playStates(
  topic: string,
  index: number,
  sequence: StateSequence,
  makePlane: MakePlane,
  names: Names,
): Promise<Result> {
  const method = sequence.setup.some((line) => / -[gi]( |$)/.test(line)) ? 'dr' : 'nat';
  const stage = new Stage({ makePlane, names, forward: method });
  try {
    const scenario = `${sequence.set}-${String(index).padStart(4, '0')} ${sequence.steps.map(({ pkt }) => pkt || '-').join(' ')}`;
    return { topic, scenario, differences: await play(stage, sequence, method) };
  } finally {
    stage.close();
  }
}

async function play(stage: Stage, { setup, sysctls, steps }: StateSequence, method: string): Promise<Difference[]> {
  const differences: Difference[] = [];
  const differ = (event: number, what: string, expected: unknown, actual: unknown): void => {
    differences.push({ event, what, expected: JSON.stringify(expected), actual: JSON.stringify(actual) });
  };
  for (const [name, value] of sysctls) {
    const refused = stage.sysctl(name, String(value));
    if (refused !== undefined) differ(0, `sysctl ${name}`, 'accepted', refused);
  }
  for (const line of setup) {
    const { status, stderr } = await stage.ipvsadm(splitArgs(line));
    if (status !== 0) differ(0, `ipvsadm ${line}`, 0, `${status} ${stderr}`);
  }
  if (differences.length > 0) return differences;
  const ends = endsOf(setup);
  for (const [event, step] of steps.entries()) {
    const forwarded = send(stage, step.pkt, ends, method);
    const found = [...stage.plane.director.connections()].find(({ client }) => client.port === CLIENT_PORT);
    if (!sameEntry(step.conn, found)) {
      differ(event, `entry after ${step.pkt}`, step.conn, found ? [found.state, found.expiresSeconds] : null);
    }
    if (forwarded !== step.forwarded) differ(event, `forwarded after ${step.pkt}`, step.forwarded, forwarded);
  }
  return differences;
}

/** Carries out one step: the packets that came out on the other side. */
function send(stage: Stage, what: string, ends: SetupEnds, method: string): number {
  const wait = /^z(\d+)$/.exec(what);
  if (wait) {
    stage.clock.advanceTo(stage.clock.now + Number(wait[1]) * SECOND);
    return 0;
  }
  const inward = what.startsWith('i');
  if (!inward && !what.startsWith('o')) throw new Error(`Cannot play "${what}": a step is i..., o... or zN`);
  const client = { source: ends.client, sourcePort: CLIENT_PORT, destination: ends.vip, destinationPort: ends.vport };
  const server =
    method === 'nat' ? { source: ends.real, sourcePort: ends.rport } : { source: ends.vip, sourcePort: ends.vport };
  const to = inward ? client : { ...server, destination: ends.client, destinationPort: CLIENT_PORT };
  const packet = ends.protocol === 'sctp' ? craftSctp(what.slice(1), to) : craftTcp(what.slice(1), to);
  const kind = parsePacket(packet).protocol;
  let forwarded = 0;
  const unwatch = stage.network.watch((seen, side, direction) => {
    if (direction === 'out' && side === (inward ? 'server' : 'client') && parsePacket(seen).protocol === kind)
      forwarded++;
  });
  stage.network.toDirector(packet, inward ? 'client' : 'server');
  stage.clock.settle();
  unwatch();
  stage.clock.advanceTo(stage.clock.now + MOMENT);
  return forwarded;
}

/** An entry of 0 seconds is one whose time is over and which the kernel's timer wheel has yet to reach. */
function sameEntry(expected: StateStep['conn'], found: ConnectionEntry | undefined): boolean {
  if (expected === null) return found === undefined;
  if (found === undefined) return expected[1] === 0;
  return found.state === expected[0] && Math.abs(found.expiresSeconds - expected[1]) <= 1;
}

interface SetupEnds {
  readonly protocol: 'tcp' | 'sctp';
  readonly client: string;
  readonly vip: string;
  readonly vport: number;
  readonly real: string;
  readonly rport: number;
}

function endsOf(setup: readonly string[]): SetupEnds {
  const virtual = endOf(setup, /(?:^| )(-t|--tcp-service|--sctp-service) (\S+)/);
  const real = endOf(setup, /(?:^| )(-r|--real-server) (\S+)/);
  return {
    protocol: virtual.option === '--sctp-service' ? 'sctp' : 'tcp',
    client: CLIENT[virtual.address.includes(':') ? 6 : 4],
    vip: virtual.address,
    vport: virtual.port,
    real: real.address,
    rport: real.port,
  };
}

function endOf(setup: readonly string[], option: RegExp): { option: string; address: string; port: number } {
  for (const line of setup) {
    const match = option.exec(line);
    const end = match && /^\[?([^\]]*?)\]?:(\d+)$/.exec(match[2]!);
    if (match && end) return { option: match[1]!, address: end[1]!, port: Number(end[2]) };
  }
  throw new Error(`Cannot play ${JSON.stringify(setup)}: it names no ${option.source}`);
}

function craftTcp(flags: string, ends: Ends): Uint8Array {
  return tcpPacket({ ...ends, flags, sequence: 1000, acknowledgement: 0 });
}

const CHUNKS: Readonly<Record<string, number>> = {
  DATA: 0,
  INIT: 1,
  INIT_ACK: 2,
  SACK: 3,
  HB: 4,
  HEARTBEAT: 4,
  HB_ACK: 5,
  HEARTBEAT_ACK: 5,
  ABORT: 6,
  SHUTDOWN: 7,
  SHUTDOWN_ACK: 8,
  ERROR: 9,
  COOKIE_ECHO: 10,
  COOKIE_ACK: 11,
  ECNE: 12,
  CWR: 13,
  SHUTDOWN_COMPLETE: 14,
};
const BODIES: Readonly<Record<string, number>> = {
  DATA: 16,
  INIT: 16,
  INIT_ACK: 16,
  SACK: 12,
  SHUTDOWN: 4,
  COOKIE_ECHO: 8,
  HB: 8,
};

function craftSctp(names: string, ends: Ends): Uint8Array {
  const chunks = names.split('+').map((name) => {
    const type = CHUNKS[name];
    if (type === undefined) throw new Error(`Cannot craft the SCTP chunk "${name}": its number is not known`);
    const chunk = new Uint8Array(4 + (BODIES[name] ?? 0));
    chunk[0] = type;
    chunk[3] = chunk.length;
    return chunk;
  });
  return sctpPacket(ends, chunks);
}
