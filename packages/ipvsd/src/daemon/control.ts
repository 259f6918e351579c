/** The daemon's socket: one JSON request, one JSON answer, and the end. Root alone may open it. */
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';

export interface ControlRequest {
  readonly op: 'status' | 'reload' | 'drain' | 'explain-weight' | 'plan';
  readonly file?: string;
  readonly address?: string;
  readonly port?: number;
  readonly drain?: 'no' | 'draining' | 'drained';
  readonly service?: { readonly address: string; readonly port: number };
}

export type ControlAnswer = { readonly ok: unknown } | { readonly error: string };

const LONGEST_REQUEST = 1 << 20;

/** The lock beside it says that nobody else serves this path, so what lies there is a leftover. */
export async function serveControl(path: string, answer: (request: ControlRequest) => unknown): Promise<Server> {
  rmSync(path, { force: true });
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let text = '';
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      text += bytes;
      if (text.length > LONGEST_REQUEST) socket.destroy();
    });
    socket.on('end', () => socket.end(`${JSON.stringify(answerSafely(text, answer))}\n`));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return server;
}

function answerSafely(text: string, answer: (request: ControlRequest) => unknown): ControlAnswer {
  try {
    return { ok: answer(JSON.parse(text) as ControlRequest) ?? null };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** Undefined where no daemon listens; throws what the daemon refuses. */
export async function askDaemon<T>(path: string, request: ControlRequest): Promise<T | undefined> {
  const text = await new Promise<string | undefined>((resolve, reject) => {
    const socket = connect(path);
    let received = '';
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(error);
    });
    socket.on('data', (bytes) => {
      received += bytes;
    });
    socket.on('end', () => resolve(received));
    socket.end(JSON.stringify(request));
  });
  if (text === undefined) return undefined;
  const answer = JSON.parse(text) as ControlAnswer;
  if ('error' in answer) throw new Error(answer.error);
  return answer.ok as T;
}
