/** Load of the demo's own, over real sockets, for where ab is not installed: each request is a connection of its own. */
import { connect } from 'node:net';

export interface LoadResult {
  readonly requests: number;
  readonly failures: number;
  readonly milliseconds: number;
}

export async function load(url: URL, requests: number, concurrency: number): Promise<LoadResult> {
  const started = performance.now();
  let next = 0;
  let failures = 0;
  const worker = async (): Promise<void> => {
    while (next < requests) {
      next++;
      if (!(await request(url))) failures++;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return { requests, failures, milliseconds: Math.round(performance.now() - started) };
}

/** Whether a whole answer with status 200 came. */
function request(url: URL): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 80) });
    let answer = '';
    socket.setTimeout(30_000, () => socket.destroy(new Error('timeout')));
    socket.on('connect', () => socket.write(`GET ${url.pathname} HTTP/1.0\r\nHost: ${url.host}\r\n\r\n`));
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1');
    });
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(/^HTTP\/1\.[01] 200 /.test(answer)));
  });
}

export async function printLoad(url: string, requests: number, concurrency: number): Promise<void> {
  process.stdout.write(`${JSON.stringify(await load(new URL(url), requests, concurrency))}\n`);
}
