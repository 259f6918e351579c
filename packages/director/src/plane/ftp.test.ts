/** FTP through the data plane in Node: what both sides read, who may connect where, and how numbers go on. */
import { answerOnLink, NodeSkb, TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { MAX_CONNECTIONS, parseFrame, REASON_LIST, reasons, sweep, tcpFrame } from '@ipvsd/ipvs';
import { describe, expect, test } from 'vitest';
import { type ConnectionEntry, plainTunnel, type ServiceId } from '../model.ts';
import { MapDirector } from './map-director.ts';
import { NodePlane } from './node-plane.ts';

type Side = 'client' | 'server';
interface Addresses {
  readonly client: string;
  readonly vip: string;
  readonly real: string;
}
const V4: Addresses = { client: '172.16.0.9', vip: '10.1.0.100', real: '10.2.0.11' };
const V6: Addresses = { client: '2001:db8:c::9', vip: '2001:db8:1::100', real: '2001:db8:2::11' };

/** Of FULLNAT. */
const LOCAL = { ipv4: '10.2.0.1', ipv6: '2001:db8:2::1' } as const;

/** A client logged in to a virtual service on port 21, whose real server listens on 2100. */
class Session {
  readonly addresses: Addresses;
  readonly director: MapDirector;
  readonly #plane: NodePlane;
  #now = 10n ** 12n;
  /** What each side sends next, as it counts itself. */
  readonly next = { client: 1000, server: 0xffff_fff0 };
  /** What each side has read of the other. */
  readonly heard = { client: 0, server: 0 };
  readonly port: number;

  /** Whom the real server sees as its client. */
  #seen: readonly [string, number];

  constructor(
    addresses: Addresses,
    settings: readonly (readonly [string, string])[] = [],
    port = 21,
    forwarding: 'masq' | 'fullnat' = 'masq',
  ) {
    this.addresses = addresses;
    this.port = port;
    this.#seen = [addresses.client, 40_000];
    this.#plane = new NodePlane({
      now: () => this.#now,
      random: () => 4,
      route: (parameters) => answerOnLink(parameters, 2),
    });
    this.director = new MapDirector(this.#plane);
    this.director.writeSettings(undefined, MAX_CONNECTIONS);
    for (const [name, value] of settings) this.director.execute({ kind: 'setSysctl', name, value });
    const family = addresses === V6 ? 'ipv6' : 'ipv4';
    const service: ServiceId = { kind: 'address', family, protocol: 'tcp', address: addresses.vip, port };
    this.director.executeAll(
      [
        {
          kind: 'addService',
          service,
          settings: {
            scheduler: 'rr',
            schedulerFlags: 0,
            persistence: null,
            persistenceEngine: null,
            onePacket: false,
          },
        },
        ...(forwarding === 'fullnat' ? [{ kind: 'addLocalAddress', service, address: LOCAL[family] } as const] : []),
        {
          kind: 'addServer',
          service,
          server: { address: addresses.real, port: 2100 },
          settings: { forwarding, weight: 1, upperThreshold: 0, lowerThreshold: 0, tunnel: plainTunnel },
        },
      ],
      { atomic: true },
    );
    this.#control('client', 'S', '');
    this.#control('server', 'SA', '');
    this.#control('client', 'A', '');
  }

  /** A line of the control connection: as the other side reads it. */
  says(side: Side, text: string): string {
    const parsed = this.#control(side, 'PA', text);
    return Buffer.from(parsed.payload).toString();
  }

  /** The same line again, as it was not acknowledged. */
  repeats(side: Side, text: string): string {
    const { next, heard } = this;
    next[side] = (next[side] - text.length) >>> 0;
    const other = side === 'client' ? 'server' : 'client';
    const read = heard[other];
    const parsed = this.#send(side, 'PA', text);
    next[side] = (next[side] + text.length) >>> 0;
    heard[other] = read;
    return Buffer.from(parsed.payload).toString();
  }

  #control(side: Side, flags: string, text: string): ReturnType<typeof parseFrame> {
    const other = side === 'client' ? 'server' : 'client';
    const parsed = this.#send(side, flags, text);
    const length = text.length + (flags.includes('S') ? 1 : 0);
    this.next[side] = (this.next[side] + length) >>> 0;
    // The reader finds the stream without a gap, and its acknowledgements are what the writer has sent.
    if (!flags.includes('S')) expect(parsed.sequence).toBe(this.heard[other]);
    this.heard[other] = (parsed.sequence + parsed.payload.length + (flags.includes('S') ? 1 : 0)) >>> 0;
    return parsed;
  }

  #send(side: Side, flags: string, text: string): ReturnType<typeof parseFrame> {
    const { client, vip, real } = this.addresses;
    const asking = side === 'client';
    const from = asking ? ([client, 40_000] as const) : ([real, 2100] as const);
    const to = asking ? ([vip, this.port] as const) : this.#seen;
    const { verdict, parsed } = this.packet({
      from,
      to,
      flags,
      text,
      sequence: this.next[side],
      acknowledgement: flags.includes('A') ? this.heard[side] : 0,
    });
    expect(verdict).toBe(TC_ACT_REDIRECT);
    if (asking) this.#seen = [parsed.source, parsed.sourcePort];
    if (flags.includes('A')) {
      const other = side === 'client' ? 'server' : 'client';
      expect(parsed.acknowledgement).toBe(this.next[other]);
    }
    return parsed;
  }

  packet(packet: {
    readonly from: readonly [string, number];
    readonly to: readonly [string, number];
    readonly flags: string;
    readonly text?: string;
    readonly sequence?: number;
    readonly acknowledgement?: number;
  }): { readonly verdict: number; readonly parsed: ReturnType<typeof parseFrame> } {
    const skb = new NodeSkb(
      tcpFrame({
        source: packet.from[0],
        sourcePort: packet.from[1],
        destination: packet.to[0],
        destinationPort: packet.to[1],
        flags: packet.flags,
        sequence: packet.sequence ?? 0,
        acknowledgement: packet.acknowledgement ?? 0,
        payload: Buffer.from(packet.text ?? ''),
      }),
    );
    const verdict = this.#plane.receive(skb);
    const parsed = parseFrame(skb.bytes);
    expect(parsed.valid).toBe(true);
    return { verdict, parsed };
  }

  connections(): string[] {
    const end = ({ address, port }: ConnectionEntry['client']): string => `${address} ${port}`;
    return [...this.director.connections()]
      .map(({ client, virtual, real, state }) => `${end(client)} > ${end(virtual)} > ${end(real)} ${state}`)
      .slice(1);
  }

  wait(seconds: number): void {
    this.#now += BigInt(seconds) * 10n ** 9n;
    this.#plane.call(sweep, sweep.context.create());
  }

  counted(name: string): number {
    const index = REASON_LIST.findIndex((reason) => reason.name === name);
    const [bytes] = this.#plane.store(reasons).lookupPerCpu(new Uint8Array(Uint32Array.of(index).buffer));
    return Number(new DataView(bytes!.buffer, bytes!.byteOffset).getBigUint64(0, true));
  }
}

const EPSV = '229 Entering Extended Passive Mode (|||50010|)\r\n';

test('a passive answer names the virtual service, and the client may come from any port', () => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  expect(session.says('server', '227 Entering Passive Mode (10,2,0,11,195,83).\r\n')).toBe(
    '227 Entering Passive Mode (10,1,0,100,195,83).\r\n',
  );
  expect(session.connections()).toEqual(['172.16.0.9 0 > 10.1.0.100 50003 > 10.2.0.11 50003 LISTEN']);
  session.says('client', 'RETR x\r\n');
  session.says('server', '150 Here it comes\r\n');

  const opened = session.packet({ from: [V4.client, 45_678], to: [V4.vip, 50_003], flags: 'S' });
  expect(opened.parsed).toMatchObject({ destination: V4.real, destinationPort: 50_003 });
  expect(session.connections()).toEqual(['172.16.0.9 45678 > 10.1.0.100 50003 > 10.2.0.11 50003 SYN_RECV']);
  const answered = session.packet({ from: [V4.real, 50_003], to: [V4.client, 45_678], flags: 'SA' });
  expect(answered.parsed).toMatchObject({ source: V4.vip, sourcePort: 50_003 });
  // It was for one connection.
  const other = session.packet({ from: [V4.client, 45_679], to: [V4.vip, 50_003], flags: 'S' });
  expect(other.verdict).toBe(TC_ACT_UNSPEC);
});

test('answers that grow and shrink again and again leave both streams whole, where numbers come round too', () => {
  const session = new Session({ ...V4, vip: '10.1.0.1' });
  const long = new Session({ ...V4, vip: '210.111.100.100' });
  for (const [each, name] of [
    [session, '10,1,0,1'],
    [long, '210,111,100,100'],
  ] as const) {
    for (let i = 0; i < 12; i++) {
      each.says('client', 'PASV\r\n');
      const line = each.says('server', `227 (10,2,0,11,195,${80 + i})\r\n`);
      expect(line).toBe(`227 (${name},195,${80 + i})\r\n`);
      each.says('client', 'NOOP\r\n');
      each.says('server', '200 yes\r\n');
    }
  }
});

test('an answer that is sent again is changed again, and nothing is expected twice', () => {
  const session = new Session(V4);
  const line = '227 Passive (10,2,0,11,195,83)\r\n';
  session.says('client', 'PASV\r\n');
  const first = session.says('server', line);
  session.packet({ from: [V4.client, 45_678], to: [V4.vip, 50_003], flags: 'S' });
  expect(session.repeats('server', line)).toBe(first);
  expect(session.connections()).toHaveLength(1);
  session.says('client', 'NOOP\r\n');
  session.says('server', '200 yes\r\n');
});

test('extended passive mode tells a port only, over IPv4 and IPv6', () => {
  for (const addresses of [V4, V6]) {
    const session = new Session(addresses);
    session.says('client', addresses === V4 ? 'epsv\r\n' : 'EPSV 2\r\n');
    expect(session.says('server', EPSV)).toBe(EPSV);
    const { client, vip, real } = addresses;
    expect(session.connections()).toEqual([`${client} 0 > ${vip} 50010 > ${real} 50010 LISTEN`]);
    const opened = session.packet({ from: [client, 45_678], to: [vip, 50_010], flags: 'S' });
    expect(opened.parsed).toMatchObject({ destination: real, destinationPort: 50_010 });
  }
});

test.each([
  ['PORT 172,16,0,9,236,197\r\n', V4, '172.16.0.9 60613'],
  ['EPRT |1|172.16.0.9|53829|\r\n', V4, '172.16.0.9 53829'],
  ['TYPE I\r\nPORT 192,0,2,7,1,1\r\n', V4, '192.0.2.7 257'],
  ['EPRT |2|2001:db8:c::9|53829|\r\n', V6, '2001:db8:c::9 53829'],
])('after %j the real server may connect from the port below its own, as the virtual service', (line, addresses, to) => {
  const session = new Session(addresses);
  expect(session.says('client', line)).toBe(line);
  const { vip, real } = addresses;
  expect(session.connections()).toEqual([`${to} > ${vip} 20 > ${real} 2099 LISTEN`]);
  const [address = '', port = ''] = to.split(' ');
  const opened = session.packet({ from: [real, 2099], to: [address, Number(port)], flags: 'S' });
  expect(opened).toMatchObject({ verdict: TC_ACT_REDIRECT, parsed: { source: vip, sourcePort: 20 } });
  const answered = session.packet({ from: [address, Number(port)], to: [vip, 20], flags: 'SA' });
  expect(answered.parsed).toMatchObject({ destination: real, destinationPort: 2099 });
});

test.each([
  ['nobody asked', [], '227 (10,2,0,11,195,83)\r\n'],
  ['the other mode was asked for', ['EPSV\r\n'], '227 (10,2,0,11,195,83)\r\n'],
  ['the client has gone active since', ['PASV\r\n', 'PORT 172,16,0,9,1,2\r\n'], '227 (10,2,0,11,195,83)\r\n'],
  ['EPSV ALL asks for nothing', ['EPSV ALL\r\n'], EPSV],
])('an answer stays as it is where %s', (_why, asked, answer) => {
  const session = new Session(V4);
  for (const line of asked) session.says('client', line);
  const before = session.connections();
  expect(session.says('server', answer)).toBe(answer);
  expect(session.connections()).toEqual(before);
});

test.each([
  ['server', '227 Entering Passive Mode (10,2,0,11,195'],
  ['server', '227 Entering Passive Mode (10,2,0,11,195,83'],
  ['server', '227 Entering Passive Mode\r\n'],
  ['client', 'PORT 172,16,0,9,236'],
  ['client', 'PORT 172,16,0,9,0,0\r\n'],
  ['client', 'PORT 172,16,0,999,1,1\r\n'],
  ['client', 'EPRT |2|2001:db8:c::9|53829|\r\n'],
  ['client', 'EPRT |1|172.16.0.9|0|\r\n'],
] as const)('what cannot be read goes on as it is and is counted: the %s says %j', (side, line) => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  const before = session.counted('unread');
  expect(session.says(side, line)).toBe(line);
  expect(session.connections()).toEqual([]);
  expect(session.counted('unread')).toBe(before + 1);
});

test("what two control connections expect of one port is the newest one's", () => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  session.says('server', '227 (10,2,0,11,195,83)\r\n');
  session.says('client', 'PASV\r\n');
  session.says('server', '227 (10,2,0,11,195,83)\r\n');
  expect(session.connections()).toHaveLength(1);
});

test('only ports of the setting are helped', () => {
  const asked = (session: Session): string => {
    session.says('client', 'PASV\r\n');
    return session.says('server', '227 (10,2,0,11,195,83)\r\n');
  };
  expect(asked(new Session(V4, [], 2121))).toContain('10,2,0,11');
  expect(asked(new Session(V4, [['ftp_ports', '21 2121']], 2121))).toContain('10,1,0,100');
  expect(asked(new Session(V4, [['ftp_ports', 'none']]))).toContain('10,2,0,11');
});

test('an expected connection holds the control connection and goes by itself after 120 seconds', () => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  session.says('server', '227 (10,2,0,11,195,83)\r\n');
  const left = (): number[] => [...session.director.connections()].map(({ expiresSeconds }) => expiresSeconds);
  expect(left()).toEqual([900, 120]);
  session.wait(119);
  expect(left()).toEqual([781, 1]);
  session.wait(2);
  expect(left()).toEqual([779]);
  const late = session.packet({ from: [V4.client, 45_679], to: [V4.vip, 50_003], flags: 'S' });
  expect(late.verdict).toBe(TC_ACT_UNSPEC);
});

describe('under FULLNAT', () => {
  test.each([
    ['PORT 172,16,0,9,236,197\r\n', V4, /^PORT (10),(2),(0),(1),(\d+),(\d+)\r\n$/],
    ['EPRT |1|172.16.0.9|60613|\r\n', V4, /^EPRT \|1\|10\.2\.0\.1\|(\d+)\|\r\n$/],
    ['EPRT |2|2001:db8:c::9|60613|\r\n', V6, /^EPRT \|2\|2001:db8:2:0:0:0:0:1\|(\d+)\|\r\n$/],
  ])('%j names a port of ours, which leads to the client from any port of the real server', (line, addresses, expected) => {
    const session = new Session(addresses, [], 21, 'fullnat');
    const said = session.says('client', line);
    expect(said).toMatch(expected);
    expect(session.repeats('client', line)).toBe(said);
    const numbers = expected.exec(said)!.slice(1).map(Number);
    const port = numbers.length === 1 ? numbers[0]! : numbers[4]! * 256 + numbers[5]!;
    const { client, vip, real } = addresses;
    const local = addresses === V4 ? LOCAL.ipv4 : LOCAL.ipv6;
    const opened = session.packet({ from: [real, 3456], to: [local, port], flags: 'S' });
    expect(opened.parsed).toMatchObject({
      source: vip,
      sourcePort: 3456,
      destination: client,
      destinationPort: 60_613,
    });
    const answered = session.packet({ from: [client, 60_613], to: [vip, 3456], flags: 'SA' });
    expect(answered.parsed).toMatchObject({
      source: local,
      sourcePort: port,
      destination: real,
      destinationPort: 3456,
    });
    // The client's bytes are more or fewer than it sent, and both sides agree all the same.
    session.says('client', 'RETR x\r\n');
    session.says('server', '150 Here it comes\r\n');
    session.says('client', line);
    session.says('client', 'NOOP\r\n');
    session.says('server', '200 yes\r\n');
  });

  test('passive data connections come from the local address of the control connection', () => {
    const session = new Session(V4, [], 21, 'fullnat');
    session.says('client', 'PASV\r\n');
    expect(session.says('server', '227 (10,2,0,11,195,83)\r\n')).toBe('227 (10,1,0,100,195,83)\r\n');
    const opened = session.packet({ from: [V4.client, 45_678], to: [V4.vip, 50_003], flags: 'S' });
    expect(opened.parsed).toMatchObject({ source: LOCAL.ipv4, destination: V4.real, destinationPort: 50_003 });
    const { source, sourcePort } = opened.parsed;
    const answered = session.packet({ from: [V4.real, 50_003], to: [source, sourcePort], flags: 'SA' });
    expect(answered.parsed).toMatchObject({ source: V4.vip, sourcePort: 50_003, destinationPort: 45_678 });
  });
});
