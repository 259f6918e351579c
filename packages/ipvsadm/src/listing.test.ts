import { MemoryDirector, noFigures, plainTunnel, type Stats, type VirtualService } from '@ipvsd/director';
import { describe, expect, test } from 'vitest';
import { numericLabel } from './labels.ts';
import { formatListing } from './listing.ts';
import type { OptionName } from './options.ts';
import { sortServers } from './order.ts';
import { formatProcCpuStats, formatProcStats } from './proc.ts';

const figures = (value: bigint): Stats => ({
  connections: value,
  inPackets: value,
  outPackets: value,
  inBytes: value,
  outBytes: value,
});

const service = (value: bigint, realServers: VirtualService['realServers'] = []): VirtualService => ({
  id: { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '192.0.2.10', port: 80 },
  scheduler: 'rr',
  schedulerFlags: 0,
  persistence: null,
  persistenceEngine: null,
  onePacket: false,
  realServers,
  localAddresses: [],
  stats: figures(value),
  rates: figures(value),
});

const server = (address: string, value = 0n): VirtualService['realServers'][number] => ({
  address,
  port: 80,
  family: 'ipv4',
  forwarding: 'masq',
  weight: 1,
  upperThreshold: 0,
  lowerThreshold: 0,
  tunnel: plainTunnel,
  activeConnections: 0,
  inactiveConnections: 0,
  persistentConnections: 0,
  stats: figures(value),
  rates: figures(value),
});

const list = (services: VirtualService[], ...shown: OptionName[]) =>
  formatListing(services, { label: numericLabel, shown: new Set(shown) })
    .split('\n')
    .slice(2, -1);

describe('a large number', () => {
  test.each([
    [99_999_999n, ' 99999999', ' 99999999'],
    [100_000_000n, '  100000K', ' 100000000'],
    [999_999_999n, '  999999K', ' 999999999'],
    [1_000_000_000n, '    1000M', ' 1000000000'],
    [99_999_999_999n, '   99999M', ' 99999999999'],
    [100_000_000_000n, '     100G', ' 100000000000'],
    [99_999_999_999_999n, '   99999G', ' 99999999999999'],
    [100_000_000_000_000n, '     100T', ' 100000000000000'],
    [18_446_744_073_709_551_615n, '18446744T', ' 18446744073709551615'],
  ])('%d is shortened to "%s" and exactly "%s"', (value, short, exact) => {
    const name = 'TCP  192.0.2.10:80'.padEnd(33);
    expect(list([service(value)], 'stats')).toEqual([name + short.repeat(5)]);
    expect(list([service(value)], 'stats', 'exact')).toEqual([name + exact.repeat(5)]);
  });

  test('is not shortened in the first three rates of a real server', () => {
    const [, line] = list([service(0n, [server('10.2.0.11', 123_456_789n)])], 'rate');
    expect(line).toBe(`  -> 10.2.0.11:80                 123456789 123456789 123456789  123456K  123456K`);
  });
});

test('addresses far apart are in the order of a 32-bit subtraction, as the original has it', () => {
  const sorted = sortServers(['10.0.0.1', '192.0.2.1', '127.0.0.1', '10.0.0.2'].map((address) => server(address)));
  expect(sorted.map(({ address }) => address)).toEqual(['192.0.2.1', '10.0.0.1', '10.0.0.2', '127.0.0.1']);
});

test('the total counters as /proc shows them', () => {
  // Recorded on the kernel: scenario stats-tcp.
  const stats = { connections: 2n, inPackets: 11n, outPackets: 6n, inBytes: 0x2ban, outBytes: 0x53cn };
  const rates = { ...noFigures, inPackets: 1n, inBytes: 0x3cn, outBytes: 0x62n };
  const perCpu = [{ connections: 0x193n, inPackets: 0x375n, outPackets: 0x1d4n, inBytes: 0xafccn, outBytes: 0x67c8n }];
  expect(formatProcStats(new MemoryDirector({ totals: { stats, rates, perCpu } }))).toBe(
    '   Total Incoming Outgoing         Incoming         Outgoing\n' +
      '   Conns  Packets  Packets            Bytes            Bytes\n' +
      '       2        B        6              2BA              53C\n\n' +
      ' Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n' +
      '       0        1        0               3C               62\n',
  );
  const zeroed = new MemoryDirector({ totals: { stats: noFigures, rates: noFigures, perCpu } });
  expect(formatProcCpuStats(zeroed)).toBe(
    '       Total Incoming Outgoing         Incoming         Outgoing\n' +
      'CPU    Conns  Packets  Packets            Bytes            Bytes\n' +
      '  0      193      375      1D4             AFCC             67C8\n' +
      '  ~        0        0        0                0                0\n\n' +
      '     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n' +
      '           0        0        0                0                0\n',
  );
});
