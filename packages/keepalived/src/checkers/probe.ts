/**
 * A probe asks one question once. It may remember between its runs (which URL comes next), but knows nothing of retries
 * and states: those are the verdict machine's.
 */

import type { Outcome } from '../health/verdict.ts';
import type { Connection } from '../model/configuration.ts';
import type { Closable, Sockets, TcpSocket, TlsOptions } from './sockets.ts';
import type { Timers } from './timers.ts';

export interface ProbeResult {
  readonly outcome: Outcome;
  /** What to write into the log: `connection refused`, `status 500`. */
  readonly reason: string;
  /** To be added to the configured weight; undefined leaves it. */
  readonly weightDelta?: number;
}

export interface ProbeTools {
  readonly sockets: Sockets;
  readonly timers: Timers;
}

export type Done = (result: ProbeResult) => void;

export interface Probe {
  /** Begins; the answer comes exactly once, unless it is cancelled. */
  run(tools: ProbeTools, done: Done): Closable;
}

export const success = (reason: string): ProbeResult => ({ outcome: 'success', reason });
export const failure = (reason: string): ProbeResult => ({ outcome: 'failure', reason });

export interface Attempt {
  /** The first answer counts; whatever comes later, or after it was cancelled, falls on deaf ears. */
  finish(result: ProbeResult): void;
  /** Closed when the attempt ends. */
  own(resource: Closable): void;
  /** Starts the time that is left for the next step anew. */
  allow(timeoutMs: number, onTimeout: () => ProbeResult): void;
  readonly over: boolean;
}

/** The bookkeeping every probe shares: one answer, one deadline, nothing left open. */
export function attempt({ timers }: ProbeTools, done: Done, begin: (attempt: Attempt) => void): Closable {
  const owned: Closable[] = [];
  let deadline: { cancel(): void } | undefined;
  let over = false;
  const end = (): void => {
    over = true;
    deadline?.cancel();
    for (const resource of owned) resource.close();
  };
  const self: Attempt = {
    get over() {
      return over;
    },
    own(resource) {
      if (over) resource.close();
      else owned.push(resource);
    },
    allow(timeoutMs, onTimeout) {
      deadline?.cancel();
      if (!over) deadline = timers.after(timeoutMs, () => self.finish(onTimeout()));
    },
    finish(result) {
      if (over) return;
      end();
      done(result);
    },
  };
  begin(self);
  return { close: () => over || end() };
}

export interface Conversation {
  readonly connection: Connection;
  readonly timeoutMs: number;
  readonly tls?: TlsOptions;
  /** Connected. Every answer after this has the same time again. */
  opened(socket: TcpSocket, attempt: Attempt): void;
  received?(bytes: Uint8Array, socket: TcpSocket, attempt: Attempt): void;
  ended?(attempt: Attempt): void;
}

/** A TCP connection on which a probe speaks and listens, each step within the same time. */
export function converse(tools: ProbeTools, done: Done, conversation: Conversation): Closable {
  const { connection, timeoutMs, tls, opened, received, ended } = conversation;
  return attempt(tools, done, (self) => {
    const socket: TcpSocket = tools.sockets.tcp(
      connection,
      {
        open: () => {
          self.allow(timeoutMs, () => failure('no answer in time'));
          if (!self.over) opened(socket, self);
        },
        data: (bytes) => {
          self.allow(timeoutMs, () => failure('the answer stopped half-way'));
          if (!self.over) received?.(bytes, socket, self);
        },
        end: () => {
          if (self.over) return;
          if (ended) ended(self);
          else self.finish(failure('closed by the real server'));
        },
        error: (reason) => self.finish(failure(reason)),
      },
      tls,
    );
    self.own(socket);
    self.allow(timeoutMs, () => failure('no connection in time'));
  });
}
