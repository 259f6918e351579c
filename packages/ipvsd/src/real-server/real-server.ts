/**
 * Set-up, check and undo of a real server. Set-up judges, mends what it may, and judges again: what is then left is what check
 * would say. Nothing is changed before all that has to come first is known to be in order.
 */
import { existsSync } from 'node:fs';
import type { Address } from '@ipvsd/director';
import { withFileLock, withRoutes } from '@ipvsd/linux';
import { deviceOf, type Finding, judge } from './judge.ts';
import { mend, undo } from './mend.ts';
import { forgetVip } from './programs.ts';
import { type Done, lockPath, readState, type State, statePath, writeState } from './state.ts';
import { surveyHost } from './survey.ts';
import type { Decapsulation, Wish } from './wish.ts';

/** Rounds of judging and mending: a device that comes into being has a setting of its own to be judged. */
const ROUNDS = 4;

export interface Outcome {
  /** Commands that would have done the same, in order. */
  readonly made: readonly string[];
  readonly left: readonly Finding[];
}

/** Set this host up for each wish; what is right already stays as it is. */
export function setUp(wishes: readonly Wish[], path = statePath()): Outcome {
  return withFileLock(lockPath(path), () => {
    for (const wish of wishes) refuse(judge(wish, surveyHost(), { decapsulation: 'program' }));
    const made: string[] = [];
    let state = readState(path);
    for (const wish of wishes) {
      const decided = { ...wish, decapsulation: decideDecapsulation(wish) };
      state = { ...state, wishes: [...state.wishes.filter(({ vip }) => vip !== wish.vip), decided] };
      writeState(path, state);
      const note = (done: Done): void => {
        state = { ...state, done: withDone(state.done, done) };
        writeState(path, state);
      };
      for (let round = 0; round < ROUNDS; round++) {
        const found = judge(decided, surveyHost(), decided).filter((finding) => finding.mend !== undefined);
        if (found.length === 0) break;
        for (const { command, mend: change } of found) {
          mend(change!, note);
          if (!made.includes(command)) made.push(command);
        }
      }
    }
    return { made, left: findAll(state) };
  });
}

/** What is wrong, for the wish given, or for all that this host was set up for. */
export function check(wishes: readonly Wish[], path = statePath()): readonly Finding[] {
  const known = readState(path).wishes;
  if (wishes.length === 0) {
    if (known.length === 0) {
      throw new Error('Cannot check: this host was not set up by ipvsd; say for what with --vip and --method');
    }
    return findAll(readState(path));
  }
  const survey = surveyHost();
  return unique(
    wishes.flatMap((wish) => {
      const decapsulation =
        wish.decapsulation ?? known.find(({ vip }) => vip === wish.vip)?.decapsulation ?? guess(wish);
      return judge(wish, survey, { decapsulation });
    }),
  );
}

/** Take everything back, or what was done for these virtual addresses; what it says are remarks. */
export function takeBack(vips: readonly Address[], path = statePath()): readonly string[] {
  return withFileLock(lockPath(path), () => {
    const state = readState(path);
    const unknown = vips.find((vip) => !state.wishes.some((wish) => wish.vip === vip));
    if (unknown !== undefined) throw new Error(`Cannot undo ${unknown}: this host was not set up for it by ipvsd`);
    const going = vips.length === 0 ? state.wishes.map(({ vip }) => vip) : vips;
    const staying = state.wishes.filter(({ vip }) => !going.includes(vip));
    for (const vip of going) forgetVip(vip);
    const isOver = (done: Done): boolean =>
      done.kind === 'address'
        ? going.includes(done.vip)
        : done.kind === 'programs' || done.kind === 'device'
          ? !staying.some(({ method }) => method === 'tun')
          : staying.length === 0;
    let left = state.done;
    const remarks: string[] = [];
    // The last change first; each is forgotten as soon as it is taken back.
    for (const done of state.done.toReversed().filter(isOver)) {
      const remark = undo(done);
      if (remark !== undefined) remarks.push(remark);
      left = left.filter((one) => one !== done);
      writeState(path, { ...state, done: left });
    }
    writeState(path, { ...state, wishes: staying, done: left });
    return remarks;
  });
}

/** Whether anything of this host is to be taken back. */
export const isSetUp = (path = statePath()): boolean => existsSync(path);

/** The first set-up tells what was before; a later one of the same kind only moves what is now. */
function withDone(before: readonly Done[], done: Done): readonly Done[] {
  if (done.kind === 'programs' && before.some(({ kind }) => kind === 'programs')) return before;
  const same = before.find((one) => one.kind === 'sysctl' && done.kind === 'sysctl' && one.name === done.name);
  if (same === undefined || same.kind !== 'sysctl' || done.kind !== 'sysctl') return [...before, done];
  return before.map((one) => (one === same ? { ...same, after: done.after } : one));
}

function findAll(state: State): readonly Finding[] {
  const survey = surveyHost();
  return unique(state.wishes.flatMap((wish) => judge(wish, survey, wish)));
}

const unique = (findings: readonly Finding[]): Finding[] =>
  findings.filter(({ sentence }, i) => findings.findIndex((other) => other.sentence === sentence) === i);

function refuse(findings: readonly Finding[]): void {
  const blocking = findings.filter(({ first }) => first === true);
  if (blocking.length === 0) return;
  const lines = blocking.map(({ sentence, command }) => `${sentence} Mend it: ${command}`);
  throw new Error(`Cannot set up this real server, nothing was changed: ${lines.join(' ')}`);
}

/** The kernel's device where it has one: only then do outer packets that come in fragments arrive. */
function decideDecapsulation(wish: Wish): Decapsulation {
  if (wish.decapsulation === 'program' || wish.method === 'dr') return 'program';
  const reason = whyNoDevice(wish);
  if (reason === undefined) return 'device';
  if (wish.decapsulation === 'device') throw new Error(`Cannot open tunnels with a device of the kernel's: ${reason}`);
  return 'program';
}

function whyNoDevice({ vip, tunnel }: Wish): string | undefined {
  if (tunnel === 'gue' || vip.includes(':')) return 'that is for IPv4 by ipip or gre; use --decapsulate program';
  try {
    withRoutes(undefined, (routes) => {
      const name = deviceOf(tunnel);
      if (routes.findLink(name) !== undefined) return;
      if (tunnel === 'ipip') routes.addIpip(name, PROBE);
      else routes.addGre(name, PROBE);
      routes.deleteLink(name);
    });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Ends that no tunnel has: made and removed at once, only to see whether the kernel can. */
const PROBE = { local: '127.0.0.1', remote: '127.0.0.2' };

const guess = ({ tunnel }: Wish): Decapsulation =>
  withRoutes(undefined, (routes) => routes.findLink(deviceOf(tunnel)) !== undefined) ? 'device' : 'program';
