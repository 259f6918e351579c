/**
 * The feedback demo without root: the same data plane in Node, the same daemon, controller and work, on a network of frames in
 * simulated time.
 */
import { answerOnLink, NodeSkb, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { MapDirector, NodePlane, type ServiceId } from '@ipvsd/director';
import { MAX_CONNECTIONS, type ParsedFrame, parseFrame, sweep, tcpFrame } from '@ipvsd/ipvs';
import { Daemon, loadNativeText, type Sockets, TimingWheel } from '@ipvsd/keepalived';
import { LoadFeedback } from '../../daemon/load-feedback.ts';
import type { FeedbackStage } from './feedback.ts';
import { BATCH, CLIENTS, configuration, PORT, SERVERS, VIP } from './scenario.ts';
import { SimulatedTime } from './simulated-time.ts';
import { WorkQueue } from './work-queue.ts';

const CLIENT = '172.16.45.2';
const SERVICE: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: VIP, port: PORT };
/** What a frame takes from host to host. */
const FRAME_MS = 0.05;
const FIRST_PORT = 2048;
const LAST_PORT = 65_000;
/** The clock does not begin at 0, which the data plane takes for "no clock set". */
const BEGIN_NS = 3_600_000_000_000n;

/** There are no checks in the simulated configuration, so nobody opens any. */
const noSockets = new Proxy({} as Sockets, {
  get: () => () => {
    throw new Error('Cannot open a socket in the simulation');
  },
});

export class NodeFeedbackStage implements FeedbackStage {
  readonly #time = new SimulatedTime();
  readonly #wheel = new TimingWheel(() => this.#time.now());
  readonly #plane: NodePlane;
  readonly #director: MapDirector;
  readonly #daemon: Daemon;
  readonly #feedback: LoadFeedback;
  readonly #queues = new Map(SERVERS.map(({ address, slots }) => [address, new WorkQueue(slots, this.#time)]));
  /** By client port: what its connection waits for. */
  readonly #connections = new Map<number, (answer: ParsedFrame) => void>();
  #nextPort = FIRST_PORT;
  #answers: number[] = [];

  private constructor() {
    this.#plane = new NodePlane({
      now: () => BEGIN_NS + BigInt(Math.round(this.#time.now() * 1e6)),
      random: () => Math.floor(Math.random() * 2 ** 32),
      route: (parameters) => answerOnLink(parameters, 1),
    });
    this.#director = new MapDirector(this.#plane);
    this.#director.writeSettings(undefined, MAX_CONNECTIONS);
    const log = {
      info() {},
      warn() {},
      error(text: string) {
        throw new Error(text);
      },
    };
    this.#daemon = new Daemon({ director: this.#director, sockets: noSockets, timers: this.#wheel, log });
    this.#feedback = new LoadFeedback({
      daemon: this.#daemon,
      director: this.#director,
      log,
      now: () => this.#time.now(),
      openSource: () => ({ ask: async (address) => ({ load: this.#queues.get(address)!.load() }) }),
    });
  }

  static open(): NodeFeedbackStage {
    const stage = new NodeFeedbackStage();
    for (let i = 0; i < BATCH.count; i++) stage.#runBatch();
    for (let i = 0; i < CLIENTS.count; i++) {
      stage.#time.after((i / CLIENTS.count) * CLIENTS.paceMs, () => stage.#connect());
    }
    return stage;
  }

  async configure(feedback: boolean): Promise<void> {
    this.#daemon.configure(loadNativeText('demo.yaml', configuration(feedback, false)).configuration);
    this.#feedback.follow();
  }

  async pass(seconds: number): Promise<readonly number[]> {
    for (let i = 0; i < seconds; i++) {
      this.#time.pass(1000);
      this.#wheel.advance();
      this.#plane.call(sweep, sweep.context.create());
      await this.#feedback.turn();
    }
    const answers = this.#answers;
    this.#answers = [];
    return answers;
  }

  weights(): readonly number[] {
    const servers = this.#director.service(SERVICE)?.realServers ?? [];
    return SERVERS.map(({ address }) => servers.find((server) => server.address === address)?.weight ?? 0);
  }

  /** A lost frame would leave a client waiting for ever, and the demo without answers. */
  failures(): number {
    return 0;
  }

  async remove(): Promise<void> {}

  /** Jobs that come to the largest real server without the director. */
  #runBatch(): void {
    this.#queues.get(SERVERS[0]!.address)!.submit(BATCH.workMs, () => this.#runBatch());
  }

  /** A connection of some requests, at the client's pace; then the next one. */
  #connect(): void {
    const port = this.#nextPort;
    this.#nextPort = port === LAST_PORT ? FIRST_PORT : port + 1;
    let requests = 0;
    let asked = 0;
    const ask = (): void => {
      asked = this.#time.now();
      requests++;
      this.#fromClient(port, 'PA', 'GET / HTTP/1.1\r\n\r\n');
    };
    this.#connections.set(port, ({ flags, payload }) => {
      if (flags === 'SA') {
        this.#fromClient(port, 'A');
        ask();
      } else if (payload.length > 0) {
        const took = this.#time.now() - asked;
        this.#answers.push(took);
        this.#time.after(CLIENTS.paceMs - took, () => {
          if (requests < CLIENTS.requestsPerConnection) ask();
          else {
            this.#fromClient(port, 'FA');
            this.#connect();
          }
        });
      } else if (flags.includes('F')) {
        this.#fromClient(port, 'A');
        this.#connections.delete(port);
      }
    });
    this.#fromClient(port, 'S');
  }

  #fromClient(port: number, flags: string, text = ''): void {
    this.#send({ source: CLIENT, sourcePort: port, destination: VIP, destinationPort: PORT }, flags, text);
  }

  /** Through the director, to whom it says. */
  #send(ends: Omit<Parameters<typeof tcpFrame>[0], 'flags' | 'payload'>, flags: string, text: string): void {
    const skb = new NodeSkb(tcpFrame({ ...ends, flags, payload: new TextEncoder().encode(text) }));
    if (this.#plane.receive(skb) !== TC_ACT_REDIRECT) return;
    const frame = parseFrame(skb.bytes);
    this.#time.after(FRAME_MS, () => {
      if (frame.destination === CLIENT) this.#connections.get(frame.destinationPort)?.(frame);
      else this.#atServer(frame);
    });
  }

  #atServer(frame: ParsedFrame): void {
    const answer = (flags: string, text = ''): void =>
      this.#send(
        {
          source: frame.destination,
          sourcePort: frame.destinationPort,
          destination: frame.source,
          destinationPort: frame.sourcePort,
        },
        flags,
        text,
      );
    if (frame.flags === 'S') answer('SA');
    else if (frame.flags.includes('F')) answer('FA');
    else if (frame.payload.length > 0) {
      this.#queues.get(frame.destination)!.submit(CLIENTS.workMs, () => answer('PA', 'HTTP/1.1 200 OK\r\n\r\n'));
    }
  }
}
