/** NAT64: clients of IPv6, real servers of IPv4. Each packet is one of the other family when it leaves (RFC 7915). */
import { answerOnLink, BPF_FIB_LOOKUP_SRC, NodeSkb, TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { internetChecksum, ipFrame, type ParsedFrame, parseFrame, sctpFrame, tcpFrame, udpFrame } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Command } from '../command.ts';
import type { Protocol, ServiceId } from '../model.ts';
import { NodeBench, serverSettings, serviceSettings, tcpService } from '../testing/node-bench.ts';

const CLIENT = '2001:db8::1';
const VIP = '2001:db8::100';
const REAL = '10.2.0.1';
const LOCAL = '10.2.0.250';
const CLIENT_PORT = 4000;
/** What its first connection gets. */
const LOCAL_PORT = 1024;
const CLIENT_SIDE = { source: CLIENT, sourcePort: CLIENT_PORT, destination: VIP, destinationPort: 80 };
const SERVER_SIDE = { source: LOCAL, sourcePort: LOCAL_PORT, destination: REAL, destinationPort: 8000 };
const reversed = <E extends typeof CLIENT_SIDE>({ source, sourcePort, destination, destinationPort }: E) => ({
  source: destination,
  sourcePort: destinationPort,
  destination: source,
  destinationPort: sourcePort,
});
const REPLY = reversed(SERVER_SIDE);
const TO_CLIENT = reversed(CLIENT_SIDE);

/** MTUs of the ways to clients and to real servers. */
let mtu = { client: 1500, server: 1500 };
let bench: NodeBench;
beforeEach(() => {
  mtu = { client: 1500, server: 1500 };
  bench = new NodeBench(undefined, undefined, (parameters, flags) =>
    (flags & BPF_FIB_LOOKUP_SRC) === 0
      ? answerOnLink(parameters, 2, parameters[0] === 2 ? mtu.server : mtu.client)
      : NOT_FOUND,
  );
});
const NOT_FOUND = 4;

const of = (protocol: Protocol): ServiceId => ({ kind: 'address', family: 'ipv6', protocol, address: VIP, port: 80 });
const real = (service: ServiceId, address: string): Command => ({
  kind: 'addServer',
  service,
  server: { address, port: 8000 },
  settings: serverSettings(1, { forwarding: 'fullnat' }),
});
const local = (service: ServiceId, address: string): Command => ({ kind: 'addLocalAddress', service, address });

function setUp(protocol: Protocol): void {
  const service = of(protocol);
  bench.execute({ kind: 'addService', service, settings: serviceSettings('rr') });
  bench.execute(real(service, REAL), local(service, LOCAL));
}

/** The packet as it leaves: it has been sent on. */
function sent(frame: Uint8Array, gsoSize = 0): { readonly bytes: Uint8Array; readonly frame: ParsedFrame } {
  const skb = new NodeSkb(frame, { gsoSize });
  expect(bench.plane.receive(skb)).toBe(TC_ACT_REDIRECT);
  // The next hop is of the packet's own family, as the kernel and as its header have it.
  const four = skb.bytes[12] === 8;
  expect(skb.protocol).toBe(four ? 0x0008 : 0xdd86);
  expect(skb.redirection?.neighbour?.[0]).toBe(four ? 2 : 10);
  return { bytes: skb.bytes, frame: parseFrame(skb.bytes) };
}

const asks = (payload = new Uint8Array(0), flags = 'S') => tcpFrame({ ...CLIENT_SIDE, flags, payload });
const answers = (payload = new Uint8Array(0), flags = 'SA') => tcpFrame({ ...REPLY, flags, payload });
const id = (bytes: Uint8Array): number => new DataView(bytes.buffer).getUint16(18);
const flagsOf4 = (bytes: Uint8Array): number => bytes[20]! >> 5;
/** The message of an ICMP error that leaves, headers of IPv6 or IPv4 before it. */
function error(bytes: Uint8Array) {
  const v6 = bytes[12] === 0x86;
  const at = v6 ? 54 : 34;
  const view = new DataView(bytes.buffer);
  const inner = at + 8;
  const quoted = ipFrame({ source: v6 ? '::' : '0.0.0.0', destination: v6 ? '::' : '0.0.0.0' }, 0, new Uint8Array(0));
  const around = parseFrame(bytes);
  const frame = Uint8Array.from([...quoted.subarray(0, 14), ...bytes.subarray(inner), ...new Uint8Array(20)]);
  const about = parseFrame(frame);
  return {
    family: around.family,
    ends: `${around.source} > ${around.destination}`,
    says: [bytes[at], bytes[at + 1], view.getUint32(at + 4)],
    about: `${about.source}:${about.sourcePort} > ${about.destination}:${about.destinationPort}`,
    valid: v6
      ? around.valid
      : internetChecksum(bytes.subarray(at)) === 0 && internetChecksum(bytes.subarray(14, 34)) === 0,
    bytes,
  };
}

describe('a packet under NAT64', () => {
  test('changes its family on the way to the real server, and its reply on the way back', () => {
    setUp('tcp');
    const options = Uint8Array.from([2, 4, 5, 160]);
    const up = sent(tcpFrame({ ...CLIENT_SIDE, flags: 'S', options, tos: 0xb8, timeToLive: 9 }));
    expect(up.frame).toMatchObject({ ...SERVER_SIDE, family: 4, flags: 'S', timeToLive: 8, valid: true, options });
    expect(up.bytes[15]).toBe(0xb8);
    const down = sent(tcpFrame({ ...REPLY, flags: 'SA', options, tos: 0x28, timeToLive: 7 }));
    expect(down.frame).toMatchObject({ ...TO_CLIENT, family: 6, flags: 'SA', timeToLive: 6, valid: true });
    expect([...down.bytes.subarray(14, 18)]).toEqual([0x62, 0x80, 0, 0]);
    const payload = Uint8Array.from({ length: 1001 }, (_, i) => i & 255);
    expect(sent(tcpFrame({ ...REPLY, flags: 'PA', payload })).frame).toMatchObject({ family: 6, payload, valid: true });
    expect([...bench.director.connections()]).toMatchObject([
      {
        client: { address: CLIENT },
        virtual: { address: VIP },
        real: { address: REAL, port: 8000 },
        state: 'ESTABLISHED',
      },
    ]);
  });

  test('of UDP too; a reply without a checksum gets one, which IPv6 asks for', () => {
    setUp('udp');
    const payload = Uint8Array.of(1, 2, 3);
    expect(sent(udpFrame({ ...CLIENT_SIDE, payload })).frame).toMatchObject({ ...SERVER_SIDE, payload, valid: true });
    const bare = udpFrame({ ...REPLY, payload });
    bare.set([0, 0], 40);
    expect(sent(bare).frame).toMatchObject({ ...TO_CLIENT, payload, valid: true });
  });

  test('of SCTP too', () => {
    setUp('sctp');
    const init = Uint8Array.from([1, 0, 0, 4]);
    const up = sent(sctpFrame(CLIENT_SIDE, init));
    expect(up.bytes.subarray(34)).toEqual(sctpFrame(SERVER_SIDE, init).subarray(34));
    const down = sent(sctpFrame(REPLY, Uint8Array.from([2, 0, 0, 4])));
    expect(down.bytes.subarray(54)).toEqual(sctpFrame(TO_CLIENT, Uint8Array.from([2, 0, 0, 4])).subarray(54));
  });

  test('loses options of IPv4, which IPv6 does not have', () => {
    setUp('tcp');
    sent(asks());
    const plain = answers(Uint8Array.of(9));
    const frame = Uint8Array.from([...plain.subarray(0, 34), ...Array(8).fill(1), ...plain.subarray(34)]);
    frame[14] = 0x47;
    frame.set([0, 28 + 21], 16);
    frame.set([0, 0], 24);
    new DataView(frame.buffer).setUint16(24, internetChecksum(frame.subarray(14, 42)));
    const { bytes, frame: left } = sent(frame);
    expect(left).toMatchObject({ ...TO_CLIENT, payload: Uint8Array.of(9), valid: true });
    expect(bytes.length).toBe(14 + 40 + 21);
  });

  test('may be fragmented on where IPv6 would carry it everywhere, with a number of its own each time', () => {
    setUp('tcp');
    const short = [1, 2].map(() => sent(asks(new Uint8Array(1260 - 40))).bytes);
    expect(short.map(flagsOf4)).toEqual([0, 0]);
    expect(id(short[1]!)).toBe(id(short[0]!) + 1);
    const long = sent(asks(new Uint8Array(1260 - 40 + 1))).bytes;
    expect(flagsOf4(long)).toBe(2);
    expect(id(long)).toBe(0);
  });

  test('that may travel no further is answered in its own family', () => {
    setUp('tcp');
    const up = error(sent(tcpFrame({ ...CLIENT_SIDE, flags: 'S', timeToLive: 1 })).bytes);
    expect(up).toMatchObject({ ends: `${VIP} > ${CLIENT}`, says: [3, 0, 0], valid: true });
    sent(asks());
    const down = error(sent(tcpFrame({ ...REPLY, flags: 'SA', timeToLive: 1 })).bytes);
    expect(down).toMatchObject({ ends: `${LOCAL} > ${REAL}`, says: [11, 0, 0], valid: true });
  });
});

describe('what does not fit when it leaves', () => {
  test.each([
    [1500, 1520],
    [1400, 1420],
    // Nothing in IPv6 need be shorter.
    [1000, 1280],
  ])('is answered with what the client may send (to real servers %i, told %i)', (server, told) => {
    mtu = { client: 9000, server };
    setUp('tcp');
    sent(asks());
    const fits = asks(new Uint8Array(server + 20 - 60), 'A');
    expect(sent(fits).frame.family).toBe(4);
    const { bytes } = sent(asks(new Uint8Array(server + 20 - 60 + 1), 'A'));
    expect(error(bytes)).toMatchObject({ family: 6, ends: `${VIP} > ${CLIENT}`, says: [2, 0, told], valid: true });
  });

  test('is answered with what the real server may send', () => {
    mtu = { client: 1400, server: 1500 };
    setUp('tcp');
    sent(asks());
    expect(sent(answers(new Uint8Array(1380 - 40), 'A')).frame).toMatchObject({ family: 6, valid: true });
    const { bytes } = sent(answers(new Uint8Array(1380 - 40 + 1), 'A'));
    expect(error(bytes)).toMatchObject({ family: 4, ends: `${LOCAL} > ${REAL}`, says: [3, 4, 1380], valid: true });
  });

  test('fits if its segments do, and then it stays whole', () => {
    setUp('tcp');
    sent(asks());
    const payload = new Uint8Array(5000).fill(7);
    expect(sent(answers(payload, 'A'), 1440).frame).toMatchObject({ family: 6, payload, valid: true });
    expect(error(sent(answers(payload, 'A'), 1441).bytes).says).toEqual([3, 4, 1480]);
    expect(sent(asks(payload, 'A'), 1460).frame).toMatchObject({ family: 4, payload, valid: true });
    expect(error(sent(asks(payload, 'A'), 1461).bytes).says).toEqual([2, 0, 1520]);
  });

  test('fits if its datagrams do, where one system call has sent many (UDP_SEGMENT)', () => {
    setUp('udp');
    sent(udpFrame(CLIENT_SIDE));
    const payload = new Uint8Array(3000).fill(7);
    expect(sent(udpFrame({ ...REPLY, payload }), 1000).frame).toMatchObject({ family: 6, payload, valid: true });
    expect(error(sent(udpFrame({ ...REPLY, payload }), 1453).bytes).says).toEqual([3, 4, 1480]);
  });
});

describe('fragments', () => {
  /** The packet in two, of IPv4: `cut` bytes of its payload in the first. */
  function pieces4(frame: Uint8Array, cut: number): Uint8Array[] {
    return [[0x2000, 34, 34 + cut] as const, [cut / 8, 34 + cut, frame.length] as const].map(([place, from, to]) => {
      const piece = Uint8Array.from([...frame.subarray(0, 34), ...frame.subarray(from, to)]);
      const view = new DataView(piece.buffer);
      view.setUint16(16, piece.length - 14);
      view.setUint16(18, 0xabcd);
      view.setUint16(20, place);
      view.setUint16(24, 0);
      view.setUint16(24, internetChecksum(piece.subarray(14, 34)));
      return piece;
    });
  }
  function pieces6(frame: Uint8Array, cut: number): Uint8Array[] {
    return [[1, 54, 54 + cut] as const, [cut, 54 + cut, frame.length] as const].map(([place, from, to]) => {
      const extension = [frame[20]!, 0, place >> 8, place & 255, 1, 2, 0x34, 0x56];
      const piece = Uint8Array.from([...frame.subarray(0, 54), ...extension, ...frame.subarray(from, to)]);
      new DataView(piece.buffer).setUint16(18, piece.length - 54);
      piece[20] = 44;
      return piece;
    });
  }
  const payload = Uint8Array.from({ length: 200 }, (_, i) => i);

  test('of a request become fragments of IPv4, which make up the datagram', () => {
    setUp('udp');
    const [first, second] = pieces6(udpFrame({ ...CLIENT_SIDE, payload }), 104).map((piece) => sent(piece).bytes);
    expect([id(first!), id(second!)]).toEqual([0x3456, 0x3456]);
    expect([first!, second!].map((piece) => new DataView(piece.buffer).getUint16(20))).toEqual([0x2000, 13]);
    for (const piece of [first!, second!]) expect(internetChecksum(piece.subarray(14, 34))).toBe(0);
    const whole = udpFrame({ ...SERVER_SIDE, payload });
    expect([...first!.subarray(34), ...second!.subarray(34)]).toEqual([...whole.subarray(34)]);
    expect([...second!.subarray(26, 34)]).toEqual([...whole.subarray(26, 34)]);
  });

  test('of a reply become fragments of IPv6', () => {
    setUp('udp');
    sent(udpFrame(CLIENT_SIDE));
    const [first, second] = pieces4(udpFrame({ ...REPLY, payload }), 104).map((piece) => sent(piece).bytes);
    expect([...first!.subarray(54, 62)]).toEqual([17, 0, 0, 1, 0, 0, 0xab, 0xcd]);
    expect([...second!.subarray(54, 62)]).toEqual([17, 0, 0, 104, 0, 0, 0xab, 0xcd]);
    const whole = udpFrame({ ...TO_CLIENT, payload });
    expect([...first!.subarray(62), ...second!.subarray(62)]).toEqual([...whole.subarray(54)]);
    for (const piece of [first!, second!]) {
      expect(new DataView(piece.buffer).getUint16(18)).toBe(piece.length - 54);
      expect(piece[20]).toBe(44);
      expect([...piece.subarray(22, 54)]).toEqual([...whole.subarray(22, 54)]);
    }
  });

  test('of a reply that has no checksum are dropped and counted', () => {
    setUp('udp');
    sent(udpFrame(CLIENT_SIDE));
    const bare = udpFrame({ ...REPLY, payload });
    bare.set([0, 0], 40);
    const [first] = pieces4(bare, 104);
    expect(bench.receive(first!).verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('untranslated')).toBe(1);
  });

  test('that do not fit with the longer headers are answered to their sender', () => {
    setUp('udp');
    sent(udpFrame(CLIENT_SIDE));
    const long = pieces4(udpFrame({ ...REPLY, payload: new Uint8Array(2000) }), 1480);
    expect(error(sent(long[0]!).bytes)).toMatchObject({ ends: `${LOCAL} > ${REAL}`, says: [3, 4, 1472], valid: true });
    const fitting = pieces4(udpFrame({ ...REPLY, payload: new Uint8Array(2000) }), 1448);
    expect(sent(fitting[0]!).bytes.length).toBe(14 + 1496);
  });
});

describe('an ICMP error about a connection', () => {
  const begin = (frame: Uint8Array, length: number): Uint8Array => frame.slice(14, 14 + length);
  /** What a router says of a packet to the real server, to the local address. */
  function fromServerSide(
    type: number,
    code: number,
    rest = 0,
    quoted = begin(tcpFrame({ ...SERVER_SIDE, flags: 'A', payload: new Uint8Array(1460) }), 28),
  ) {
    const message = Uint8Array.from([type, code, 0, 0, 0, 0, rest >> 8, rest & 255, ...quoted]);
    new DataView(message.buffer).setUint16(2, internetChecksum(message));
    return ipFrame({ source: '10.9.9.9', destination: LOCAL }, 1, message);
  }
  function fromClientSide(
    type: number,
    code: number,
    rest = 0,
    quoted = begin(tcpFrame({ ...TO_CLIENT, flags: 'A' }), 60),
  ) {
    const message = Uint8Array.from([
      type,
      code,
      0,
      0,
      rest >> 24,
      (rest >> 16) & 255,
      (rest >> 8) & 255,
      rest & 255,
      ...quoted,
    ]);
    return ipFrame({ source: '2001:db8:9::9', destination: VIP }, 58, message, 2);
  }

  test.each([
    ['network unreachable', [3, 0], [1, 0, 0]],
    ['host unreachable', [3, 1], [1, 0, 0]],
    ['protocol unreachable', [3, 2], [4, 1, 6]],
    ['port unreachable', [3, 3], [1, 4, 0]],
    ['source route failed', [3, 5], [1, 0, 0]],
    ['host prohibited', [3, 10], [1, 1, 0]],
    ['unreachable for this type of service', [3, 12], [1, 0, 0]],
    ['filtered', [3, 13], [1, 1, 0]],
    ['time exceeded on the way', [11, 0], [3, 0, 0]],
    ['time exceeded in reassembly', [11, 1], [3, 1, 0]],
  ] as const)('reads to the client as one of its own family: %s', (_, [type, code], says) => {
    setUp('tcp');
    sent(asks());
    expect(error(sent(fromServerSide(type, code)).bytes)).toMatchObject({
      family: 6,
      ends: `${VIP} > ${CLIENT}`,
      says,
      about: `${CLIENT}:${CLIENT_PORT} > ${VIP}:80`,
      valid: true,
    });
  });

  test.each([
    ['as told', 1400, 1420],
    ['never below what any way carries', 600, 1280],
    ['never above what our own ways carry', 9000, 1500],
    ['guessed where the router says none', 0, 1492 + 8],
  ])('tells the client what fits, %s', (_, router, told) => {
    setUp('tcp');
    sent(asks());
    expect(error(sent(fromServerSide(3, 4, router)).bytes).says).toEqual([2, 0, told]);
  });

  test.each([
    ['no route', [1, 0, 0], [3, 1, 0]],
    ['prohibited', [1, 1, 0], [3, 10, 0]],
    ['beyond scope', [1, 2, 0], [3, 1, 0]],
    ['address unreachable', [1, 3, 0], [3, 1, 0]],
    ['port unreachable', [1, 4, 0], [3, 3, 0]],
    ['too big', [2, 0, 1300], [3, 4, 1280]],
    ['too big, as little as there is', [2, 0, 0], [3, 4, 68]],
    ['time exceeded', [3, 0, 0], [11, 0, 0]],
    ['a bad hop limit', [4, 0, 7], [12, 0, 0x0800_0000]],
    ['a bad next header', [4, 1, 6], [3, 2, 0]],
  ] as const)('reads to the real server as one of its own family: %s', (_, [type, code, rest], says) => {
    setUp('tcp');
    sent(asks());
    sent(answers());
    expect(error(sent(fromClientSide(type, code, rest)).bytes)).toMatchObject({
      family: 4,
      ends: `${LOCAL} > ${REAL}`,
      says,
      about: `${REAL}:8000 > ${LOCAL}:${LOCAL_PORT}`,
      valid: true,
    });
  });

  test('is dropped and counted where the other family has no such thing, or its checksum is wrong', () => {
    setUp('tcp');
    sent(asks());
    const refused = [fromServerSide(4, 0), fromServerSide(3, 14), fromClientSide(1, 7), fromClientSide(4, 0, 40)];
    for (const frame of refused) expect(bench.receive(frame).verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('untranslated')).toBe(refused.length);
    const wrong = [fromServerSide(3, 3), fromClientSide(1, 4)];
    for (const frame of wrong) frame[frame.length - 1]! ^= 1;
    for (const frame of wrong) expect(bench.receive(frame).verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('badChecksum')).toBe(2);
  });

  test('quotes as much as an error of IPv6 may, and leaves options out', () => {
    setUp('tcp');
    sent(asks());
    const packet = begin(tcpFrame({ ...SERVER_SIDE, flags: 'A', payload: new Uint8Array(1460).fill(5) }), 1480);
    const quoted = Uint8Array.from([0x46, ...packet.subarray(1, 20), 1, 1, 1, 1, ...packet.subarray(20)]);
    const { bytes } = sent(fromServerSide(3, 1, 0, quoted.subarray(0, 1400)));
    expect(bytes.length).toBe(14 + 1280);
    expect(error(bytes)).toMatchObject({ about: `${CLIENT}:${CLIENT_PORT} > ${VIP}:80`, valid: true });
  });
});

describe('local addresses', () => {
  test('are of the family of the real server, in turn among those', () => {
    const service = of('tcp');
    bench.execute({ kind: 'addService', service, settings: serviceSettings('rr') });
    const locals = [LOCAL, 'fd00::250', '10.2.0.251', 'fd00::251'];
    for (const address of locals) bench.execute(local(service, address));
    expect(bench.director.service(service)!.localAddresses).toEqual(locals);
    bench.execute(real(service, REAL), real(service, 'fd00::1'));
    const used = Array.from({ length: 8 }, (_, i) => {
      const { destination, source } = sent(tcpFrame({ ...CLIENT_SIDE, sourcePort: 100 + i, flags: 'S' })).frame;
      return `${destination} ${source}`;
    });
    // The two real servers take turns, and so do the addresses: each real server gets one of its own family.
    expect(new Set(used.map((line) => line.split(' ')[0]))).toEqual(new Set([REAL, 'fd00::1']));
    for (const line of used) expect(line).toMatch(/^10\.2\.0\.1 10\.2\.0\.25[01]$|^fd00::1 fd00::25[01]$/);
  });

  test('of the other family alone serve nobody', () => {
    const service = of('tcp');
    bench.execute({ kind: 'addService', service, settings: serviceSettings('rr') });
    bench.execute(real(service, REAL), local(service, 'fd00::250'));
    expect(bench.receive(asks()).verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('noLocalAddress')).toBe(1);
  });

  test('come and go without the others losing their place', () => {
    const service = of('tcp');
    bench.execute({ kind: 'addService', service, settings: serviceSettings('rr') });
    for (const address of [LOCAL, 'fd00::250', '10.2.0.251']) bench.execute(local(service, address));
    bench.execute({ kind: 'deleteLocalAddress', service, address: LOCAL });
    expect(bench.director.service(service)!.localAddresses).toEqual(['fd00::250', '10.2.0.251']);
    bench.execute(real(service, REAL));
    expect(sent(asks()).frame.source).toBe('10.2.0.251');
  });
});

test('a port is free again when its connection has gone, and replies find the next one', () => {
  setUp('tcp');
  bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: '2000 2000' });
  const syn = (port: number) => bench.receive(tcpFrame({ ...CLIENT_SIDE, sourcePort: port, flags: 'S' }));
  expect(syn(1).verdict).toBe(TC_ACT_REDIRECT);
  expect(syn(2).verdict).toBe(TC_ACT_SHOT);
  expect(bench.count('noLocalPort')).toBe(1);
  bench.pass(130);
  expect([...bench.director.connections()]).toEqual([]);
  expect(syn(2).verdict).toBe(TC_ACT_REDIRECT);
  const answer = tcpFrame({ source: REAL, sourcePort: 8000, destination: LOCAL, destinationPort: 2000, flags: 'SA' });
  expect(sent(answer).frame).toMatchObject({ destination: CLIENT, destinationPort: 2, valid: true });
});

test('replies of IPv4 are looked at while a service of IPv6 needs them, and no longer', () => {
  setUp('tcp');
  sent(asks());
  expect(sent(answers()).frame.family).toBe(6);
  bench.execute({ kind: 'deleteService', service: of('tcp') });
  expect(bench.receive(answers()).verdict).not.toBe(TC_ACT_REDIRECT);
});

describe('what the kernel would not do either', () => {
  const refusal = (command: Command) => bench.director.executeAll([command], { atomic: true })[0];

  test.each(['masq', 'route'] as const)('is refused: a real server of the other family with %s', (forwarding) => {
    bench.execute({ kind: 'addService', service: of('tcp'), settings: serviceSettings('rr') });
    const server = { address: REAL, port: 80 };
    const settings = serverSettings(1, { forwarding });
    expect(refusal({ kind: 'addServer', service: of('tcp'), server, settings })).toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining('only a tunnel may lead into the other family, and FULLNAT from IPv6 to IPv4'),
    });
  });

  test('is refused: a real server of IPv6 behind a service of IPv4, and its local address', () => {
    bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') });
    expect(refusal(real(tcpService, 'fd00::1'))?.code).toBe('EINVAL');
    expect(refusal(local(tcpService, 'fd00::250'))?.message).toMatch(/must be of the service's own/);
  });

  test('is refused: another method for a real server that only NAT64 reaches', () => {
    setUp('tcp');
    const server = { address: REAL, port: 8000 };
    expect(refusal({ kind: 'editServer', service: of('tcp'), server, settings: serverSettings() })?.code).toBe(
      'EINVAL',
    );
  });
});
