import { readFileSync } from 'node:fs';
import { bytesOf, type u32, World } from '@ipvsd/bpf';
import { describe, expect, test } from 'vitest';
import { Settings, settings } from '../settings.ts';
import { INPUT, INPUT_ONLY, OUTPUT } from './protocol.ts';
import { SCTP_EVENTS, SCTP_STATES, sctp } from './sctp.ts';
import { ACK, FIN, NOTHING, RST, RST_SYN, SYN, TCP_STATES, tcp, tcpEvent } from './tcp.ts';

const DIRECTIONS = { in: INPUT, out: OUTPUT, 'in-only': INPUT_ONLY } as const;
const TCP_EVENTS = { syn: SYN, fin: FIN, ack: ACK, rst: RST, none: NOTHING } as const;

interface Case {
  readonly words: readonly string[];
  readonly next: readonly string[];
}

/** Lines of words before a bar and states after it; the first line names the states. */
function read(file: string): { readonly short: readonly string[]; readonly cases: readonly Case[] } {
  const lines = readFileSync(new URL(`cases/${file}`, import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const split = (text: string): string[] => text.trim().split(/\s+/);
  const cases = lines.slice(1).map((line) => {
    const [before = '', after = ''] = line.split('|');
    return { words: split(before), next: split(after) };
  });
  return { short: split(lines[0]!).slice(1), cases };
}

function worldWith(secureTcp: number): World {
  const world = new World({ now: () => 0n, random: () => 0 });
  world.store(settings).update(new Uint8Array(4), bytesOf(Settings.create({ secureTcp })));
  return world;
}

describe('TCP', () => {
  const { short, cases } = read('tcp.txt');
  test('has a case for every table, direction and event', () => {
    expect(new Set(cases.map(({ words }) => words.join(' '))).size).toBe(2 * 3 * 5);
    expect(short.length).toBe(TCP_STATES.length);
  });
  test.each(cases)('goes where the table says: $words', ({ words: [table, direction, event], next }) => {
    const world = worldWith(table === 'secure' ? 3 : 0);
    const step = (state: u32): u32 =>
      world.run(() =>
        tcp.next(state, TCP_EVENTS[event as keyof typeof TCP_EVENTS], DIRECTIONS[direction as keyof typeof DIRECTIONS]),
      );
    expect(short.map((_, state) => short[step(state)])).toEqual(next);
  });
  test('reads flags in the order reset, SYN, FIN, ACK', () => {
    const of = (flags: number): number => tcpEvent(flags);
    expect([of(0x04), of(0x14), of(0x06), of(0x02), of(0x12), of(0x11), of(0x10), of(0x08)]).toEqual([
      RST,
      RST,
      RST_SYN,
      SYN,
      SYN,
      FIN,
      ACK,
      NOTHING,
    ]);
  });
});

describe('SCTP', () => {
  const { short, cases } = read('sctp.txt');
  test('has a case for every direction and event', () => {
    expect(new Set(cases.map(({ words }) => words.join(' '))).size).toBe(3 * SCTP_EVENTS.length);
    expect(short.length).toBe(SCTP_STATES.length);
  });
  test.each(cases)('goes where the table says: $words', ({ words: [direction, event], next }) => {
    const step = (state: u32): u32 =>
      sctp.next(
        state,
        SCTP_EVENTS.indexOf(event as (typeof SCTP_EVENTS)[number]),
        DIRECTIONS[direction as keyof typeof DIRECTIONS],
      );
    expect(short.map((_, state) => short[step(state)])).toEqual(next);
  });
});
