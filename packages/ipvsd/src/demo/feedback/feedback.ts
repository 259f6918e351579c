/**
 * `ipvsd demo --feedback`: three real servers, the largest of them busy with something else. Its clients wait, as wlc counts
 * connections and not load; then the same daemon is told to ask for the load, and the weights move.
 *
 *     clients ── director ──┬── 192.168.45.2  weight 4   <── batch jobs, sent to it directly
 *                           ├── 192.168.45.3  weight 1
 *                           └── 192.168.45.4  weight 1
 */
import { whyNotKernel } from '../demo.ts';
import { chart } from './chart.ts';
import { BATCH, CLIENTS, FEEDBACK_LINE, SERVERS } from './scenario.ts';

export interface FeedbackDemoOptions {
  readonly node?: true;
  readonly json?: true;
}

/** Where it plays. */
export interface FeedbackStage {
  /** Make `ipvsd run` go by this configuration from now on. */
  configure(feedback: boolean): Promise<void>;
  /** Let time pass; the milliseconds that answers took that came meanwhile. */
  pass(seconds: number): Promise<readonly number[]>;
  /** Of the real servers in order, as the director has them now. */
  weights(): readonly number[];
  /** Requests that got no answer. */
  failures(): number;
  remove(): Promise<void>;
}

/** What the chart shows of one second. */
export interface Second {
  readonly weights: readonly number[];
  readonly medianMs: number;
  readonly feedback: boolean;
}

/** Seconds until the clients are there, that are measured, until the weights have moved, and that are measured again. */
const BEFORE = 3;
const WITHOUT = 6;
const SETTLING = 11;
const WITH = 7;

const say = (text: string): void => {
  process.stdout.write(text);
};

export async function feedbackDemo(options: FeedbackDemoOptions): Promise<void> {
  const stage = await openStage(options);
  const interrupted = (): void => void stage.remove().then(() => process.exit(130));
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  try {
    const medians = await play(stage, say);
    const failures = stage.failures();
    if (failures > 0) say(`${failures} requests failed\n`);
    if (failures > 0 || !(medians.medianMsWith < medians.medianMsWithout)) process.exitCode = 1;
    if (options.json === true) say(`${JSON.stringify(medians)}\n`);
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
    await stage.remove();
  }
}

async function openStage(options: FeedbackDemoOptions): Promise<FeedbackStage> {
  const reason = options.node === true ? 'as asked by --node' : whyNotKernel();
  if (reason === undefined) {
    const { KernelFeedbackStage } = await import('./kernel-stage.ts');
    return KernelFeedbackStage.open();
  }
  say(`The data plane runs in Node on a simulated network, in simulated time: ${reason}\n`);
  const { NodeFeedbackStage } = await import('./node-stage.ts');
  return NodeFeedbackStage.open();
}

/** The whole story, told to `say`. */
export async function play(stage: FeedbackStage, say: (text: string) => void) {
  const [largest] = SERVERS;
  const others = SERVERS.slice(1).map(({ address }) => address);
  say(`Real servers: ${largest!.address} with weight ${largest!.weight}; ${others.join(' and ')} with weight 1\n`);
  say(`${largest!.address} is busy with something else: ${BATCH.count} batch jobs at a time, sent to it directly\n`);
  const { count, paceMs, workMs } = CLIENTS;
  say(`${count} clients send a request of ${workMs} ms of work every ${paceMs} ms\n\n`);
  const seconds: Second[] = [];
  const pass = async (length: number, feedback: boolean): Promise<number[]> => {
    const answers: number[] = [];
    for (let i = 0; i < length; i++) {
      const now = await stage.pass(1);
      answers.push(...now);
      seconds.push({ weights: stage.weights(), medianMs: median(now), feedback });
    }
    return answers;
  };
  await stage.configure(false);
  await stage.pass(BEFORE);
  const without = median(await pass(WITHOUT, false));
  say(`wlc alone:              median response time ${without.toFixed(1)} ms\n`);
  say(`... and now with one line more in the configuration:${FEEDBACK_LINE.replace(/^ +/, ' ')}\n`);
  await stage.configure(true);
  await pass(SETTLING, true);
  const withFeedback = median(await pass(WITH, true));
  say(`wlc with load feedback: median response time ${withFeedback.toFixed(1)} ms\n\n`);
  say(chart(SERVERS, seconds));
  return { medianMsWithout: rounded(without), medianMsWith: rounded(withFeedback) };
}

function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const rounded = (value: number): number => Math.round(value * 10) / 10;
