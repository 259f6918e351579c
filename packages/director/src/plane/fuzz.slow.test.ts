/**
 * One source, two worlds: random packets and changes of the table through the data plane in the kernel and in Node, where
 * everything that can be seen must be equal: the verdict, each byte of the packet, and after each batch each byte of the maps.
 *
 * FUZZ_SEED replays a run, FUZZ_PACKETS sets how many, FUZZ_BATCH after how many the maps are compared: 1 finds the packet or the
 * change behind a difference.
 */
import { TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { ticksOf } from '@ipvsd/ipvs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Command } from '../command.ts';
import type { ServiceId } from '../model.ts';
import { serviceKey } from '../model.ts';
import { Packets } from './fuzz/packets.ts';
import { Random } from './fuzz/random.ts';
import { MARKS } from './fuzz/site.ts';
import { nat64Commands, randomCommand, randomMarkRule } from './fuzz/tables.ts';
import { isWellFormed } from './fuzz/well-formed.ts';
import { type Side, Worlds } from './fuzz/worlds.ts';

const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31);
const packets = Number(process.env['FUZZ_PACKETS'] ?? 20_000);
const BATCH = Number(process.env['FUZZ_BATCH'] ?? 500);
/** Beyond so many services the oldest go. */
const MOST_SERVICES = 12;

const random = new Random(seed);
const services = new Map<string, ServiceId>();
const source = new Packets(random, () => [...services.values()]);
/** What was done last, for the story of a difference. */
const lately: (() => string)[] = [];
const verdicts = new Map<number, number>();
/** Passive answers of FTP that named the virtual service when they left. */
let helped = 0;
/** Packets that left as one of the other family, in tunnels and by NAT64. */
let translated = 0;
/** Packets of IPv6 and of IPv4 that came in once more and left. */
let pieces = 0;
let fragments = 0;
let clock = 1_000_000;
let worlds: Worlds;

describeKernel('the data plane in the kernel and in Node', () => {
  beforeAll(() => {
    worlds = new Worlds(uniqueName('fuzz'), uniqueName('fuzzout'));
  });

  afterAll(() => worlds?.remove());

  test(`agree on ${packets} packets (seed ${seed})`, { timeout: 7_200_000 }, () => {
    const began = performance.now();
    worlds.inside(() => {
      letTimePass(0);
      for (let sent = 0; sent < packets; sent += BATCH) {
        for (let i = sent === 0 ? 60 : 0; i > 0; i--) change();
        for (let i = 0; i < BATCH && sent + i < packets; i++) {
          if (random.oneIn(60)) change();
          if (random.oneIn(100)) adjust();
          if (random.oneIn(50)) letTimePass(random.below(ticksOf(random.pick([1, 10, 70, 200]))));
          send(sent + i);
        }
        worlds.compare(story(sent + BATCH));
      }
    });
    const perSecond = Math.round((packets / (performance.now() - began)) * 1000);
    const counted = JSON.stringify(worlds.reasons());
    console.log(
      `${packets} packets, ${perSecond} a second, ${[...verdicts].join(' ')}, ${counted}, ${helped} answers of FTP, ${pieces} and ${fragments} pieces, ${translated} of another family; seed ${seed}`,
    );
    // A run in which nothing was forwarded would prove nothing.
    expect(verdicts.get(TC_ACT_REDIRECT) ?? 0, [...verdicts].join(' ')).toBeGreaterThan(packets / 50);
    // A short run may see no FTP service live long enough.
    if (packets >= 200_000) expect(helped, 'answers of FTP').toBeGreaterThan(0);
    expect(verdicts.get(TC_ACT_SHOT) ?? 0, [...verdicts].join(' ')).toBeGreaterThan(packets / 1000);
  });
});

const story = (packet: number): string =>
  `packet ${packet}, seed ${seed}; lately ${lately.map((tell) => tell()).join(', ')}`;

function note(what: () => string): void {
  lately.push(what);
  if (lately.length > 6) lately.shift();
}

/** The data plane has no such flag for any connection but those with helpers: here others get it too. */
function adjust(): void {
  const number = random.below(64);
  const [before, after] = [random.pick([0, random.below(2 ** 32)]), random.below(2 ** 32)];
  note(() => `connection ${number} is adjusted`);
  worlds.adjust(number, { from: random.below(2 ** 32), before, after });
}

function change(): void {
  if (random.oneIn(40)) {
    worlds.mark(distinctRules(random.below(4)));
    return;
  }
  if (random.oneIn(40)) {
    const family = random.pick(['ipv4', 'ipv6'] as const);
    note(() => `masquerading of ${family}`);
    worlds.masquerade(family);
    return;
  }
  const oldest = [...services.values()][0];
  if (services.size > MOST_SERVICES && oldest !== undefined) execute({ kind: 'deleteService', service: oldest });
  else if (random.oneIn(20)) for (const command of nat64Commands(random)) execute(command);
  else execute(randomCommand(random, [...services.values()]));
}

function execute(command: Command): void {
  note(() => JSON.stringify(command));
  if (!worlds.execute(command)) return;
  if (command.kind === 'addService') services.set(serviceKey(command.service), command.service);
  else if (command.kind === 'deleteService') services.delete(serviceKey(command.service));
  else if (command.kind === 'flush') services.clear();
}

/** One rule for each destination. */
function distinctRules(count: number) {
  const rules = Array.from({ length: count }, () => randomMarkRule(random));
  return [...new Map(rules.map((rule) => [JSON.stringify({ ...rule, mark: 0 }), rule])).values()];
}

function letTimePass(ticks: number): void {
  clock += ticks;
  note(() => `${ticks} ticks pass`);
  worlds.set(clock, 1 + random.below(2 ** 32 - 1));
  // Each publishes statistics for all the time that has passed, which takes Node longer than all packets between.
  if (!random.oneIn(10)) return;
  note(() => 'a sweep');
  worlds.sweep();
}

/** The kernel's test run takes no IP packet that is shorter than its fixed header. */
function takenByTestRun(frame: Uint8Array): boolean {
  const type = (frame[12]! << 8) | frame[13]!;
  return frame.length >= (type === 0x0800 ? 34 : type === 0x86dd ? 54 : 15);
}

/** Pieces, and fragments that others have waited for. */
function sendAgain(frames: readonly Uint8Array[], side: Side, mark: number, number: number): void {
  for (const frame of frames) {
    // What was maimed may be addressed to somebody else, or be no packet that a test run takes.
    if (!takenByTestRun(frame)) continue;
    note(() => `${side} ${mark} once more ${Buffer.from(frame).toString('hex')}`);
    const { verdict, again } = worlds.send(frame, side, mark, () => story(number));
    if (verdict === TC_ACT_REDIRECT && frame[12] === 0x86) pieces++;
    if (verdict === TC_ACT_REDIRECT && frame[12] === 8) fragments++;
    sendAgain(again, side, mark, number);
  }
}

function send(number: number): void {
  let frame = source.next();
  while (!takenByTestRun(frame)) frame = source.next();
  const side = random.pick(['client', 'server'] as const);
  frame.set(random.oneIn(40) ? [2, 9, 9, 9, 9, 9] : worlds.mac(side));
  const mark = random.oneIn(10) ? random.pick(MARKS) : 0;
  note(() => `${side} ${mark} ${Buffer.from(frame).toString('hex')}`);
  const { verdict, left, again } = worlds.send(frame, side, mark, () => story(number));
  sendAgain(again, side, mark, number);
  if (verdict === TC_ACT_REDIRECT) {
    source.remember(frame, left);
    if (left[12] !== frame[12]) translated++;
    if (isWellFormed(frame)) {
      expect(
        isWellFormed(left),
        `a packet that any receiver takes has become ${Buffer.from(left).toString('hex')}, which none does: ${story(number)}`,
      ).toBe(true);
    }
  }
  if (/227 .*10,1,0,10[01],195,8[34]/.test(Buffer.from(left).toString('latin1'))) helped++;
  verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
}
