import { skbContext } from '@ipvsd/bpf/kernel';
import { describeKernel, itKernel } from '@ipvsd/bpf/testing';
import { parseFrame, tcpFrame } from '@ipvsd/ipvs';
import { expect } from 'vitest';
import { Driver, empty, type Flows } from './driver.ts';

const ENDS = { sourcePort: 9, destinationPort: 9, flags: 'S', timeToLive: 3 };
const FRAMES = {
  4: tcpFrame({ ...ENDS, source: '10.9.9.9', destination: '10.8.8.8' }),
  6: tcpFrame({ ...ENDS, source: 'fd99::9', destination: 'fd88::8' }),
};

describeKernel('the driver before a timed program', () => {
  const runs = (family: 4 | 6, flows: Flows, count: number) => {
    const driver = new Driver({ frame: FRAMES[family], context: skbContext({}), flows }, empty());
    const seen = Array.from({ length: count }, () => parseFrame(driver.run(1).frame));
    driver.close();
    return seen;
  };

  itKernel('makes the packet that of each client once before it comes back to the first', () => {
    const seen = runs(4, { varying: 'source', base: '10.64.0.0', count: 65_536, address: '10.9.0.1', port: 80 }, 100);
    expect(new Set(seen.map(({ source, sourcePort }) => `${source} ${sourcePort}`)).size).toBe(100);
    const few = runs(4, { varying: 'source', base: '10.64.0.0', count: 4, address: '10.9.0.1', port: 80 }, 8);
    expect(few.slice(4)).toEqual(few.slice(0, 4));
    expect(new Set(few.map(({ sourcePort }) => sourcePort))).toEqual(new Set([1024, 1025, 1026, 1027]));
  });

  itKernel('puts back what the program may have rewritten', () => {
    const [packet] = runs(6, { varying: 'destination', base: 'fd64::', count: 1, address: 'fd09::1', port: 8080 }, 1);
    expect(packet).toMatchObject({
      source: 'fd09::1',
      sourcePort: 8080,
      destination: 'fd64::',
      destinationPort: 1024,
      timeToLive: 64,
    });
  });

  itKernel('visits those that came first in another order', () => {
    const flows = { varying: 'source', base: '10.64.0.0', count: 1 << 24, address: '10.9.0.1', port: 80 } as const;
    const key = ({ source, sourcePort }: { source: string; sourcePort: number }): string => `${source} ${sourcePort}`;
    const came = runs(4, flows, 64).map(key);
    const visited = runs(4, { ...flows, among: 64 }, 64).map(key);
    expect([...visited].sort()).toEqual([...came].sort());
    expect(visited).not.toEqual(came);
  });
});
