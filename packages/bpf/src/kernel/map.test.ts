import { rmSync } from 'node:fs';
import { mountBpfFileSystem, unmountBpfFileSystem } from '@ipvsd/linux';
import { expect, test } from 'vitest';
import { BPF_F_MMAPABLE, isMapError, MapError } from '../map-store.ts';
import type { MapSpec } from '../spec.ts';
import { describeKernel, uniqueName } from '../testing/kernel.ts';
import { mapSpec } from '../testing/programs.ts';
import { possibleCpus } from './bpf-syscall.ts';
import { KernelMap } from './map.ts';

function u32(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

function number(bytes: Uint8Array | null | undefined): number | undefined {
  return bytes == null ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

function withMap<T>(spec: Partial<MapSpec> & Pick<MapSpec, 'type'>, action: (map: KernelMap) => T): T {
  const map = KernelMap.create(mapSpec({ name: 'test.map', ...spec }));
  try {
    return action(map);
  } finally {
    map.close();
  }
}

describeKernel('maps in the kernel', () => {
  test('a hash map gives back what was put in', () =>
    withMap({ type: 'hash', maxEntries: 2 }, (map) => {
      expect(map.lookup(u32(1))).toBeNull();
      map.update(u32(1), u32(10));
      map.update(u32(1), u32(11), 'exist');
      expect(number(map.lookup(u32(1)))).toBe(11);
      expect(map.lookupPerCpu(u32(1)).map(number)).toEqual([11]);
      const into = new Uint8Array(4);
      expect(map.lookupInto(u32(1), into)).toBe(true);
      expect(number(into)).toBe(11);
      expect(map.delete(u32(1))).toBe(true);
      expect(map.delete(u32(1))).toBe(false);
    }));

  test('the memory of a shared map is the map itself, others have none to share', () => {
    withMap({ type: 'array', maxEntries: 1, flags: BPF_F_MMAPABLE }, (map) => {
      const memory = map.memory();
      expect(memory).toHaveLength(4);
      map.update(u32(0), u32(7));
      expect(number(memory)).toBe(7);
      memory.set(u32(8));
      expect(number(map.lookup(u32(0)))).toBe(8);
      expect(number(map.memory())).toBe(8);
      map.close();
      expect(() => map.memory()).toThrow('it is closed');
    });
    withMap({ type: 'array', maxEntries: 1 }, (map) => {
      expect(() => map.memory()).toThrow('it was not declared as shared');
    });
  });

  test('a result is a copy that later calls do not change', () =>
    withMap({ type: 'hash', maxEntries: 4 }, (map) => {
      map.update(u32(1), u32(10));
      map.update(u32(2), u32(20));
      const first = map.lookup(u32(1));
      map.lookup(u32(2));
      expect(number(first)).toBe(10);
    }));

  test('refusals have codes and sentences', () =>
    withMap({ type: 'hash', maxEntries: 1 }, (map) => {
      const failure = (action: () => void): unknown => {
        try {
          action();
        } catch (error) {
          return error;
        }
        return undefined;
      };
      map.update(u32(1), u32(10));
      expect(
        isMapError(
          failure(() => map.update(u32(1), u32(1), 'noexist')),
          'EEXIST',
        ),
      ).toBe(true);
      expect(
        isMapError(
          failure(() => map.update(u32(2), u32(1), 'exist')),
          'ENOENT',
        ),
      ).toBe(true);
      expect(
        isMapError(
          failure(() => map.update(u32(2), u32(1))),
          'E2BIG',
        ),
      ).toBe(true);
      expect(isMapError(new MapError('E2BIG', 'full'), 'E2BIG')).toBe(true);
      expect(() => map.update(u32(2), u32(1))).toThrow(
        'Cannot update map "test.map" (bpf MAP_UPDATE_ELEM): E2BIG, argument list too long; it holds 1 entries',
      );
      expect(() => map.lookup(u32(1, 2))).toThrow('Cannot use map "test.map": the key has 8 bytes, must be 4');
      map.close();
      expect(() => map.lookup(u32(1))).toThrow('it is closed');
    }));

  test('creating an impossible map says which', () => {
    expect(() => KernelMap.create(mapSpec({ name: 'bad', type: 'hash', keySize: 0 }))).toThrow(
      'Cannot create map "bad" (bpf MAP_CREATE): EINVAL, invalid argument',
    );
  });

  test.each(['hash', 'lruHash', 'array'] as const)('%s: 10,000 entries go in and come out in batches', (type) =>
    withMap({ type, maxEntries: 20_000, valueSize: 12 }, (map) => {
      map.updateMany(Array.from({ length: 10_000 }, (_, i) => [u32(i), u32(i * 3, 1, 2)] as const));
      const entries = [...map.entries()].filter(([, value]) => value[4] === 1);
      expect(entries).toHaveLength(10_000);
      expect(new Set(entries.map(([key]) => number(key))).size).toBe(10_000);
      for (const [key, value] of entries) expect(number(value)).toBe(number(key)! * 3);
    }));

  test('an empty map has no entries, and clear() counts what it removes', () =>
    withMap({ type: 'hash', maxEntries: 5000 }, (map) => {
      expect([...map.entries()]).toEqual([]);
      map.updateMany(Array.from({ length: 5000 }, (_, i) => [u32(i), u32(i)] as const));
      expect(map.clear()).toBe(5000);
      expect([...map.keys()]).toEqual([]);
    }));

  test('values of an array are read by range', () =>
    withMap({ type: 'array', maxEntries: 9000 }, (map) => {
      map.updateMany(Array.from({ length: 9000 }, (_, i) => [u32(i), u32(i + 1)] as const));
      expect(map.values().map(number)).toEqual(Array.from({ length: 9000 }, (_, i) => i + 1));
      expect(map.values(10, 3).map(number)).toEqual([11, 12, 13]);
      expect(map.values(8999, 1).map(number)).toEqual([9000]);
      expect(map.values(0, 0)).toEqual([]);
      expect(() => map.values(8999, 2)).toThrow('it has 9000 entries');
      expect(() => map.update(u32(9000), u32(1))).toThrow('E2BIG');
    }));

  test.each(['percpuHash', 'percpuArray'] as const)('%s: a value per CPU', (type) =>
    withMap({ type, maxEntries: 3, valueSize: 12 }, (map) => {
      map.update(u32(2), u32(7, 8, 9));
      expect(map.lookupPerCpu(u32(2)).map(number)).toEqual(new Array(possibleCpus()).fill(7));
      expect(map.lookupPerCpu(u32(2))[0]).toEqual(u32(7, 8, 9));
      const entries = [...map.entriesPerCpu()].filter(([key]) => number(key) === 2);
      expect(entries.map(([, values]) => values.map(number))).toEqual([new Array(possibleCpus()).fill(7)]);
      expect(() => map.lookup(u32(2))).toThrow('it is per CPU, use lookupPerCpu');
      if (type === 'percpuArray')
        expect(map.valuesPerCpu(2, 1)[0]!.map(number)).toEqual(new Array(possibleCpus()).fill(7));
      if (type === 'percpuHash') expect(map.lookupPerCpu(u32(9))).toEqual([]);
    }));

  test('an LPM trie finds the longest prefix and lists its entries', () =>
    withMap({ type: 'lpmTrie', keySize: 8, maxEntries: 10, flags: 1 }, (map) => {
      const prefix = (length: number, ...ip: readonly number[]): Uint8Array => Uint8Array.of(...u32(length), ...ip);
      map.update(prefix(8, 10, 0, 0, 0), u32(1));
      map.update(prefix(16, 10, 1, 0, 0), u32(2));
      expect(number(map.lookup(prefix(32, 10, 1, 2, 3)))).toBe(2);
      expect(number(map.lookup(prefix(32, 10, 2, 2, 3)))).toBe(1);
      expect([...map.entries()]).toHaveLength(2);
      map.updateMany([[prefix(24, 10, 1, 1, 0), u32(3)]]);
      expect([...map.entries()]).toHaveLength(3);
    }));

  test('a queue gives the oldest, a stack the newest', () => {
    for (const [type, order] of [['queue', [1, 2]] as const, ['stack', [2, 1]] as const]) {
      withMap({ type, keySize: 0, maxEntries: 4 }, (map) => {
        map.push(u32(1));
        map.push(u32(2));
        expect([number(map.pop()), number(map.pop())]).toEqual(order);
        expect(map.pop()).toBeNull();
      });
    }
  });

  test('lookupAndDelete takes an entry out', () =>
    withMap({ type: 'hash', maxEntries: 4 }, (map) => {
      map.update(u32(1), u32(10));
      expect(number(map.lookupAndDelete(u32(1)))).toBe(10);
      expect(map.lookupAndDelete(u32(1))).toBeNull();
    }));

  test('a pinned map is found again with its contents', () => {
    const root = `/run/${uniqueName('ipvsd-map')}`;
    mountBpfFileSystem(root);
    try {
      withMap({ type: 'hash', name: 'conns', maxEntries: 7 }, (map) => {
        map.update(u32(1), u32(10));
        map.pin(`${root}/conns`);
        expect(() => map.pin(`${root}/a.b`)).toThrow('"a.b" has a dot');
      });
      const again = KernelMap.fromPin(`${root}/conns`);
      expect(number(again.lookup(u32(1)))).toBe(10);
      expect(again.info()).toMatchObject({ type: 'hash', name: 'conns', keySize: 4, valueSize: 4, maxEntries: 7 });
      const third = KernelMap.fromId(again.info().id);
      expect(third.name).toBe('conns');
      third.close();
      again.close();
    } finally {
      unmountBpfFileSystem(root);
      rmSync(root, { recursive: true });
    }
  });
});
