/** What the daemon does besides changing the table: it says so, runs scripts, and writes into the FIFO. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import type { Sockets } from '../checkers/sockets.ts';
import type { Effect } from '../health/service-health.ts';
import type { GlobalSettings } from '../model/configuration.ts';
import { insecure } from './script-security.ts';

export interface Log {
  info(text: string): void;
  warn(text: string): void;
  error(text: string): void;
}

export interface EffectTools {
  readonly log: Log;
  readonly sockets: Pick<Sockets, 'run'>;
}

export function carryOut(effects: readonly Effect[], global: GlobalSettings, { log, sockets }: EffectTools): void {
  for (const effect of effects) {
    switch (effect.kind) {
      case 'log':
        log[effect.level](effect.text);
        break;
      case 'script': {
        const { argv } = effect.script;
        const script = { argv, runAs: effect.script.runAs ?? global.scriptUser };
        const why = global.scriptSecurity ? insecure(script) : undefined;
        if (why !== undefined) {
          log.error(`Refused to run script ${argv[0]} for ${effect.reason}: ${why}`);
          break;
        }
        sockets.run(script, {
          exit: (status) => {
            if (status !== 0) log.warn(`Script ${argv[0]} for ${effect.reason} exited with status ${status}`);
          },
          error: (reason) => log.error(`Cannot run script ${argv[0]} for ${effect.reason}: ${reason}`),
        });
        break;
      }
      case 'fifo':
        for (const path of [global.lvsNotifyFifo, global.notifyFifo]) if (path) writeToFifo(path, effect.line, log);
    }
  }
}

/** A FIFO that nobody reads, or that is full, loses the line: the daemon waits for no reader. */
function writeToFifo(path: string, line: string, log: Log): void {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    try {
      writeSync(fd, `${line}\n`);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENXIO') log.warn(`Cannot write "${line}" to ${path}: ${code}`);
  }
}
