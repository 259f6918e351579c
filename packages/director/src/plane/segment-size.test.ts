/** What TCP's ends say of their largest segment, where a service limits it (ipvsadm --mss). */
import { NodeSkb, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { Connection, connections, parseFrame, SHAKING, type TcpInit, tcpFrame } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import { type ForwardingMethod, plainTunnel, type SegmentSize, type ServiceId, type Tunnel } from '../model.ts';
import { NodeBench, serverSettings, serviceSettings, tcpService, udpService, VIP } from '../testing/node-bench.ts';
import { indexKey } from './index-key.ts';

const VIP6 = '2001:db8::100';
const service6: ServiceId = { kind: 'address', family: 'ipv6', protocol: 'tcp', address: VIP6, port: 80 };
const FOUR = { client: '192.0.2.1', vip: VIP, real: '10.2.0.1', local: '10.2.0.250', service: tcpService };
const SIX = { client: '2001:db8::1', vip: VIP6, real: 'fd00::1', local: 'fd00::250', service: service6 };
type Ends = typeof FOUR | typeof SIX;
const PORT = 40_000;

/** Links' MTUs by the destination's last byte; the client's is 1. */
let narrow: Record<number, number>;
let bench: NodeBench;
beforeEach(() => {
  narrow = {};
  bench = new NodeBench(undefined, undefined, onLink);
});

/** As bpf_fib_lookup answers for what is on link. */
function onLink(parameters: Uint8Array): number {
  const view = new DataView(parameters.buffer, parameters.byteOffset);
  const address = parameters.subarray(32, parameters[0] === 2 ? 36 : 48);
  const mtu = (address[0] === 10 || address[0] === 0xfd ? narrow[2] : narrow[1]) ?? 1500;
  const length = view.getUint16(6, true);
  if (length !== 0) view.setUint16(6, mtu, true);
  view.setUint32(8, 2, true);
  parameters.set([127, 0, 0, 1], 16);
  return length > mtu ? 8 : 0;
}

const mss = (size: number): number[] => [2, 4, size >> 8, size & 255];

function begin(ends: Ends, segmentSize: SegmentSize, forwarding: ForwardingMethod, tunnel: Tunnel = plainTunnel): void {
  const { service, real } = ends;
  bench.execute({ kind: 'addService', service, settings: serviceSettings('rr', { segmentSize }) });
  const settings = serverSettings(1, { forwarding, tunnel });
  const keepsPort = forwarding === 'route' || forwarding === 'tunnel';
  bench.execute({ kind: 'addServer', service, server: { address: real, port: keepsPort ? 80 : 8000 }, settings });
  bench.execute({ kind: 'addLocalAddress', service, address: ends.local });
  bench.execute({ kind: 'setSysctl', name: 'toa_option', value: '0' });
}

type Segment = Partial<Pick<TcpInit, 'flags' | 'sourcePort' | 'sequence' | 'payload'>> & {
  readonly options?: readonly number[];
};

function receive(frame: Uint8Array): Uint8Array {
  const skb = new NodeSkb(frame);
  expect(bench.plane.receive(skb)).toBe(TC_ACT_REDIRECT);
  return skb.bytes;
}

/** The options of the client's segment as the real server has it. */
function up(ends: Ends, segment: Segment, outer = 0): number[] {
  const { client: source, vip: destination } = ends;
  const options = Uint8Array.from(segment.options ?? []);
  const frame = tcpFrame({
    source,
    destination,
    sourcePort: PORT,
    destinationPort: 80,
    flags: 'S',
    ...segment,
    options,
  });
  const left = receive(frame);
  const four = source === FOUR.client;
  const inner =
    outer === 0
      ? left
      : Uint8Array.from([...left.subarray(0, 12), ...(four ? [8, 0] : [0x86, 0xdd]), ...left.subarray(14 + outer)]);
  const parsed = parseFrame(inner);
  expect(parsed.valid).toBe(true);
  return [...parsed.options];
}

/** The same of the real server's, as the client has it. */
function down(ends: Ends, segment: Segment, localPort?: number): number[] {
  const { real: source, client, local } = ends;
  const options = Uint8Array.from(segment.options ?? []);
  const to =
    localPort === undefined
      ? { destination: client, destinationPort: PORT }
      : { destination: local, destinationPort: localPort };
  const parsed = parseFrame(receive(tcpFrame({ source, sourcePort: 8000, ...to, flags: 'SA', ...segment, options })));
  expect(parsed).toMatchObject({ source: ends.vip, valid: true });
  return [...parsed.options];
}

const isShaking = (): boolean =>
  (Connection.on(bench.plane.store(connections).lookup(indexKey(0))!).flags & SHAKING) !== 0;

describe('a service’s largest segment', () => {
  test.each([
    ['NAT', 'masq', undefined],
    ['FULLNAT', 'fullnat', 32_768],
  ] as const)('is in both ends’ SYN under %s, and never more than they say', (_, forwarding, localPort) => {
    for (const ends of [FOUR, SIX]) {
      bench = new NodeBench(undefined, undefined, onLink);
      bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: '32768 32769' });
      begin(ends, 1200, forwarding);
      expect(up(ends, { options: mss(1460) })).toEqual(mss(1200));
      expect(up(ends, { options: mss(900) })).toEqual(mss(900));
      expect(down(ends, { options: [1, ...mss(1460), 1, 1, 1] }, localPort)).toEqual([1, ...mss(1200), 1, 1, 1]);
      expect(down(ends, { options: mss(1200) }, localPort)).toEqual(mss(1200));
    }
  });

  test.each([
    ['DR', 'route', 0],
    ['TUN', 'tunnel', 20],
  ] as const)('is in the client’s SYN under %s', (_, forwarding, outer) => {
    begin(FOUR, 1200, forwarding);
    expect(up(FOUR, { options: mss(1460) }, outer)).toEqual(mss(1200));
  });

  test('is what fits on the narrower of both ways where it says auto', () => {
    narrow = { 1: 1400, 2: 1450 };
    begin(FOUR, 'auto', 'masq');
    expect(up(FOUR, { options: mss(1460) })).toEqual(mss(1360));
    expect(down(FOUR, { options: mss(1460) })).toEqual(mss(1360));
    narrow = { 1: 1500, 2: 1450 };
    bench.now += 2_000_000_000n;
    expect(down(FOUR, { options: mss(1460) })).toEqual(mss(1410));
    begin(SIX, 'auto', 'masq');
    expect(up(SIX, { options: mss(1440) })).toEqual(mss(1390));
  });

  test.each([
    ['IP in IP', plainTunnel, FOUR.real, 20],
    ['GRE with a checksum', { type: 'gre', port: 0, checksum: 'full' }, FOUR.real, 28],
    ['GUE', { type: 'gue', port: 5555, checksum: 'none' }, FOUR.real, 32],
    ['IPv6 around IPv4', plainTunnel, SIX.real, 40],
  ] as const)('leaves room for what a tunnel puts before it (%s)', (_, tunnel, real, outer) => {
    const ends = { ...FOUR, real } as Ends;
    begin(ends, 'auto', 'tunnel', tunnel);
    expect(up(ends, { options: mss(1460) }, outer)).toEqual(mss(1500 - outer - 40));
  });

  test('is put where nothing is said only if more would be sent, before all other options', () => {
    begin(FOUR, 500, 'masq');
    begin(SIX, 1100, 'masq');
    expect(up(FOUR, { options: [4, 2, 1, 1] })).toEqual([...mss(500), 4, 2, 1, 1]);
    expect(up(SIX, {})).toEqual(mss(1100));
    const full = Array(40).fill(1);
    expect(up(FOUR, { sourcePort: 1, options: full })).toEqual(full);
    bench = new NodeBench();
    begin(FOUR, 536, 'masq');
    begin(SIX, 1220, 'masq');
    expect(up(FOUR, {})).toEqual([]);
    expect(up(SIX, {})).toEqual([]);
  });

  test('costs nothing once the client has sent more than its SYN, and counts again for a SYN of the same port', () => {
    begin(FOUR, 1200, 'masq');
    up(FOUR, { options: mss(1460) });
    expect(isShaking()).toBe(true);
    down(FOUR, { options: mss(1460) });
    up(FOUR, { flags: 'A', options: mss(1460) });
    expect(isShaking()).toBe(false);
    // Nothing but a SYN is looked at.
    expect(up(FOUR, { flags: 'PA', payload: Uint8Array.of(1), options: mss(1460) })).toEqual(mss(1460));
    expect(up(FOUR, { options: mss(1460) })).toEqual(mss(1200));
  });

  test('holds for the data connections of a helper', () => {
    const service: ServiceId = { ...tcpService, port: 21 } as ServiceId;
    bench.execute({ kind: 'addService', service, settings: serviceSettings('rr', { segmentSize: 1200 }) });
    bench.execute({
      kind: 'addServer',
      service,
      server: { address: FOUR.real, port: 21 },
      settings: serverSettings(1),
    });
    const control = { source: FOUR.client, sourcePort: PORT, destination: VIP, destinationPort: 21 };
    receive(tcpFrame({ ...control, flags: 'S' }));
    receive(
      tcpFrame({ source: FOUR.real, sourcePort: 21, destination: FOUR.client, destinationPort: PORT, flags: 'SA' }),
    );
    receive(tcpFrame({ ...control, flags: 'A' }));
    receive(tcpFrame({ ...control, flags: 'PA', payload: new TextEncoder().encode('PASV\r\n') }));
    const payload = new TextEncoder().encode('227 Entering Passive Mode (10,2,0,1,195,80)\r\n');
    receive(
      tcpFrame({
        source: FOUR.real,
        sourcePort: 21,
        destination: FOUR.client,
        destinationPort: PORT,
        flags: 'PA',
        payload,
      }),
    );
    const data = { source: FOUR.client, sourcePort: 40_001, destination: VIP, destinationPort: 195 * 256 + 80 };
    const left = parseFrame(receive(tcpFrame({ ...data, flags: 'S', options: Uint8Array.from(mss(1460)) })));
    expect(left).toMatchObject({ destination: FOUR.real, valid: true });
    expect([...left.options]).toEqual(mss(1200));
  });

  test('is kept, changed and taken away by editing the service, and refused where it makes no sense', () => {
    begin(FOUR, 1200, 'masq');
    const kept = (): SegmentSize | undefined => bench.director.service(tcpService)!.segmentSize;
    expect(kept()).toBe(1200);
    const edit = (segmentSize?: SegmentSize): void =>
      bench.execute({
        kind: 'editService',
        service: tcpService,
        settings: serviceSettings('rr', segmentSize === undefined ? {} : { segmentSize }),
      });
    edit('auto');
    expect(kept()).toBe('auto');
    edit();
    expect(kept()).toBeUndefined();
    expect(up(FOUR, { options: mss(1460) })).toEqual(mss(1460));
    const refused = (service: ServiceId, segmentSize: SegmentSize): string | undefined =>
      bench.director.executeAll([{ kind: 'addService', service, settings: serviceSettings('rr', { segmentSize }) }], {
        atomic: true,
      })[0]?.message;
    expect(refused(service6, 47)).toMatch(/segments are of 47 bytes at most, must be 48\.\.65495 or auto/);
    expect(refused(udpService, 1200)).toMatch(/it limits segments, which only TCP has/);
  });

  test('of a service that is gone is nobody’s, whoever has its place by now', () => {
    begin(FOUR, 1200, 'masq');
    up(FOUR, { options: mss(1460) });
    bench.execute({ kind: 'addService', service: udpService, settings: serviceSettings('rr') });
    bench.execute({ kind: 'deleteService', service: tcpService });
    begin(SIX, 900, 'masq');
    expect(down(FOUR, { options: mss(1460) })).toEqual(mss(1460));
  });
});
