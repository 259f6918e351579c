/** Clients that never rest, and remember of each request when it was made, when its connection stood, and who answered it. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Host } from '../demo/cluster.ts';

export interface Asked {
  readonly port: number;
  /** By the clock of the host, in milliseconds. */
  readonly started: number;
  readonly connected: number | null;
  readonly ended: number;
  /** What the real server answered; null where no whole answer came. */
  readonly answer: string | null;
  readonly error: string | null;
}

/** A request takes as long as a lost SYN may: it is sent again after 1, 3 and 7 seconds. */
const CLIENT = `
const { get } = require('node:http');
const [address, from, to, atOnce] = process.argv.slice(1);
const ask = (index) => {
  const port = Number(from) + (index % (Number(to) - Number(from) + 1));
  const started = Date.now();
  let connected = null;
  let done = false;
  const finish = (answer, error) => {
    if (done) return;
    done = true;
    console.log(JSON.stringify({ port, started, connected, ended: Date.now(), answer, error }));
    setTimeout(() => ask(index + 7), 2);
  };
  const request = get({ host: address, port, agent: false, timeout: 20000 }, (response) => {
    let text = '';
    response.on('data', (bytes) => (text += bytes));
    response.on('end', () => finish(response.statusCode === 200 ? text : null, 'status ' + response.statusCode));
    response.on('error', (error) => finish(null, error.message));
  });
  request.on('socket', (socket) => socket.on('connect', () => (connected = Date.now())));
  request.on('timeout', () => request.destroy(new Error('timeout')));
  request.on('error', (error) => finish(null, error.message));
};
for (let i = 0; i < Number(atOnce); i++) ask(i * 31);
`;

const SERVER = `
const { createServer } = require('node:http');
const [name, from, to] = process.argv.slice(1);
let left = Number(to) - Number(from) + 1;
for (let port = Number(from); port <= Number(to); port++) {
  createServer((_, response) => setTimeout(() => response.end(name), 5)).listen(port, '0.0.0.0', () => {
    if (--left === 0) console.log('listening');
  });
}
`;

export class SteadyLoad {
  readonly asked: Asked[] = [];
  readonly #child: ChildProcess;

  /** \`atOnce\` requests at a time, over the ports in turn. */
  constructor(host: Host, address: string, ports: readonly [number, number], atOnce: number) {
    const args = ['-e', CLIENT, address, ...ports.map(String), String(atOnce)];
    this.#child = host.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.asked.push(JSON.parse(line) as Asked));
  }

  get failed(): Asked[] {
    return this.asked.filter(({ answer }) => answer === null);
  }

  /** Of the requests made in this time: the share that each real server answered. */
  shares(from: number, to: number): Record<string, number> {
    const asked = this.asked.filter(({ started }) => started >= from && started < to);
    const shares: Record<string, number> = {};
    for (const { answer } of asked) shares[answer ?? 'nobody'] = (shares[answer ?? 'nobody'] ?? 0) + 1 / asked.length;
    return shares;
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

/** HTTP on all these ports, answering with a name; once it listens. */
export async function answerOn(host: Host, name: string, [from, to]: readonly [number, number]): Promise<void> {
  const args = ['-e', SERVER, name, String(from), String(to)];
  const child = host.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    child.stdout!.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`the real server ended with ${code}`)));
  });
}
