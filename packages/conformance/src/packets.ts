/**
 * Replays captures: each frame that went into the director goes in again at its time, and what comes out must be what came out
 * then, byte for byte, but for link addresses and the values that the recordings' README calls random.
 *
 * A side's capture has its frames in true order. A recorded frame that came out waits until ours has; meanwhile the other
 * side goes on. So no guess is needed at frames of the two captures that bear the same time.
 */
import type { Names } from '@ipvsd/ipvsadm';
import type { Scenario } from './events.ts';
import { compareConnections, type RecordedConnection, recordedForm } from './listing.ts';
import { type CapturedFrame, readPcap } from './pcap.ts';
import type { Side } from './plane.ts';
import type { Recordings } from './recordings.ts';
import type { Difference, Result } from './report.ts';
import { type MakePlane, Stage, splitArgs } from './stage.ts';
import { describePacket, GRE, ICMP, ICMPV6, IPIP, IPV6_IN_IP, parsePacket, UDP } from './wire.ts';

/** Conditions of FTP sessions that an excuse may be for. */
function conditionsOf({ module = '', setup, desc = '' }: Flow): string[] {
  const otherPort = module.includes('ports=') && setup.some((line) => /^-A -t \S+:(?!21 )\d+ /.test(line));
  return otherPort && !desc.includes('connection tracking') ? ['FTP port without connection tracking'] : [];
}

/** A recorded flow. */
export interface Flow {
  readonly name: string;
  readonly desc?: string;
  readonly setup: readonly string[];
  readonly sysctls?: readonly (readonly [string, string | number])[];
  readonly files: Readonly<Partial<Record<Side, { readonly file: string }>>>;
  readonly conns?: readonly RecordedConnection[];
  /** Of FTP sessions: what `modprobe` was called with, or "not loaded". */
  readonly module?: string;
  /** The table at stages of the session, in order; at which packets is not recorded. */
  readonly snaps?: readonly { readonly when: string; readonly conns: readonly RecordedConnection[] }[];
  /** `ipvsadm -Ln` at the end. */
  readonly Ln?: string;
}

/** Ports that IPVS's module for FTP helps, where a recording says how it was loaded. */
function helpedPorts(module: string): string {
  if (module === 'not loaded') return 'none';
  const found = /^ip_vs_ftp(?: ports=([0-9,]+))?$/.exec(module);
  if (found === null)
    throw new Error(`Cannot replay with module "${module}": must be "ip_vs_ftp [ports=...]" or "not loaded"`);
  return found[1] ?? '21';
}

export interface ReplayOptions {
  readonly recordings: Recordings;
  readonly makePlane: MakePlane;
  readonly names: Names;
}

export async function replay(
  topic: string,
  flow: Flow,
  { recordings, makePlane, names }: ReplayOptions,
): Promise<Result> {
  const stage = new Stage({ makePlane, names, forward: 'nat', mute: true });
  const differences: Difference[] = [];
  const differ = (event: number, what: string, expected: string, actual: string): void => {
    differences.push({ event, what, expected, actual });
  };
  try {
    for (const [name, value] of flow.sysctls ?? []) {
      const refused = stage.sysctl(name, String(value));
      if (refused !== undefined) differ(0, `sysctl ${name}`, 'accepted', refused);
    }
    if (flow.module !== undefined) stage.sysctl('ftp_ports', helpedPorts(flow.module));
    for (const line of flow.setup) {
      const { status, stderr } = await stage.ipvsadm(splitArgs(line));
      if (status !== 0) differ(0, `ipvsadm ${line}`, '0', `${status} ${stderr}`);
    }
    const captures = Object.entries(flow.files).map(([side, { file }]) => {
      return [side as Side, readPcap(recordings.bytes(file), file)] as const;
    });
    const snaps = [...(flow.snaps ?? [])];
    const table = (): RecordedConnection[] => [...stage.plane.director.connections()].map(recordedForm);
    const passSnaps = (): void => {
      while (snaps[0] !== undefined && compareConnections(snaps[0].conns, table(), true).found.length === 0)
        snaps.shift();
    };
    differences.push(...new Replay(stage, captures, passSnaps).play());
    const ours = table();
    for (const { when, conns } of snaps.slice(0, 1)) {
      differ(
        -1,
        `a table as recorded "${when}"`,
        JSON.stringify(conns),
        `none in time; at the end ${JSON.stringify(ours)}`,
      );
    }
    if (flow.Ln !== undefined) {
      const { stdout } = await stage.ipvsadm(['-Ln']);
      if (stdout !== flow.Ln) differ(-1, 'ipvsadm -Ln at the end', flow.Ln, stdout);
    }
    for (const { what, expected, actual } of compareConnections(flow.conns ?? [], ours, true).found) {
      if (flow.conns !== undefined) differ(-1, what, expected, actual);
    }
    return { topic, scenario: flow.name, differences, ops: conditionsOf(flow) };
  } finally {
    stage.close();
  }
}

/** Flows of behaviour-pcaps/: a scenario's commands, and the captures that bear its name. */
export function behaviourFlows(scenarios: readonly Scenario[], files: readonly string[]): Flow[] {
  const flows: Flow[] = [];
  for (const { scenario, events } of scenarios) {
    const named = events.flatMap(({ pcap }) => (typeof pcap === 'string' ? [pcap.replace(/^.*\//, '')] : []));
    const own = files.filter((file) => {
      const stem = file.replace(/\.(client|server)\.pcap$/, '');
      return stem !== file && scenario.startsWith(stem);
    });
    const sides: Partial<Record<Side, { file: string }>> = {};
    for (const file of own)
      sides[file.includes('.server.') ? 'server' : 'client'] = { file: `behaviour-pcaps/${file}` };
    for (const file of named) if (files.includes(file)) sides.client = { file: `behaviour-pcaps/${file}` };
    if (Object.keys(sides).length === 0) continue;
    const first = events.findIndex(({ op }) => ['connect', 'udp', 'raw'].includes(op));
    const before = events.slice(0, first < 0 ? events.length : first);
    flows.push({
      name: `behaviour-pcaps/${scenario}`,
      setup: before.filter(({ op }) => op === 'ipvsadm').map(({ args }) => String(args)),
      sysctls: before.filter(({ op }) => op === 'sysctl').map(({ name, value }) => [String(name), String(value)]),
      files: sides,
    });
  }
  return flows;
}

interface Capture {
  readonly side: Side;
  readonly frames: readonly CapturedFrame[];
  next: number;
  /** What came out here and is not compared yet. */
  readonly out: Uint8Array[];
}

class Replay {
  readonly #stage: Stage;
  readonly #captures: readonly Capture[];
  readonly #differences: Difference[] = [];
  /** Asked before and after each frame that goes in. */
  readonly #look: () => void;
  #event = 0;

  constructor(stage: Stage, captures: readonly (readonly [Side, readonly CapturedFrame[]])[], look: () => void) {
    this.#stage = stage;
    this.#look = look;
    this.#captures = captures.map(([side, frames]) => ({ side, frames, next: 0, out: [] }));
    stage.network.watch((packet, side, direction) => {
      if (direction === 'out') this.#captures.find((capture) => capture.side === side)?.out.push(packet);
    });
  }

  play(): readonly Difference[] {
    const start = Math.min(...this.#captures.map(({ frames }) => frames[0]?.time ?? Infinity));
    for (;;) {
      for (const capture of this.#captures) this.#compareWhatCameOut(capture);
      const waiting = this.#captures.filter(({ frames, next }) => frames[next] !== undefined);
      if (waiting.length === 0) break;
      const ready = waiting.filter((capture) => cameIn(head(capture)));
      const from = earliest(ready.length > 0 ? ready : waiting);
      const frame = head(from);
      from.next++;
      if (cameIn(frame)) {
        this.#stage.clock.advanceTo(Math.max(this.#stage.clock.now, Math.round(frame.time - start)));
        this.#look();
        this.#stage.network.toDirector(frame.bytes.slice(14), from.side);
        this.#stage.clock.settle();
        this.#look();
      } else {
        this.#differ(`frame out on the ${from.side} side`, describePacket(frame.bytes.slice(14)), 'nothing');
      }
    }
    for (const { side, out } of this.#captures) {
      for (const packet of out) this.#differ(`frame out on the ${side} side`, 'nothing', describePacket(packet));
    }
    return this.#differences;
  }

  #compareWhatCameOut(capture: Capture): void {
    while (capture.out.length > 0 && capture.frames[capture.next] !== undefined && !cameIn(head(capture))) {
      const expected = head(capture).bytes.slice(14);
      const actual = capture.out.shift()!;
      capture.next++;
      const what = differenceOf(expected, actual);
      if (what !== undefined)
        this.#differ(`frame out on the ${capture.side} side, ${what}`, hex(expected), hex(actual));
    }
  }

  #differ(what: string, expected: string, actual: string): void {
    this.#differences.push({ event: this.#event++, what, expected, actual });
  }
}

const head = ({ frames, next }: Capture): CapturedFrame => frames[next]!;
const earliest = (captures: readonly Capture[]): Capture =>
  captures.reduce((best, capture) => (head(capture).time < head(best).time ? capture : best));

/** Addressed to the director's interface (02:00:00:00:SS:01). */
const cameIn = ({ bytes }: CapturedFrame): boolean => bytes[5] === 1;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(0, 96)).toString('hex');

/** Where two packets differ, in what is not left to chance. */
function differenceOf(expected: Uint8Array, actual: Uint8Array): string | undefined {
  const [a, b] = [withoutChance(expected), withoutChance(actual)];
  const at = a.findIndex((byte, i) => byte !== b[i]);
  if (at < 0 && a.length === b.length) return undefined;
  return at < 0 ? `length ${a.length}, not ${b.length}` : `byte ${at}`;
}

const OWN = new Set(['10.1.0.1', '10.2.0.1', '10.1.0.100', '2001:db8:1::1', '2001:db8:2::1', '2001:db8:1::100']);
const TUNNELS = [IPIP, IPV6_IN_IP, GRE, UDP];

/** The kernel's IPVS sees a packet of fragments whole and makes new ones, with an id of its own. */
function withoutFragmentId(packet: Uint8Array): Uint8Array {
  if (packet[0]! >> 4 !== 6 || packet[6] !== 44) return packet;
  const copy = packet.slice();
  copy.fill(0, 44, 48);
  return copy;
}

/** The packet with zeros where the director draws at random: only in packets that it makes itself. */
function withoutChance(packet: Uint8Array): Uint8Array {
  const p = parsePacket(packet);
  const tunnel = ['10.2.0.1', '2001:db8:2::1'].includes(p.source) && TUNNELS.includes(p.protocol);
  const error = OWN.has(p.source) && (p.protocol === ICMP || p.protocol === ICMPV6);
  if (!tunnel && !error) return withoutFragmentId(packet);
  const copy = packet.slice();
  if (p.family === 4) {
    // Identification, and the checksum over it.
    copy.fill(0, 4, 6);
    copy.fill(0, 10, 12);
  } else {
    copy[1]! &= 0xf0;
    copy.fill(0, 2, 4);
    if (packet[6] === 44) copy.fill(0, 44, 48);
  }
  if (tunnel && p.protocol === UDP && p.fragmentOffset === 0) {
    const at = copy.length - p.transport.length;
    copy.fill(0, at, at + 2);
    // Where there is a checksum it covers the source port.
    if (p.transport[6] !== 0 || p.transport[7] !== 0) copy.set([0xff, 0xff], at + 6);
  }
  return copy;
}
