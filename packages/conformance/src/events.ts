/**
 * Plays one scenario of scheduling.jsonl, behaviour.jsonl or random-sequences.jsonl: its events in order, each at its time,
 * and compares what each says with what happens here.
 */
import {
  formatProcApplications,
  formatProcConnections,
  formatProcCpuStats,
  formatProcServices,
  formatProcStats,
  formatProcSyncedConnections,
  type Names,
} from '@ipvsd/ipvsadm';
import { HiddenTraffic } from './hidden-traffic.ts';
import type { Ends4, Host, UdpClient } from './hosts.ts';
import {
  type ConnectionComparison,
  compareConnectionLines,
  compareConnections,
  compareProcConnections,
  compareRates,
  compareReading,
  compareTable,
  type Found,
  type RecordedConnection,
  recordedForm,
  sumsByService,
  withoutServer,
} from './listing.ts';
import type { Difference, Result } from './report.ts';
import { type MakePlane, Stage, splitArgs } from './stage.ts';
import type { TcpSocket } from './tcp-socket.ts';
import { canonical, describePacket, icmpPacket, isIpv4, parsePacket, tcpPacket, udpPacket } from './wire.ts';

export interface Scenario {
  readonly scenario: string;
  readonly topic: string;
  readonly forward: string;
  readonly note?: string;
  readonly events: readonly Event[];
}

export interface Event {
  readonly op: string;
  /** Seconds since the start, when it was over. */
  readonly t: number;
  readonly [field: string]: unknown;
}

export interface PlayOptions {
  readonly makePlane: MakePlane;
  readonly names: Names;
  /** Ports that real servers listen on. */
  readonly open: ReadonlySet<string>;
}

/** A scenario's topic in the summary is its file; its own topic is part of its name. */
export async function playScenario(topic: string, scenario: Scenario, options: PlayOptions): Promise<Result> {
  const player = new Player(scenario, options);
  try {
    const ops = [...new Set(scenario.events.map(({ op }) => op))];
    return { topic, scenario: scenario.scenario, differences: await player.play(), ops };
  } finally {
    player.close();
  }
}

/** Where real servers were reached, in any scenario: there they listen. */
export function openPorts(scenarios: readonly Scenario[]): Set<string> {
  const open = new Set<string>();
  for (const { events } of scenarios) {
    for (const { op, rport, result } of events) {
      if (op === 'connect' && result === 'ok') open.add(`tcp ${rport}`);
      if (op === 'udp' && rport !== undefined) open.add(`udp ${rport}`);
    }
  }
  // Where the maps of first datagrams go.
  return open.add('udp 53');
}

interface Pair {
  readonly client: TcpSocket;
  readonly server: TcpSocket | undefined;
}

const WAIT = 20_000;

class Player {
  readonly #scenario: Scenario;
  readonly #stage: Stage;
  readonly #pairs = new Map<unknown, Pair>();
  readonly #hidden: HiddenTraffic;
  readonly #seen = { client: 0, server: 0 };
  #clientFrames = 0;
  #differences: Difference[] = [];
  #index = 0;
  #played = new Set<Event>();
  /** What `rate` events read, compared at the end. */
  readonly #readings: { index: number; expected: readonly string[]; rows: readonly string[] }[] = [];
  /** A scheduler that draws lots. */
  readonly #chance: boolean;

  constructor(scenario: Scenario, { makePlane, names, open }: PlayOptions) {
    this.#scenario = scenario;
    this.#chance = scenario.events.some(({ op, args }) => op === 'ipvsadm' && /-s twos\b/.test(String(args)));
    const wholeNetwork = /fwmark (\d+) = all of (\S+)/.exec(scenario.note ?? '');
    this.#stage = new Stage({
      makePlane,
      names,
      forward: scenario.forward,
      open,
      ...(wholeNetwork && { local: [wholeNetwork[2]!] }),
    });
    if (wholeNetwork) this.#stage.marks.add(wholeNetwork[2]!, Number(wholeNetwork[1]));
    this.#hidden = new HiddenTraffic(scenario, this.#stage);
    this.#stage.network.watch((packet, side, direction) => {
      if (process.env['CONFORMANCE_TRACE']) console.log(this.#stage.clock.now, side, direction, describePacket(packet));
      this.#seen[side]++;
      if (side === 'client' && direction === 'out') this.#clientFrames++;
    });
  }

  async play(): Promise<Difference[]> {
    const { events } = this.#scenario;
    for (const [index, event] of events.entries()) {
      this.#index = index;
      this.#hidden.before(event, index);
      // What was sent for a `raw` event is written down after the snapshot that shows what it did.
      const next = events[index + 1];
      if (event.op === 'snap' && next?.op === 'raw' && next['r1'] !== undefined) this.#raw(next);
      await this.#carryOut(event);
      this.#stage.clock.advanceTo(timeOf(event));
    }
    this.#compareReadings();
    return this.#differences;
  }

  close(): void {
    this.#stage.close();
  }

  async #carryOut(event: Event): Promise<void> {
    switch (event.op) {
      case 'ipvsadm':
        return this.#ipvsadm(event);
      case 'sysctl':
        return this.#sysctl(event);
      case 'sh':
        return this.#shell(event);
      case 'sleep':
        return;
      case 'connect':
        return this.#connect(event);
      case 'data':
        return this.#data(event);
      case 'close':
        return this.#close(event);
      case 'udp':
        return this.#udp(event);
      case 'udp-map':
      case 'udp-portmap':
      case 'udp-dstmap':
        return this.#udpMap(event);
      case 'snap':
        return this.#snap(event);
      case 'file':
        return this.#file(event);
      case 'rate':
        return this.#rate(event);
      case 'list':
        return this.#list(event);
      case 'count':
        return this.#count(event);
      case 'raw':
        return this.#raw(event);
      case 'client-frames':
        this.#expect('frames that came to the client', event['n'], this.#clientFrames);
        this.#clientFrames = 0;
        return;
      case 'client-side-frames':
        this.#expect('frames on the client side', event['n'], this.#seen.client);
        return;
      case 'frames':
        this.#expect('frames on the client side', event['client'], this.#seen.client);
        this.#expect('frames on the server side', event['server'], this.#seen.server);
        return;
      default:
        this.#differ(`op ${event.op}`, 'an event that this runner knows', `${JSON.stringify(event).slice(0, 200)}`);
    }
  }

  // Commands -------------------------------------------------------------------------------------------------------

  async #ipvsadm(event: Event): Promise<void> {
    const args = splitArgs(String(event['args']));
    const { status, stdout, stderr } = await this.#stage.ipvsadm(args);
    const expected = { status: event['status'] ?? 0, stdout: text(event['stdout']), stderr: text(event['stderr']) };
    this.#expect(`status of ipvsadm ${event['args']}`, expected.status, status);
    this.#expect(`stderr of ipvsadm ${event['args']}`, expected.stderr, stderr);
    const what = `ipvsadm ${event['args']}`;
    if (isConnectionListing(args)) this.#found(compareConnectionLines(what, expected.stdout, stdout, this.#retried));
    else if (args.includes('--rate')) this.#found(compareRates(what, expected.stdout.split('\n'), stdout.split('\n')));
    else if (inHashOrder(args)) this.#expect(what, asServices(expected.stdout), asServices(stdout));
    else this.#expect(what, expected.stdout, stdout);
  }

  #sysctl(event: Event): void {
    const refused = this.#stage.sysctl(String(event['name']), String(event['value']));
    this.#expect(`sysctl ${event['name']}=${event['value']}`, text(event['error']), refused ?? '');
  }

  /** Only commands that the recordings are known to use; anything else is a difference. */
  #shell(event: Event): void {
    const command = String(event['cmd']);
    const pings = [...command.matchAll(/ping (?:-\w+ \d+ )*(\S+) \| head -2/g)].map((match) => match[1]!);
    if (pings.length > 0) {
      this.#expect(command, text(event['stdout']), pings.map((address) => this.#ping(address)).join(''));
    } else if (event['ns'] !== 'lb' || !command.split(/;|&&/).every((part) => this.#stage.marks.command(part))) {
      this.#differ(`sh in ${event['ns']}`, 'a command that this runner knows', command);
    }
  }

  #ping(address: string): string {
    const v4 = isIpv4(address);
    const source = v4 ? '10.1.0.2' : '2001:db8:1::2';
    const answers: Uint8Array[] = [];
    const { client } = this.#stage.network;
    client.onPacket = (packet) => void answers.push(packet);
    client.send(icmpPacket(source, address, v4 ? 8 : 128, 0, 0x0001_0001, new Uint8Array(56)));
    this.#stage.clock.settle();
    client.onPacket = undefined;
    const answer = answers.map(parsePacket).find(({ transport }) => transport[0] === (v4 ? 0 : 129));
    const head = v4
      ? `PING ${address} (${address}) 56(84) bytes of data.\n`
      : `PING ${address}(${address}) 56 data bytes\n`;
    return answer
      ? `${head}64 bytes from ${answer.source}: icmp_seq=1 ttl=${answer.timeToLive} time=0.000 ms\n`
      : `${head}\n`;
  }

  // TCP ------------------------------------------------------------------------------------------------------------

  #connect(event: Event): void {
    const { network, clock } = this.#stage;
    const ends = endsOf(event);
    for (const server of network.servers.values()) server.accepted.length = 0;
    const client = network.client.connect(ends);
    clock.advanceUntil(() => client.state !== 'SYN_SENT', Math.max(timeOf(event), clock.now));
    clock.settle();
    const accepted = [...network.servers.values()].flatMap((server) =>
      server.accepted.map((socket) => ({ server, socket })),
    );
    const [reached] = accepted;
    const result = client.error ?? (client.state === 'ESTABLISHED' ? 'ok' : 'timeout');
    this.#expect('result of connect', event['result'], result);
    if (result === 'timeout') client.close();
    if (event['result'] === 'ok') {
      if (!this.#chance) {
        this.#expect('real server', event['to'], reached?.server.name);
        this.#expect('its port', event['rport'], reached?.socket.ends.localPort);
      }
      const from = reached && endText(reached.socket.ends.remote, reached.socket.ends.remotePort);
      this.#expect('client as seen', normalEnd(event['seen_from']), from);
    }
    this.#pairs.set(event['id'], { client, server: reached?.socket });
  }

  #data(event: Event): void {
    const { client, server } = this.#pair(event);
    this.#transfer('server_got', event, 'c2s', client, server);
    this.#transfer('client_got', event, 's2c', server, client);
  }

  #transfer(field: string, event: Event, count: string, from: TcpSocket | undefined, to: TcpSocket | undefined): void {
    const bytes = Number(event[count] ?? 0);
    if (bytes > 0) {
      from?.write(bytes);
      this.#wait();
    }
    if (event[field] === undefined) return;
    const got = to === undefined ? 'EAGAIN' : to.received > 0 ? to.read() : (to.error ?? (to.ended ? 0 : 'EAGAIN'));
    this.#expect(field, event[field], got);
  }

  #close(event: Event): void {
    const { client, server } = this.#pair(event);
    const how = event['how'];
    const [first, second] = how === 'client' || how === 'rst' ? [client, server] : [server, client];
    if (how === 'rst' || how === 'srvrst') first?.reset();
    else if (how === 'client' || how === 'server') first?.close();
    else this.#differ('close', 'client, server, rst or srvrst', String(how));
    this.#wait();
    second?.close();
    this.#wait();
  }

  #pair(event: Event): Pair {
    const pair = this.#pairs.get(event['id']);
    if (pair === undefined) throw new Error(`Cannot play event ${this.#index}: there is no connection ${event['id']}`);
    return pair;
  }

  #wait(): void {
    const { clock } = this.#stage;
    clock.advanceTo(clock.now + WAIT);
  }

  // UDP ------------------------------------------------------------------------------------------------------------

  #udp(event: Event): void {
    const { network, clock } = this.#stage;
    const ends = endsOf(event);
    this.#clearDatagrams();
    const client = network.client.sendUdp(ends, this.#payload(event));
    clock.advanceUntil(
      () => client.answer !== undefined || client.error !== undefined,
      Math.max(timeOf(event), clock.now),
    );
    const reached = this.#reached(ends);
    if (!this.#chance) {
      this.#expect('real server', event['to'], reached?.name);
      this.#expect('its port', event['rport'], reached?.port);
    }
    this.#expect(
      'reply from',
      normalEnd(event['reply_from']),
      client.answer && endText(client.answer.from, client.answer.fromPort),
    );
    this.#expect('error at the client', event['client_error'], client.answer ? undefined : errorOf(client));
  }

  /** One datagram for each key, from new sockets; nobody answers. */
  #udpMap(event: Event): void {
    const { network, clock } = this.#stage;
    const expected = event['map'] as Readonly<Record<string, string | null>>;
    const actual: Record<string, string | null> = {};
    for (const key of Object.keys(expected)) {
      const ends = endsOf({
        ...event,
        ...(event.op === 'udp-map' ? { src: key } : event.op === 'udp-portmap' ? { sport: Number(key) } : { dst: key }),
      });
      this.#clearDatagrams();
      for (const server of network.servers.values()) server.answersUdp = false;
      network.client.send(udpPacket(packetEnds(ends), this.#payload(event)));
      clock.settle();
      for (const server of network.servers.values()) server.answersUdp = true;
      actual[key] = this.#reached(ends)?.name ?? null;
    }
    const wrong = Object.keys(expected).filter((key) => expected[key] !== actual[key]);
    if (wrong.length === 0) return;
    const show = (map: Readonly<Record<string, string | null>>): string =>
      wrong
        .slice(0, 8)
        .map((key) => `${key}=${map[key]}`)
        .join(' ');
    this.#differ(`${event.op} (${wrong.length} of ${Object.keys(expected).length} keys)`, show(expected), show(actual));
  }

  #payload(event: Event): Uint8Array {
    const callId = event['call_id'] === undefined ? this.#hidden.callIdOf(event) : event['call_id'];
    if (callId === undefined) return new TextEncoder().encode('x');
    const header = callId === null ? '' : `Call-ID: ${callId}\r\n`;
    return new TextEncoder().encode(`INVITE sip:x SIP/2.0\r\n${header}\r\n`);
  }

  #clearDatagrams(): void {
    for (const server of this.#stage.network.servers.values()) server.datagrams.length = 0;
  }

  #reached(ends: Ends4): { name: string; port: number } | undefined {
    for (const { name, datagrams } of this.#stage.network.servers.values()) {
      const datagram = datagrams.find((each) => each.source === ends.local && each.sourcePort === ends.localPort);
      if (datagram !== undefined) return { name, port: datagram.destinationPort };
    }
    return undefined;
  }

  // Raw ------------------------------------------------------------------------------------------------------------

  #raw(event: Event): void {
    if (this.#played.has(event)) return;
    this.#played.add(event);
    this.#clientFrames = 0;
    const what = String(event['what']);
    const vip = /quoting VIP:(\d+) -> client:(\d+)/.exec(what);
    const { network, clock } = this.#stage;
    const arrived = { r1: 0, r2: 0, r3: 0, r4: 0 };
    for (const [name, host] of network.servers) host.onPacket = () => void arrived[name]++;
    if (/first packet is an? (\w+)/.test(what)) {
      const flags = { ACK: 'A', SYN: 'S', 'SYN-ACK': 'SA', FIN: 'FA', RST: 'R', PSH: 'PA' }[
        /first packet is an? (\S+)/.exec(what)![1]!
      ];
      if (flags === undefined) throw new Error(`Cannot craft the first packet of "${what}": its flags are not known`);
      const ends = {
        source: '192.168.77.1',
        sourcePort: Number(event['sport']),
        destination: '10.1.0.100',
        destinationPort: 80,
      };
      network.toDirector(
        tcpPacket({ ...ends, flags, sequence: 1000, acknowledgement: 2000, options: 'none' }),
        'client',
      );
    } else if (vip && what.startsWith('icmp frag-needed')) {
      const quoted = udpPacket(
        {
          source: '10.1.0.100',
          sourcePort: Number(vip[1]),
          destination: '192.168.77.1',
          destinationPort: Number(vip[2]),
        },
        new Uint8Array(20),
      );
      network.toDirector(icmpPacket('192.168.77.1', '10.1.0.100', 3, 4, 1400, quoted.slice(0, 28)), 'client');
    } else {
      this.#differ('raw', 'a packet that this runner can craft', what);
    }
    clock.settle();
    for (const [name, host] of network.servers) {
      host.onPacket = undefined;
      if (event[name] !== undefined) this.#expect(`packets that reached ${name}`, event[name], arrived[name]);
    }
  }

  // Looking --------------------------------------------------------------------------------------------------------

  async #snap(event: Event): Promise<void> {
    const recorded = event['conns'] as readonly RecordedConnection[] | undefined;
    const ours = [...this.#stage.plane.director.connections()].map(recordedForm);
    const none: ConnectionComparison = { found: [], overdue: [], early: [] };
    const form = this.#chance ? withoutServer : (entry: RecordedConnection): RecordedConnection => entry;
    const connections = recorded ? compareConnections(recorded.map(form), ours.map(form), this.#retried) : none;
    this.#found(connections.found);
    for (const [field, value] of Object.entries(event)) {
      const show = SNAPSHOTS[field];
      if (field === 'op' || field === 't' || field === 'conns') continue;
      if (show === undefined) {
        this.#differ(`snap.${field}`, 'a listing that this runner knows', JSON.stringify(value).slice(0, 100));
        continue;
      }
      const { stdout } = await this.#stage.ipvsadm(splitArgs(show));
      const expected = String(value);
      if (this.#chance) {
        const columns = field === 'stats' || field === 'rate' ? 5 : 2;
        if (field !== 'Lnc' && field !== 'rate')
          this.#expect(field, sumsByService(expected, columns), sumsByService(stdout, columns));
      } else if (field === 'Lnc') this.#found(compareConnectionLines(field, expected, stdout, this.#retried));
      else if (field === 'rate') this.#found(compareRates(field, expected.split('\n'), stdout.split('\n')));
      else this.#found(compareTable(field, expected, stdout, connections));
    }
  }

  #file(event: Event): void {
    const path = String(event['path']);
    const { director } = this.#stage.plane;
    const expected = String(event['text']);
    const [first, ...others] = splitFiles(expected);
    if (others.length > 0)
      this.#statsText('/proc/net/ip_vs_stats_percpu', others.join(''), formatProcCpuStats(director));
    if (path === '/proc/net/ip_vs_stats') this.#statsText(path, first!, formatProcStats(director));
    else if (path === '/proc/net/ip_vs_stats_percpu') this.#statsText(path, first!, formatProcCpuStats(director));
    else if (path === '/proc/net/ip_vs_conn') {
      const actual = [...formatProcConnections(director.connections())].join('');
      this.#found(compareProcConnections(path, expected, actual, this.#retried));
    } else if (path === '/proc/net/ip_vs_conn_sync') {
      const actual = [...formatProcSyncedConnections(director.connections())].join('');
      this.#found(compareProcConnections(path, expected, actual, this.#retried));
    } else if (path === '/proc/net/ip_vs') {
      this.#expect(path, asServices(expected), asServices(formatProcServices(director)));
    } else if (path === '/proc/net/ip_vs_app') {
      // The kernel's helper is a module, which was not loaded.
      this.#expect(path, expected, formatProcApplications([], []));
    } else {
      this.#differ('file', 'a file that this runner knows', path);
    }
  }

  /** Counters byte for byte, rates with the tolerance; a CPU's own row counts from the recording machine's boot. */
  #statsText(what: string, expected: string, actual: string): void {
    const lines = (full: string): string[] =>
      full.split('\n').filter((line) => !/^ *\d+ +[0-9A-F]+ +[0-9A-F]+ +[0-9A-F]+ +[0-9A-F]+ +[0-9A-F]+$/.test(line));
    const own = what.endsWith('percpu') ? lines : (full: string): string[] => full.split('\n');
    const [a, b] = [own(expected), own(actual)];
    for (const [i, line] of a.entries()) {
      const isRate = a[i - 1]?.includes('Conns/s') === true;
      if (isRate) this.#found(compareRates(what, [decimal(line)], [decimal(b[i] ?? '')]));
      else this.#expect(what, line, b[i]);
    }
  }

  async #rate(event: Event): Promise<void> {
    this.#stage.clock.advanceTo(timeOf(event));
    const { stdout } = await this.#stage.ipvsadm(['-L', '-n', '--rate']);
    const rows = stdout.trimEnd().split('\n').slice(3);
    this.#readings.push({ index: this.#index, expected: event['rate'] as readonly string[], rows });
  }

  #compareReadings(): void {
    for (const [i, { index, expected }] of this.#readings.entries()) {
      const around = this.#readings.slice(Math.max(0, i - 1), i + 2).map(({ rows }) => rows);
      this.#index = index;
      // Before the first reading there was no traffic.
      const nothing = expected.map((line) =>
        line.replace(/\d+/g, (n, at: number) => (at > 36 ? '0'.padStart(n.length) : n)),
      );
      this.#found(compareReading('rate', expected, i === 0 ? [nothing, ...around] : around));
    }
  }

  async #list(event: Event): Promise<void> {
    const args = splitArgs(String(event['args'] ?? '-Ln'));
    const { stdout } = await this.#stage.ipvsadm(args);
    const expected = String(event['stdout'] ?? event['text'] ?? event['list'] ?? '');
    this.#expect(`ipvsadm ${args.join(' ')}`, asServices(expected), asServices(stdout));
  }

  /** Numbers of connections where chance decides: only totals mean something, and not much. */
  #count(event: Event): void {
    const expected = Number(event['conns']);
    const actual = [...this.#stage.plane.director.connections()].length;
    if (!this.#hidden.byChance || this.#hidden.firstCount(event)) this.#expect('connections', expected, actual);
    else if (Math.abs(expected - actual) > Math.max(25, 0.35 * expected))
      this.#differ('connections', `about ${expected}`, `${actual}`);
  }

  // Words ----------------------------------------------------------------------------------------------------------

  get #retried(): boolean {
    const hosts: Host[] = [this.#stage.network.client, ...this.#stage.network.servers.values()];
    return hosts.some(({ retransmissions }) => retransmissions > 0);
  }

  #expect(what: string, expected: unknown, actual: unknown): void {
    if (expected === actual) return;
    const show = (value: unknown): string => (typeof value === 'string' ? value : String(value));
    this.#differ(what, show(expected), show(actual));
  }

  #found(all: readonly Found[]): void {
    for (const { what, expected, actual } of all) this.#differ(what, expected, actual);
  }

  #differ(what: string, expected: string, actual: string): void {
    this.#differences.push({ event: this.#index, what, expected, actual });
  }
}

/** Fields of `snap` and the listing they are. */
const SNAPSHOTS: Readonly<Record<string, string>> = {
  Ln: '-Ln',
  Lnc: '-Lnc',
  stats: '-Ln --stats',
  rate: '-Ln --rate',
  thresholds: '-Ln --thresholds',
  persistent: '-Ln --persistent-conn',
};

/** Microseconds; the recordings' times are whole milliseconds. */
const timeOf = (event: Event): number => Math.round(event.t * 1000) * 1000;

const text = (value: unknown): string => (value === undefined ? '' : String(value));
const errorOf = (client: UdpClient): string => client.error ?? 'EAGAIN';

const isConnectionListing = (args: readonly string[]): boolean =>
  args.some((arg) => arg === '--connection' || /^-[A-Za-z]*c[A-Za-z]*$/.test(arg)) &&
  args.some((arg) => /^(-L|-l|--list)/.test(arg));

const inHashOrder = (args: readonly string[]): boolean => args.some((arg) => /^(--nosort|-S|-Sn|--save)$/.test(arg));

/** Blocks of a virtual service and its real servers, sorted: the kernel's order is that of a hash. */
function asServices(listing: string): string {
  const blocks: string[] = [];
  let head = '';
  for (const line of listing.split('\n')) {
    if (/^(TCP|UDP|SCTP|FWM) |^-A /.test(line)) blocks.push(line);
    else if (blocks.length > 0 && /^( {2}->|-a )/.test(line)) blocks.push(`${blocks.pop()}\n${line}`);
    else head += `${line}\n`;
  }
  return head + blocks.sort().join('\n');
}

/** Two /proc files read one after the other. */
function splitFiles(full: string): string[] {
  const at = full.indexOf('       Total Incoming');
  return at <= 0 ? [full] : [full.slice(0, at), full.slice(at)];
}

/** A row of hexadecimal numbers as decimal ones. */
const decimal = (line: string): string =>
  `rates ${line
    .trim()
    .split(/\s+/)
    .map((word) => Number.parseInt(word, 16))
    .join(' ')}`;

function endsOf(event: Event): Ends4 {
  return {
    local: canonical(String(event['src'])),
    localPort: Number(event['sport']),
    remote: canonical(String(event['dst'])),
    remotePort: Number(event['dport']),
  };
}

const packetEnds = (
  ends: Ends4,
): { source: string; sourcePort: number; destination: string; destinationPort: number } => ({
  source: ends.local,
  sourcePort: ends.localPort,
  destination: ends.remote,
  destinationPort: ends.remotePort,
});

const endText = (address: string, port: number): string => `${address}:${port}`;

/** `[v6]:port` and `v6:port` as one. */
function normalEnd(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  const match = /^\[?(.*?)\]?:(\d+)$/.exec(String(value));
  return match === null ? String(value) : endText(canonical(match[1]!), Number(match[2]));
}
