/** `ipvsd run`: the daemon in the foreground, until SIGTERM. SIGHUP reads the configuration again. */
import type { Director } from '@ipvsd/director';
import { sourceFrom } from '@ipvsd/load';
import { createLog, type LogFormat } from '../daemon/log.ts';
import { daemonPaths } from '../daemon/run-folder.ts';
import { serve } from '../daemon/serve.ts';
import { startResets } from './resets.ts';

export interface RunOptions {
  readonly file: string;
  readonly configId?: string;
  readonly load?: string;
  readonly log: LogFormat;
  readonly leave?: boolean;
  readonly strict?: boolean;
  readonly slowStart?: number;
}

export async function run(options: RunOptions, openDirector: () => Director): Promise<void> {
  // What is wrong with it is said now, not at the first question.
  if (options.load !== undefined) sourceFrom(options.load);
  const log = createLog(options.log);
  const signals = hearSignals();
  const serving = await serve({
    file: options.file,
    director: openDirector(),
    paths: daemonPaths(),
    log,
    ...(options.configId !== undefined && { configId: options.configId }),
    ...(options.load !== undefined && { load: options.load }),
    ...(options.slowStart !== undefined && { slowStartMs: options.slowStart * 1000 }),
    ...(options.strict !== undefined && { strict: options.strict }),
  });
  const resetting = startResets((error) => log.warn(error.message));
  signals.reloadBy(() => serving.reload());
  await signals.ended;
  log.info('Stopping');
  resetting.stop();
  await serving.stop({ leave: options.leave ?? false });
}

/** Heard from before the daemon says that it is ready: a SIGHUP that comes with that word would end the process otherwise. */
function hearSignals(): { readonly ended: Promise<void>; reloadBy(reload: () => void): void } {
  let asked = false;
  let whenAsked = (): void => {
    asked = true;
  };
  process.on('SIGHUP', () => whenAsked());
  const ended = new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  return {
    ended,
    reloadBy(reload) {
      whenAsked = reload;
      if (asked) reload();
    },
  };
}
