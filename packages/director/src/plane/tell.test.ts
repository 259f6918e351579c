/** How a real server behind FULLNAT hears who its client is: TOA and the PROXY protocol. */
import { NodeSkb, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { type ParsedFrame, parseFrame, type TcpInit, tcpFrame } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import type { ProxyProtocol, ServiceId, ServiceSettings } from '../model.ts';
import { NodeBench, serverSettings, serviceSettings, tcpService, udpService, VIP } from '../testing/node-bench.ts';

const VIP6 = '2001:db8::100';
const service6: ServiceId = { kind: 'address', family: 'ipv6', protocol: 'tcp', address: VIP6, port: 80 };
const FOUR = { client: '192.0.2.1', vip: VIP, real: '10.2.0.1', local: '10.2.0.250', service: tcpService };
const SIX = { client: '2001:db8::1', vip: VIP6, real: 'fd00::1', local: 'fd00::250', service: service6 };
/** NAT64. */
const MIXED = { ...SIX, real: FOUR.real, local: FOUR.local };
type Ends = typeof FOUR | typeof SIX | typeof MIXED;
const CLIENT_PORT = 40_000;
const ISN = 1000;
const REAL_ISN = 5000;
const GET = new TextEncoder().encode('GET');

let bench: NodeBench;
beforeEach(() => {
  bench = new NodeBench();
});

type Segment = Partial<Pick<TcpInit, 'flags' | 'sequence' | 'acknowledgement' | 'payload' | 'options' | 'sourcePort'>>;

const fromClient = ({ client, vip }: Ends, segment: Segment): Uint8Array =>
  tcpFrame({ source: client, destination: vip, sourcePort: CLIENT_PORT, destinationPort: 80, flags: 'A', ...segment });

const up = (ends: Ends, segment: Segment): ParsedFrame => {
  const { verdict, frame } = bench.receive(fromClient(ends, segment));
  expect(verdict).toBe(TC_ACT_REDIRECT);
  expect(frame).toMatchObject({ source: ends.local, destination: ends.real, valid: true });
  return frame;
};

const down = ({ real, local, vip }: Ends, localPort: number, segment: Segment): ParsedFrame => {
  const ends = { source: real, destination: local, sourcePort: 8000, destinationPort: localPort };
  const { frame } = bench.receive(tcpFrame({ ...ends, flags: 'A', ...segment }));
  expect(frame).toMatchObject({ source: vip, valid: true });
  return frame;
};

/** Until the real server has answered: the local port, and the options that the client sees. */
function shake(
  ends: Ends,
  settings: Partial<ServiceSettings> = {},
  options: number[] = [2, 4, 5, 180],
  port = CLIENT_PORT,
) {
  bench.execute(
    { kind: 'addService', service: ends.service, settings: serviceSettings('rr', settings) },
    {
      kind: 'addServer',
      service: ends.service,
      server: { address: ends.real, port: 8000 },
      settings: serverSettings(1, { forwarding: 'fullnat' }),
    },
    { kind: 'addLocalAddress', service: ends.service, address: ends.local },
  );
  const { sourcePort } = up(ends, { flags: 'S', sequence: ISN, sourcePort: port });
  const seen = down(ends, sourcePort, {
    flags: 'SA',
    sequence: REAL_ISN,
    acknowledgement: ISN + 1,
    options: Uint8Array.from(options),
  });
  expect(seen.acknowledgement).toBe(ISN + 1);
  return { localPort: sourcePort, options: [...seen.options] };
}

const first = { sequence: ISN + 1, acknowledgement: REAL_ISN + 1 };
const set = (name: string, value: string): void => bench.execute({ kind: 'setSysctl', name, value });

describe('the option (TOA)', () => {
  const four = [254, 8, CLIENT_PORT >> 8, CLIENT_PORT & 255, 192, 0, 2, 1];
  const six = [254, 20, CLIENT_PORT >> 8, CLIENT_PORT & 255, 0x20, 1, 0xd, 0xb8, ...Array(11).fill(0), 1];

  test.each([
    ['IPv4', FOUR, four, 1500 - 40 - 8],
    ['IPv6', SIX, six, 1500 - 60 - 20],
    ['NAT64', MIXED, six, 1500 - 40 - 20],
  ] as const)('is in each segment until the client acknowledges more (%s)', (_, ends, option, mss) => {
    const { options } = shake(ends);
    expect(options).toEqual([2, 4, mss >> 8, mss & 255]);
    for (const payload of [undefined, GET, new Uint8Array(1001).fill(7)]) {
      const told = up(ends, { ...first, ...(payload && { payload }) });
      expect([...told.options]).toEqual(option);
      expect([...told.payload]).toEqual([...(payload ?? [])]);
      expect(told.sequence).toBe(ISN + 1);
    }
    expect([...up(ends, { sequence: ISN + 4, acknowledgement: REAL_ISN + 6 }).options]).toEqual([]);
  });

  test('of a client itself is blotted out, however often it says it', () => {
    shake(FOUR);
    const own = [254, 8, 1, 2, 9, 9, 9, 9];
    const twice = Uint8Array.from([1, ...own, ...own, 254, 2, 0]);
    expect([...up(FOUR, { ...first, options: twice }).options]).toEqual([...four, ...Array(19).fill(1), 0]);
    const later = up(FOUR, { sequence: ISN + 1, acknowledgement: REAL_ISN + 9, options: Uint8Array.from(own) });
    expect([...later.options]).toEqual(Array(8).fill(1));
  });

  test('stands before other options, and is left out and counted where there is no room for it', () => {
    shake(FOUR);
    const others = [...Array(28).fill(1)];
    expect([...up(FOUR, { ...first, options: Uint8Array.from(others) }).options]).toEqual([...four, ...others]);
    expect(bench.count('untold')).toBe(0);
    const full = Array(36).fill(1);
    expect([...up(FOUR, { ...first, options: Uint8Array.from(full) }).options]).toEqual(full);
    expect(up(FOUR, { ...first, payload: new Uint8Array(1460) }).options.length).toBe(0);
    expect(bench.count('untold')).toBe(2);
  });

  test('has the kind that an operator says, or is none', () => {
    set('toa_option', '200');
    shake(FOUR);
    expect(up(FOUR, first).options[0]).toBe(200);
    bench = new NodeBench();
    set('toa_option', '0');
    expect(shake(FOUR).options).toEqual([2, 4, 5, 180]);
    expect([...up(FOUR, first).options]).toEqual([]);
  });
});

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

describe('the PROXY protocol', () => {
  const ports = [CLIENT_PORT >> 8, CLIENT_PORT & 255, 0, 80];
  const four = [...SIGNATURE, 0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 100, ...ports];
  const address6 = (last: number[]): number[] => [0x20, 1, 0xd, 0xb8, ...Array(10).fill(0), ...last];
  const six = [...SIGNATURE, 0x21, 0x21, 0, 36, ...address6([0, 1]), ...address6([1, 0]), ...ports];

  const words6 = [
    ...new TextEncoder().encode(
      'PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0001 2001:0db8:0000:0000:0000:0000:0000:0100 40000 80\r\n',
    ),
  ];

  test.each([
    ['2, IPv4', FOUR, 'v2', four],
    ['2, IPv6', SIX, 'v2', six],
    ['2, NAT64', MIXED, 'v2', six],
    ['1, IPv4', FOUR, 'v1', [...new TextEncoder().encode(`PROXY TCP4 192.0.2.1 ${VIP} 40000 80\r\n`)]],
    ['1, IPv6', SIX, 'v1', words6],
    ['1, NAT64', MIXED, 'v1', words6],
  ] as const)('puts its header before the first byte (version %s)', (_, ends, proxyProtocol, header) => {
    const { localPort, options } = shake(ends, { proxyProtocol });
    const size = header.length;
    expect(options).toEqual([2, 4, 5, 180]);
    // With the handshake's last segment,
    const told = up(ends, first);
    expect([...told.payload]).toEqual(header);
    expect(told).toMatchObject({ sequence: ISN + 1, acknowledgement: REAL_ISN + 1 });
    // and again with the first bytes, as it may have been lost.
    const again = up(ends, { ...first, flags: 'PA', payload: GET });
    expect([...again.payload]).toEqual([...header, ...GET]);
    expect(again.sequence).toBe(ISN + 1);
    // What follows counts behind it,
    expect(up(ends, { ...first, sequence: ISN + 4 })).toMatchObject({ sequence: ISN + 4 + size });
    // and the client hears nothing of it.
    const heard = (acknowledgement: number): number =>
      down(ends, localPort, { sequence: REAL_ISN + 1, acknowledgement }).acknowledgement;
    expect([ISN + 1, ISN + 1 + size - 1, ISN + 1 + size, ISN + 4 + size].map(heard)).toEqual([
      ISN + 1,
      ISN + 1,
      ISN + 1,
      ISN + 4,
    ]);
    const after = up(ends, { sequence: ISN + 4, acknowledgement: REAL_ISN + 20, payload: GET });
    expect([...after.payload]).toEqual([...GET]);
    expect(after.sequence).toBe(ISN + 4 + size);
  });

  test.each([1, 22, 333, 4444, 55_555])('in words has the right checksum whatever its length (port %i)', (port) => {
    shake(FOUR, { proxyProtocol: 'v1' }, [], port);
    for (const length of [0, 1, 2, 33, 1000]) {
      const payload = Uint8Array.from({ length }, (_, i) => (i * 7 + 3) & 255);
      const told = up(FOUR, { ...first, sourcePort: port, payload });
      const text = `PROXY TCP4 192.0.2.1 ${VIP} ${port} 80\r\n`;
      expect(new TextDecoder().decode(told.payload.subarray(0, text.length))).toBe(text);
      expect(told.payload.subarray(text.length)).toEqual(payload);
    }
  });

  test('goes alone where both do not fit, and the client sends its bytes again', () => {
    const { localPort } = shake(FOUR, { proxyProtocol: 'v2' });
    const alone = up(FOUR, { ...first, flags: 'FPA', payload: new Uint8Array(1460) });
    expect([...alone.payload]).toEqual(four);
    expect(alone).toMatchObject({ sequence: ISN + 1, flags: 'PA' });
    const large = new NodeSkb(fromClient(FOUR, { ...first, payload: new Uint8Array(8000) }), { gsoSize: 1448 });
    expect(bench.plane.receive(large)).toBe(TC_ACT_REDIRECT);
    expect(parseFrame(large.bytes)).toMatchObject({ valid: true, sequence: ISN + 1 });
    expect([...parseFrame(large.bytes).payload]).toEqual(four);
    // The real server has the header; the client sees none of its bytes acknowledged.
    expect(down(FOUR, localPort, { acknowledgement: ISN + 1 + four.length }).acknowledgement).toBe(ISN + 1);
  });

  test('begins anew with a SYN that has another number', () => {
    const { localPort } = shake(FOUR, { proxyProtocol: 'v2' });
    up(FOUR, { flags: 'S', sequence: 90_000 });
    down(FOUR, localPort, { flags: 'SA', sequence: REAL_ISN, acknowledgement: 90_001 });
    const told = up(FOUR, { sequence: 90_001, acknowledgement: REAL_ISN + 1 });
    expect([...told.payload]).toEqual(four);
    expect(told.sequence).toBe(90_001);
  });

  test('takes the place of the option, which a client still cannot forge', () => {
    shake(FOUR, { proxyProtocol: 'v2' });
    const own = Uint8Array.from([254, 8, 1, 2, 9, 9, 9, 9]);
    expect([...up(FOUR, { ...first, options: own }).options]).toEqual(Array(8).fill(1));
  });

  test('is kept, changed and taken away by editing the service, and refused where it has no word', () => {
    shake(FOUR, { proxyProtocol: 'v1' });
    const kept = () => bench.director.service(tcpService)!.proxyProtocol;
    expect(kept()).toBe('v1');
    const edit = (more: Partial<ServiceSettings>) =>
      bench.execute({ kind: 'editService', service: tcpService, settings: serviceSettings('rr', more) });
    edit({ proxyProtocol: 'v2' });
    expect(kept()).toBe('v2');
    edit({});
    expect(kept()).toBeUndefined();
    const refused = (service: ServiceId, proxyProtocol: ProxyProtocol): string | undefined =>
      bench.director.executeAll([{ kind: 'addService', service, settings: serviceSettings('rr', { proxyProtocol }) }], {
        atomic: true,
      })[0]?.message;
    expect(refused(udpService, 'v1')).toMatch(/v1 has no word for UDP, must be v2 or v2-each/);
    expect(refused(service6, 'v2-each')).toMatch(/v2-each is for UDP, must be v1 or v2/);
    expect(refused({ ...udpService, protocol: 'sctp' } as ServiceId, 'v2')).toMatch(/which SCTP cannot have/);
  });
});
