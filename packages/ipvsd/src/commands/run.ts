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
  readonly despiteErrors?: boolean;
}

export async function run(options: RunOptions, openDirector: () => Director): Promise<void> {
  const log = createLog(options.log);
  const serving = await serve({
    file: options.file,
    director: openDirector(),
    paths: daemonPaths(),
    log,
    ...(options.configId !== undefined && { configId: options.configId }),
    ...(options.load !== undefined && { loadSource: sourceFrom(options.load) }),
    ...(options.despiteErrors !== undefined && { despiteErrors: options.despiteErrors }),
  });
  const resetting = startResets((error) => log.warn(error.message));
  await new Promise<void>((resolve) => {
    process.on('SIGHUP', () => serving.reload());
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  log.info('Stopping');
  resetting.stop();
  await serving.stop({ leave: options.leave ?? false });
}
