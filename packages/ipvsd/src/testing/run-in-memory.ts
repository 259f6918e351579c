/** `ipvsd run` with a director of memory: the process test spawns it, signals it and reads its lines. */
import { MemoryDirector, realServerKey, serviceKey } from '@ipvsd/director';
import { createLog } from '../daemon/log.ts';
import { daemonPaths } from '../daemon/run-folder.ts';
import { serve } from '../daemon/serve.ts';

const [file = '', folder = ''] = process.argv.slice(2);
const director = new MemoryDirector();
if (process.env['BROKEN_DIRECTOR']) {
  director.executeAll = () => {
    throw new Error('Cannot open the director');
  };
}
const show = (): void => {
  const services = [...director.table().services.values()].map(({ id, realServers }) => {
    const servers = realServers.map((server) => `${realServerKey(server)}=${server.weight}`).sort();
    return `${serviceKey(id)} [${servers.join(', ')}]`;
  });
  process.stdout.write(`table ${services.join('; ')}\n`);
};
try {
  const log = createLog('json');
  const strict = process.env['STRICT'] !== undefined;
  const serving = await serve({ file, director, paths: daemonPaths(folder, () => 'test'), log, strict });
  show();
  process.on('SIGHUP', () => {
    serving.reload();
    show();
  });
  process.on('SIGUSR1', show);
  process.once('SIGTERM', () => void serving.stop().then(show));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
