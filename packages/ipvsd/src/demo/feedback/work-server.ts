/** A real server of the demo: `GET /?ms=5` takes a slot for 5 ms. It writes its load, in percent, where an agent finds it. */
import { renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { WorkQueue } from './work-queue.ts';

export interface WorkServerOptions {
  readonly port: number;
  readonly slots: number;
  readonly loadFile: string;
}

const LOAD_PERIOD_MS = 1000;

export function serveWork({ port, slots, loadFile }: WorkServerOptions): void {
  const queue = new WorkQueue(slots, {
    now: () => performance.now(),
    after: (milliseconds, action) => void setTimeout(action, milliseconds),
  });
  const tell = (): void => {
    // Whoever reads it finds the old number or the new one, never half of it.
    writeFileSync(`${loadFile}.new`, `${(queue.load() * 100).toFixed(1)}\n`);
    renameSync(`${loadFile}.new`, loadFile);
  };
  tell();
  setInterval(tell, LOAD_PERIOD_MS);
  const server = createServer((request, response) => {
    const milliseconds = Number(new URL(request.url ?? '/', 'http://server').searchParams.get('ms') ?? 0);
    queue.submit(milliseconds, () => response.end('done\n'));
  });
  server.keepAliveTimeout = 60_000;
  server.listen({ port, host: '::', backlog: 1024 }, () => process.stdout.write('listening\n'));
}
