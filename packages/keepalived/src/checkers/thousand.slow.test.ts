/** 1,000 real servers checked every second on one core: every check on time, and the share of a CPU it costs. */
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryDirector } from '@ipvsd/director';
import { afterAll, describe, expect, test } from 'vitest';
import { Daemon } from '../daemon/daemon.ts';
import { loadKeepalivedText } from '../model/load.ts';
import { NodeSockets } from './node-sockets.ts';
import { startTimers } from './timers.ts';

const SERVERS = 1000;
const SECONDS = 10;

/** The servers live in another process, so that their CPU is not counted as ours. */
const SERVER = `
import { createServer } from 'node:net';
const server = createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', () => socket.end('HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok'));
});
let connections = 0;
server.on('connection', () => connections++);
server.listen(0, '0.0.0.0', () => process.send({ port: server.address().port }));
process.on('message', () => process.send({ connections }));
`;

const folder = mkdtempSync(join(tmpdir(), 'ipvsd-thousand-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('1,000 checks a second on one core', () => {
  for (const [kind, block] of [
    ['TCP_CHECK', 'TCP_CHECK {\n}'],
    ['HTTP_GET', 'HTTP_GET {\nurl {\npath /\n}\n}'],
  ]) {
    test(`${kind}: all on time`, async () => {
      const path = join(folder, 'server.mjs');
      writeFileSync(path, SERVER);
      const child = fork(path);
      const ask = <T>(message?: string) =>
        new Promise<T>((resolve) => {
          child.once('message', (answer) => resolve(answer as T));
          if (message) child.send(message);
        });
      const { port } = await ask<{ port: number }>();
      const blocks = Array.from({ length: SERVERS }, (_, i) => {
        const address = `127.1.${Math.floor(i / 250)}.${(i % 250) + 1}`;
        return `real_server ${address} ${port} {\n${block}\n}\n`;
      });
      const text = `virtual_server 10.0.0.1 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\ndelay_loop 1\n${blocks.join('')}}\n`;
      const timers = startTimers();
      const sockets = new NodeSockets();
      const failures: string[] = [];
      const log = {
        info() {},
        warn: (text: string) => void failures.push(text),
        error: (text: string) => void failures.push(text),
      };
      const daemon = new Daemon({ director: new MemoryDirector(), sockets, timers, log });
      daemon.configure(loadKeepalivedText(text).configuration);
      // The warm-up spreads the first looks over the first second.
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const before = {
        cpu: process.cpuUsage(),
        connections: (await ask<{ connections: number }>('count')).connections,
      };
      await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
      const { user, system } = process.cpuUsage(before.cpu);
      const connections = (await ask<{ connections: number }>('count')).connections - before.connections;
      daemon.stop({ leave: true });
      timers.stop();
      child.kill();
      const share = (user + system) / 1e6 / SECONDS;
      console.log(
        `${kind}: ${(connections / SECONDS).toFixed(0)} checks a second, ${(share * 100).toFixed(0)} % of one core`,
      );
      expect(failures).toEqual([]);
      expect(connections / SECONDS).toBeGreaterThan(SERVERS * 0.9);
      expect(share).toBeLessThan(0.5);
    });
  }
});
