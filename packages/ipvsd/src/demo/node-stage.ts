/** The demo's stage in Node: the same data plane source, hosts that are objects, a network that is a queue of frames. */
import { answerOnLink, NodeSkb, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { MapDirector, NodePlane, type ServiceId } from '@ipvsd/director';
import { MAX_CONNECTIONS, type ParsedFrame, parseFrame, sweep, tcpFrame } from '@ipvsd/ipvs';
import { rememberingNames, runIpvsadm, systemNames } from '@ipvsd/ipvsadm';
import type { ServedBy, Stage } from './demo.ts';
import type { LoadResult } from './load.ts';

const VIP = '172.16.45.10';
const CLIENT = '172.16.45.2';
const SERVICE: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: VIP, port: 80 };
/** What a frame takes from host to host. */
const FRAME_NS = 2_000n;
const FIRST_PORT = 2048;

type Answer = Pick<ParsedFrame, 'flags' | 'payload'>;

export class NodeStage implements Stage {
  readonly plane = 'node';
  readonly #plane: NodePlane;
  readonly #director: MapDirector;
  #now = 3_600_000_000_000n;

  constructor() {
    this.#plane = new NodePlane({
      now: () => this.#now,
      random: () => Math.floor(Math.random() * 2 ** 32),
      route: (parameters) => answerOnLink(parameters, parameters[32] === 172 ? 1 : 2),
    });
    this.#director = new MapDirector(this.#plane);
    this.#director.writeSettings(undefined, MAX_CONNECTIONS);
    // What the kernel's timer does by itself: the first look at the clock, from which periods are counted.
    this.#plane.call(sweep, sweep.context.create());
  }

  async ipvsadm(args: readonly string[]): Promise<string> {
    let out = '';
    let error = '';
    const status = await runIpvsadm(args, {
      director: () => this.#director,
      stdin: (async function* () {})(),
      stdout: {
        write: (text) => {
          out += text;
        },
      },
      stderr: {
        write: (text) => {
          error += text;
        },
      },
      names: rememberingNames(systemNames()),
      programName: 'ipvsadm',
    });
    if (status !== 0) throw new Error(`Cannot run ipvsadm ${args.join(' ')}: it ended with ${status}: ${error.trim()}`);
    return out;
  }

  async load(requests: number, concurrency: number): Promise<LoadResult> {
    const started = performance.now();
    const network = new Network((frame) => this.#forward(frame));
    let done = 0;
    let begun = 0;
    const begin = (): void => {
      if (begun === requests) return;
      begun++;
      network.get(FIRST_PORT + begun, () => {
        done++;
        begin();
      });
    };
    for (let i = 0; i < concurrency; i++) begin();
    network.run();
    return { requests, failures: requests - done, milliseconds: Math.round(performance.now() - started) };
  }

  #forward(frame: Uint8Array): Uint8Array | undefined {
    this.#now += FRAME_NS;
    const skb = new NodeSkb(frame);
    return this.#plane.receive(skb) === TC_ACT_REDIRECT ? skb.bytes : undefined;
  }

  async settle(): Promise<void> {
    this.#now += 2_500_000_000n;
    this.#plane.call(sweep, sweep.context.create());
  }

  realServers(): readonly ServedBy[] {
    return this.#director
      .service(SERVICE)!
      .realServers.map(({ address, port, stats }) => ({
        address: `${address}:${port}`,
        connections: Number(stats.connections),
      }))
      .sort((a, b) => a.address.localeCompare(b.address));
  }

  keep(): string {
    return 'A simulated cluster ends with its process: there is nothing to keep\n';
  }

  remove(): void {}
}

/** Frames on their way, in order. Real servers and the client answer what reaches them. */
class Network {
  readonly #forward: (frame: Uint8Array) => Uint8Array | undefined;
  readonly #queue: Uint8Array[] = [];
  readonly #clients = new Map<number, () => void>();

  constructor(forward: (frame: Uint8Array) => Uint8Array | undefined) {
    this.#forward = forward;
  }

  /** One HTTP request from this client port; `done` is called when all of the answer came. */
  get(port: number, done: () => void): void {
    this.#clients.set(port, done);
    this.#queue.push(tcpFrame({ source: CLIENT, destination: VIP, sourcePort: port, destinationPort: 80, flags: 'S' }));
  }

  run(): void {
    for (let at = 0; at < this.#queue.length; at++) {
      const arrived = this.#forward(this.#queue[at]!);
      if (arrived !== undefined) this.#deliver(parseFrame(arrived));
      // Long queues are cut now and then instead of shifted at every frame.
      if (at === 4096) {
        this.#queue.splice(0, at);
        at = 0;
      }
    }
  }

  #deliver(frame: ParsedFrame): void {
    if (!frame.valid) return;
    const answers = frame.destination === CLIENT ? this.#atClient(frame) : atServer(frame);
    for (const { flags, payload } of answers) {
      this.#queue.push(
        tcpFrame({
          source: frame.destination,
          destination: frame.source,
          sourcePort: frame.destinationPort,
          destinationPort: frame.sourcePort,
          flags,
          payload,
        }),
      );
    }
  }

  #atClient({ flags, destinationPort, source }: ParsedFrame): readonly Answer[] {
    if (source !== VIP) return [];
    if (flags === 'SA') return [answer('A'), answer('PA', `GET / HTTP/1.0\r\n\r\n`)];
    if (!flags.includes('F')) return [];
    this.#clients.get(destinationPort)?.();
    this.#clients.delete(destinationPort);
    return [answer('FA')];
  }
}

function atServer({ flags, payload, destination }: ParsedFrame): readonly Answer[] {
  if (flags === 'S') return [answer('SA')];
  if (flags.includes('F')) return [answer('A')];
  if (payload.length === 0) return [];
  return [answer('PA', `HTTP/1.0 200 OK\r\n\r\n${destination} served / to ${CLIENT}\n`), answer('FA')];
}

const answer = (flags: string, text = ''): Answer => ({ flags, payload: new TextEncoder().encode(text) });
