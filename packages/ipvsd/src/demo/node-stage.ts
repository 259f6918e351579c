/** The demo's stage in Node: the same data plane source, hosts that are objects, a network that is a queue of frames. */
import { answerOnLink, bytesOf, NodeSkb, TC_ACT_REDIRECT, TC_ACT_UNSPEC, World } from '@ipvsd/bpf';
import { addressBytes, formatAddress, MapDirector, NodePlane } from '@ipvsd/director';
import {
  AF_INET,
  decapsulating,
  MAX_CONNECTIONS,
  type ParsedFrame,
  parseFrame,
  sweep,
  TAKES_IPIP,
  tcpFrame,
  Vip,
  VipKey,
  vips,
} from '@ipvsd/ipvs';
import { rememberingNames, runIpvsadm, systemNames } from '@ipvsd/ipvsadm';
import type { ServedBy, Stage } from './demo.ts';
import type { FtpResult } from './ftp-load.ts';
import type { LoadResult } from './load.ts';
import { LOCAL_ADDRESS, type Scene, webService } from './scene.ts';

/** What a frame takes from host to host. */
const FRAME_NS = 2_000n;
const FIRST_PORT = 2048;
const FTP = 21;
/** Where the simulated FTP server waits for data connections. */
const FTP_DATA = 50_000;
/** In `struct bpf_fib_lookup`: the two addresses. */
const FIB = { source: 16, destination: 32 } as const;

export class NodeStage implements Stage {
  readonly plane = 'node';
  readonly #scene: Scene;
  readonly #plane: NodePlane;
  readonly #director: MapDirector;
  readonly #network: Network;
  #port = FIRST_PORT;
  #now = 3_600_000_000_000n;

  constructor(scene: Scene) {
    this.#scene = scene;
    const surroundings = {
      now: () => this.#now,
      random: () => Math.floor(Math.random() * 2 ** 32),
      route: (parameters: Uint8Array) => answerRoute(parameters),
    };
    this.#plane = new NodePlane(surroundings);
    this.#network = new Network(scene, (frame) => this.#forward(frame), new World(surroundings));
    this.#director = new MapDirector(this.#plane);
    this.#director.writeSettings(undefined, MAX_CONNECTIONS);
    // What the kernel's timer does by itself: the first look at the clock, from which periods are counted.
    this.#plane.call(sweep, sweep.context.create());
  }

  async setUpRealServers(): Promise<string> {
    this.#network.setUp();
    return 'The simulated hosts have the virtual address, and open tunnels with the program that real ones have\n';
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
    let done = 0;
    let begun = 0;
    const begin = (): void => {
      if (begun === requests) return;
      begun++;
      this.#network.get({ client: this.#scene.clients[0]!, port: this.#nextPort(), to: 80 }, () => {
        done++;
        begin();
      });
    };
    for (let i = 0; i < concurrency; i++) begin();
    this.#network.run();
    return { requests, failures: requests - done, milliseconds: Math.round(performance.now() - started) };
  }

  /** A control connection, and then one to the port that a passive server would have named: both at the same real server. */
  async ftp(sessions: number): Promise<FtpResult> {
    const servers: Record<string, Set<string>> = {};
    let failures = 0;
    for (let i = 0; i < sessions; i++) {
      const client = this.#scene.clients[i % this.#scene.clients.length]!;
      const met = [FTP, FTP_DATA + i].flatMap((to) => this.#fetch(client, to) ?? []);
      if (met.length !== 2 || met[0] !== met[1]) failures++;
      servers[client] ??= new Set();
      for (const name of met) servers[client].add(name);
    }
    const all = Object.entries(servers).map(([client, names]) => [client, [...names]] as const);
    return { sessions, failures, servers: Object.fromEntries(all) };
  }

  #fetch(client: string, to: number): string | undefined {
    let name: string | undefined;
    this.#network.get({ client, port: this.#nextPort(), to }, (server) => {
      name = server;
    });
    this.#network.run();
    return name;
  }

  #nextPort(): number {
    this.#port = this.#port === 65_535 ? FIRST_PORT : this.#port + 1;
    return this.#port;
  }

  #forward(frame: Uint8Array): Sent | undefined {
    this.#now += FRAME_NS;
    const skb = new NodeSkb(frame);
    if (this.#plane.receive(skb) !== TC_ACT_REDIRECT) return undefined;
    const { neighbour } = skb.redirection!;
    return { frame: skb.bytes, hop: formatAddress(neighbour!.slice(4, 8)) };
  }

  sources(): readonly string[] {
    return [...this.#network.sources].sort();
  }

  async settle(): Promise<void> {
    this.#now += 2_500_000_000n;
    this.#plane.call(sweep, sweep.context.create());
  }

  realServers(): readonly ServedBy[] {
    return this.#director
      .service(webService(this.#scene))!
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

/** Every host is a neighbour: clients on interface 1, all others on 2. */
function answerRoute(parameters: Uint8Array): number {
  parameters.set(addressBytes(LOCAL_ADDRESS), FIB.source);
  return answerOnLink(parameters, parameters[FIB.destination] === 172 ? 1 : 2);
}

interface Sent {
  readonly frame: Uint8Array;
  /** Which host it reaches. */
  readonly hop: string;
}

interface Request {
  readonly client: string;
  readonly port: number;
  /** Port of the virtual address. */
  readonly to: number;
}

type Answer = Pick<ParsedFrame, 'flags' | 'payload'>;

/** Frames on their way, in order. Real servers and the client answer what reaches them. */
class Network {
  readonly sources = new Set<string>();
  readonly #scene: Scene;
  readonly #direct: boolean;
  readonly #forward: (frame: Uint8Array) => Sent | undefined;
  /** Where the real servers' programs run. */
  readonly #world: World;
  readonly #queue: Sent[] = [];
  readonly #waiting = new Map<string, (server: string) => void>();

  constructor(scene: Scene, forward: (frame: Uint8Array) => Sent | undefined, world: World) {
    this.#scene = scene;
    this.#direct = scene.method === 'dr' || scene.method === 'tun';
    this.#forward = forward;
    this.#world = world;
  }

  setUp(): void {
    const key = bytesOf(VipKey.create({ family: AF_INET }));
    key.set(addressBytes(this.#scene.vip));
    this.#world.map(vips).update(key, bytesOf(Vip.create({ tunnels: TAKES_IPIP })));
  }

  /** One connection; `done` hears which real server has answered it, when all of the answer came. */
  get({ client, port, to }: Request, done: (server: string) => void): void {
    this.#waiting.set(`${client}:${port}`, done);
    const { vip } = this.#scene;
    this.#throughDirector(
      tcpFrame({ source: client, destination: vip, sourcePort: port, destinationPort: to, flags: 'S' }),
    );
  }

  run(): void {
    for (let at = 0; at < this.#queue.length; at++) {
      this.#deliver(this.#queue[at]!);
      // Long queues are cut now and then instead of shifted at every frame.
      if (at === 4096) {
        this.#queue.splice(0, at);
        at = 0;
      }
    }
    this.#queue.length = 0;
  }

  #throughDirector(frame: Uint8Array): void {
    this.#queue.push({ frame, hop: DIRECTOR });
  }

  #deliver({ frame, hop }: Sent): void {
    if (hop === DIRECTOR) {
      const sent = this.#forward(frame);
      if (sent !== undefined) this.#queue.push(sent);
      return;
    }
    const arrived = parseFrame(this.#opened(frame));
    if (!arrived.valid) return;
    if (this.#scene.clients.includes(hop)) this.#atClient(arrived);
    else this.#atServer(arrived, hop);
  }

  /** As it is after the host's program has seen it. */
  #opened(frame: Uint8Array): Uint8Array {
    const skb = new NodeSkb(frame);
    return this.#world.runTc(decapsulating, skb) === TC_ACT_UNSPEC ? skb.bytes : frame;
  }

  #atClient(frame: ParsedFrame): void {
    const { flags, destination, destinationPort, source, payload } = frame;
    if (source !== this.#scene.vip) return;
    const reply = (answer: Answer): void => this.#throughDirector(answerTo(frame, answer));
    if (flags === 'SA') {
      reply(say('A'));
      reply(say('PA', `GET / HTTP/1.0\r\n\r\n`));
      return;
    }
    const request = `${destination}:${destinationPort}`;
    const server = / (\S+) served /.exec(new TextDecoder().decode(payload).replaceAll(/\s+/g, ' '))?.[1];
    if (server !== undefined) {
      this.#waiting.get(request)?.(server);
      this.#waiting.delete(request);
    }
    if (flags.includes('F')) reply(say('FA'));
  }

  #atServer(frame: ParsedFrame, own: string): void {
    const { flags, payload, source, destination, destinationPort } = frame;
    if (destination !== own && destination !== this.#scene.vip) return;
    if (flags === 'S' && destinationPort !== FTP && destinationPort < FTP_DATA) this.sources.add(source);
    for (const answer of serve(flags, payload.length, own, source)) {
      const reply = answerTo(frame, answer);
      if (this.#direct) this.#queue.push({ frame: reply, hop: source });
      else this.#throughDirector(reply);
    }
  }
}

const DIRECTOR = 'director';

function serve(flags: string, length: number, own: string, client: string): readonly Answer[] {
  if (flags === 'S') return [say('SA')];
  if (flags.includes('F')) return [say('A')];
  if (length === 0) return [];
  return [say('PA', `HTTP/1.0 200 OK\r\n\r\n${own} served / to ${client}\n`), say('FA')];
}

const say = (flags: string, text = ''): Answer => ({ flags, payload: new TextEncoder().encode(text) });

const answerTo = (frame: ParsedFrame, { flags, payload }: Answer): Uint8Array =>
  tcpFrame({
    source: frame.destination,
    destination: frame.source,
    sourcePort: frame.destinationPort,
    destinationPort: frame.sourcePort,
    flags,
    payload,
  });
