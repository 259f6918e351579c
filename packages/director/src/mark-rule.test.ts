import { World } from '@ipvsd/bpf';
import { expect, test } from 'vitest';
import { compareExactness, formatMarkDestination, type MarkRule, overlaps, parseMarkDestination } from './mark-rule.ts';
import { MarkTable } from './plane/mark-table.ts';
import { NodePlane } from './plane/node-plane.ts';

test.each([
  ['192.0.2.10:80', '192.0.2.10:80'],
  ['192.0.2.10', '192.0.2.10'],
  ['192.0.2.77/24:80', '192.0.2.0/24:80'],
  ['192.0.2.0/255.255.255.0', '192.0.2.0/24'],
  ['0.0.0.0/0:443', '0.0.0.0/0:443'],
  ['[2001:db8::1]:80', '[2001:db8::1]:80'],
  ['[2001:db8::1/64]:80', '[2001:db8::/64]:80'],
  ['[2001:db8::]/64:80', '[2001:db8::/64]:80'],
  ['2001:db8::/33', '2001:db8::/33'],
  ['192.0.2.10:0', undefined],
  ['192.0.2.10:65536', undefined],
  ['192.0.2.10/33', undefined],
  ['192.0.2.10/255.0.255.0', undefined],
  ['www.example.org:80', undefined],
  ['', undefined],
])('the destination "%s" reads as %s', (text, expected) => {
  const destination = parseMarkDestination(text, 'tcp');
  expect(destination && formatMarkDestination(destination)).toBe(expected);
});

test('a port needs a protocol', () => {
  expect(parseMarkDestination('192.0.2.10:80', null)).toBeUndefined();
  expect(parseMarkDestination('192.0.2.10', null)).toMatchObject({ protocol: null, port: 0 });
});

const rule = (text: string, mark: number, protocol: 'tcp' | 'udp' | null = 'tcp'): MarkRule => ({
  ...parseMarkDestination(text, protocol)!,
  mark,
});

test('a port counts before a longer prefix, a protocol before none', () => {
  expect(compareExactness(rule('10.0.0.0/8:80', 1), rule('10.1.2.3', 2))).toBeGreaterThan(0);
  expect(compareExactness(rule('10.0.0.0/8', 1), rule('10.1.2.3', 2, null))).toBeGreaterThan(0);
  expect(compareExactness(rule('10.0.0.0/8', 1), rule('10.1.2.3', 2))).toBeLessThan(0);
});

test('rules overlap where a packet may fit both', () => {
  expect(overlaps(rule('10.0.0.0/8:80', 1), rule('10.1.2.3', 2))).toBe(true);
  expect(overlaps(rule('10.0.0.0/8:80', 1), rule('10.1.2.3:81', 2))).toBe(false);
  expect(overlaps(rule('10.0.0.0/8', 1), rule('11.1.2.3', 2))).toBe(false);
  expect(overlaps(rule('10.0.0.0/8', 1), rule('10.0.0.0/8', 1, 'udp'))).toBe(false);
  expect(overlaps(rule('0.0.0.0/0', 1), rule('::/0', 1))).toBe(false);
});

test('a table holds what was added, and a refused change leaves it as it was', () => {
  const plane = new NodePlane({ now: () => 0n, random: () => 0 });
  expect(plane.world).toBeInstanceOf(World);
  const table = new MarkTable(plane);
  const rules = [rule('192.0.2.10:80', 1), rule('192.0.2.0/24', 1, 'udp'), rule('[2001:db8::/64]:443', 2)];
  table.update(() => ({ add: rules }));
  expect(table.list()).toEqual([rules[1], rules[0], rules[2]]);
  expect(() => table.update(() => ({ add: [rule('192.0.2.11:80', 1), rule('192.0.2.10:80', 9)] }))).toThrow(
    'Cannot add the rule for tcp to 192.0.2.10:80: it has mark 1, must be deleted first',
  );
  expect(() => table.update(() => ({ remove: [rules[0]!, rule('1.2.3.4', 1)] }))).toThrow(
    'Cannot delete the rule for tcp to 1.2.3.4: there is no such rule',
  );
  expect(table.list()).toEqual([rules[1], rules[0], rules[2]]);
  table.update((all) => ({ remove: all }));
  expect(table.list()).toEqual([]);
});
