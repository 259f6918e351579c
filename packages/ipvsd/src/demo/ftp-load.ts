/** Fetches a file by FTP in passive mode, again and again, from several addresses of this host. */
import { connect, type Socket } from 'node:net';
import { FTP_PORT } from './ftp-server.ts';

export interface FtpResult {
  readonly sessions: number;
  readonly failures: number;
  /** Names of the real servers that each client met: one, where persistence holds. */
  readonly servers: Readonly<Record<string, readonly string[]>>;
}

const TIMEOUT_MS = 30_000;

export async function loadFtp(host: string, clients: readonly string[], sessions: number): Promise<FtpResult> {
  const servers: Record<string, Set<string>> = {};
  let failures = 0;
  for (let i = 0; i < sessions; i++) {
    const client = clients[i % clients.length]!;
    try {
      const name = await fetchOnce(host, client);
      servers[client] ??= new Set();
      servers[client].add(name);
    } catch {
      failures++;
    }
  }
  const met = Object.entries(servers).map(([client, names]) => [client, [...names]] as const);
  return { sessions, failures, servers: Object.fromEntries(met) };
}

export async function printFtpLoad(host: string, clients: readonly string[], sessions: number): Promise<void> {
  process.stdout.write(`${JSON.stringify(await loadFtp(host, clients, sessions))}\n`);
}

/** The name of the real server that served both connections. */
async function fetchOnce(host: string, client: string): Promise<string> {
  const control = open(host, FTP_PORT, client);
  try {
    const replies = repliesOf(control);
    const ask = async (line: string | undefined, code: string): Promise<string> => {
      if (line !== undefined) control.write(`${line}\r\n`);
      const { value } = await replies.next();
      if (value?.startsWith(code) !== true) throw new Error(`The server answered "${value}" to ${line}`);
      return value;
    };
    const name = (await ask(undefined, '220')).slice(4);
    await ask('USER demo', '331');
    await ask('PASS demo', '230');
    const passive = await ask('PASV', '227');
    const [high = 0, low = 0] = /(\d+),(\d+)\)/.exec(passive)!.slice(1).map(Number);
    const file = readAll(open(host, high * 256 + low, client));
    await ask('RETR file', '150');
    const text = await file;
    await ask(undefined, '226');
    await ask('QUIT', '221');
    if (text !== `${name} served file to ${client}\n`) throw new Error(`The file says "${text}"`);
    return name;
  } finally {
    control.destroy();
  }
}

function open(host: string, port: number, localAddress: string): Socket {
  const socket = connect({ host, port, localAddress });
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('timeout')));
  return socket;
}

async function* repliesOf(socket: Socket): AsyncGenerator<string, undefined> {
  let waiting = '';
  for await (const chunk of socket) {
    const lines = `${waiting}${(chunk as Buffer).toString('latin1')}`.split('\r\n');
    waiting = lines.pop() ?? '';
    yield* lines;
  }
  return undefined;
}

async function readAll(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket) text += (chunk as Buffer).toString('latin1');
  return text;
}
