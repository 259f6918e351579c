/** Plays the topics of a folder, one scenario after the other. */

import type { Names } from '@ipvsd/ipvsadm';
import { openPorts, playScenario, type Scenario } from './events.ts';
import { playIpvsadm } from './ipvsadm.ts';
import { NodeTestPlane } from './node-plane.ts';
import { behaviourFlows, type Flow, replay } from './packets.ts';
import { Recordings } from './recordings.ts';
import type { Difference, Excuses, Result } from './report.ts';
import { nameOf } from './report.ts';
import { type MakePlane, recordedNames } from './stage.ts';
import { playStates, type StateSequence } from './states.ts';

export interface RunOptions {
  readonly folder: string;
  readonly plane: 'node' | 'kernel';
  /** Undefined: all that the folder has. */
  readonly topics?: readonly string[];
  readonly excuses: Excuses;
  /** The recording machine's /etc/services. */
  readonly services: string;
  /** Only scenarios whose name contains this. */
  readonly only?: string;
}

interface Context {
  readonly recordings: Recordings;
  readonly plane: RunOptions['plane'];
  readonly makePlane: MakePlane;
  readonly names: Names;
  readonly wanted: (name: string) => boolean;
}

interface Topic {
  readonly name: string;
  readonly file: string;
  play(context: Context): AsyncIterable<Result>;
}

const states = (name: string): Topic => ({
  name,
  file: `${name}.jsonl`,
  async *play({ recordings, makePlane, names, wanted }) {
    for (const [index, sequence] of recordings.lines<StateSequence>(`${name}.jsonl`).entries()) {
      if (wanted(sequence.set)) yield await playStates(name, index, sequence, makePlane, names);
    }
  },
});

const scenarios = (name: string): Topic => ({
  name,
  file: `${name}.jsonl`,
  async *play({ recordings, makePlane, names, wanted }) {
    const all = recordings.lines<Scenario>(`${name}.jsonl`);
    const open = openPorts(all);
    for (const scenario of all) {
      if (wanted(scenario.scenario)) yield await playScenario(name, scenario, { makePlane, names, open });
    }
  },
});

const packets: Topic = {
  name: 'packets',
  file: 'packets.jsonl',
  async *play({ recordings, makePlane, names, wanted }) {
    const flows = recordings.lines<Flow>('packets.jsonl');
    if (recordings.has('ftp.jsonl')) flows.push(...recordings.lines<Flow>('ftp.jsonl'));
    if (recordings.has('behaviour.jsonl')) {
      flows.push(...behaviourFlows(recordings.lines<Scenario>('behaviour.jsonl'), recordings.files('behaviour-pcaps')));
    }
    for (const flow of flows) {
      if (wanted(flow.name)) yield await replay('packets', flow, { recordings, makePlane, names });
    }
  },
};

const ipvsadm: Topic = {
  name: 'ipvsadm',
  file: 'ipvsadm.jsonl',
  play: ({ recordings, plane, names, wanted }) => playIpvsadm(recordings.folder, plane, names, wanted),
};

export const TOPICS: readonly Topic[] = [
  scenarios('scheduling'),
  scenarios('behaviour'),
  scenarios('random-sequences'),
  states('tcp-states'),
  states('sctp-states'),
  packets,
  ipvsadm,
];

/** Recordings of what this project does not do yet. */
const NOT_PLAYED = ['sync.jsonl', 'sync-inject.jsonl'];

/** On both planes: a scenario agrees where it does on each. */
export async function* runOnBoth(options: Omit<RunOptions, 'plane'>): AsyncGenerator<Result> {
  const inNode = new Map<string, Result>();
  for await (const result of run({ ...options, plane: 'node' })) inNode.set(nameOf(result), result);
  for await (const result of run({ ...options, plane: 'kernel' })) {
    const on = (plane: string, { differences }: Result): Difference[] =>
      differences.map((difference) => ({ ...difference, what: `${difference.what} (${plane})` }));
    const other = inNode.get(nameOf(result))!;
    const excuse = result.excuse ?? other.excuse;
    const differences = [...on('kernel', result), ...on('Node', other)];
    yield { ...result, differences, ...(excuse !== undefined && { excuse }) };
  }
}

export async function* run(options: RunOptions): AsyncGenerator<Result> {
  const recordings = new Recordings(options.folder);
  const topics = chosen(options, recordings);
  const { makePlane, close } = await planeMaker(options.plane);
  const names = recordedNames(options.services);
  const wanted = (name: string): boolean => options.only === undefined || name.includes(options.only);
  try {
    for (const topic of topics) {
      for await (const result of topic.play({ recordings, plane: options.plane, makePlane, names, wanted })) {
        const excuse =
          options.excuses[nameOf(result)] ?? result.ops?.map((op) => options.excuses[`op ${op}`]).find(Boolean);
        yield excuse === undefined || result.differences.length === 0 ? result : { ...result, excuse };
      }
    }
  } finally {
    close();
  }
}

function chosen({ topics }: RunOptions, recordings: Recordings): readonly Topic[] {
  if (topics === undefined) {
    const there = TOPICS.filter(({ file }) => recordings.has(file));
    const known = [...TOPICS.map(({ file }) => file), 'ftp.jsonl', ...NOT_PLAYED];
    const strange = recordings.files('.').filter((file) => file.endsWith('.jsonl') && !known.includes(file));
    if (strange.length > 0) throw new Error(`Cannot play "${strange.join('", "')}": no topic knows that file`);
    if (there.length === 0) throw new Error(`Cannot play "${recordings.folder}": it has no file of any topic`);
    return there;
  }
  return topics.map((name) => {
    const topic = TOPICS.find((known) => known.name === name);
    if (topic !== undefined) return topic;
    throw new Error(`Cannot play topic "${name}": must be one of ${TOPICS.map((known) => known.name).join(', ')}`);
  });
}

interface Maker {
  readonly makePlane: MakePlane;
  close(): void;
}

async function planeMaker(plane: 'node' | 'kernel'): Promise<Maker> {
  if (plane === 'node') return { makePlane: (options) => new NodeTestPlane(options), close: () => {} };
  const { KernelTestPlane, KernelWorld } = await import('./kernel-plane.ts');
  const world = new KernelWorld();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      world.close();
      process.exit(1);
    });
  }
  return { makePlane: (options) => new KernelTestPlane(world, options), close: () => world.close() };
}
