/**
 * The agent on a real server: it measures once a second and answers whoever asks, agent-check on one port and JSON over
 * HTTP on another. It listens and never calls, so it needs no director to know of.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { formatAgentLine, parseAgentLine } from '../agent-check.ts';
import type { LoadReport } from '../report.ts';
import { cpuTimes, loadOf, type Measure, measure, type ProcFiles, readProc } from './measure.ts';

export interface AgentOptions {
  readonly host: string;
  /** Absent: not offered; 0: any free one. */
  readonly agentPort?: number;
  readonly httpPort?: number;
  /** Prints a load in percent, or an agent-check line; what it says wins over what is measured. */
  readonly command?: readonly string[];
  /** While this file is there, the answer is drain. */
  readonly drainFile?: string;
  readonly periodMs?: number;
  readonly read?: () => ProcFiles;
}

export interface Agent {
  readonly agentPort: number | undefined;
  readonly httpPort: number | undefined;
  report(): LoadReport;
  close(): Promise<void>;
}

const COMMAND_TIMEOUT_MS = 5000;

export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { host, command, drainFile, periodMs = 1000, read = readProc } = options;
  let before = cpuTimes(read().stat);
  let measured: Measure | undefined;
  let ofCommand: LoadReport | undefined;
  let asking = false;
  const look = (): void => {
    const files = read();
    measured = measure(files, before);
    before = cpuTimes(files.stat);
    if (command === undefined || asking) return;
    asking = true;
    void askCommand(command).then((report) => {
      ofCommand = report;
      asking = false;
    });
  };
  look();
  const timer = setInterval(look, periodMs);
  let drained = false;
  const report = (): LoadReport => {
    if (drainFile !== undefined && existsSync(drainFile)) {
      drained = true;
      return { state: 'drain', detail: `${drainFile} is there` };
    }
    const own: LoadReport = measured ? { load: loadOf(measured), detail: describe(measured) } : {};
    // A drain that was asked for lasts until somebody says ready, as who asks by agent-check remembers it.
    return { state: drained ? 'ready' : 'up', ...own, ...ofCommand };
  };
  const agentServer = createServer((socket) => {
    // Whoever sends a greeting first gets the same answer: it is not read, only drained.
    socket.on('error', () => {});
    socket.resume();
    socket.end(formatAgentLine(report()));
  });
  const httpServer = createHttpServer((_, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(`${JSON.stringify({ ...report(), ...measured })}\n`);
  });
  const listening = await Promise.all([
    listen(agentServer, host, options.agentPort),
    listen(httpServer, host, options.httpPort),
  ]);
  return {
    agentPort: listening[0],
    httpPort: listening[1],
    report,
    async close() {
      clearInterval(timer);
      await Promise.all([agentServer, httpServer].map((server) => new Promise((done) => server.close(done))));
    },
  };
}

function listen(server: Server, host: string, port: number | undefined): Promise<number | undefined> {
  if (port === undefined) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });
}

/** A command that fails says "down" with its reason: it was asked to speak for this server. */
function askCommand([program = '', ...rest]: readonly string[]): Promise<LoadReport> {
  return new Promise((resolve) => {
    execFile(program, rest, { timeout: COMMAND_TIMEOUT_MS }, (error, output) => {
      if (error) resolve({ state: 'down', detail: error.message.split('\n', 1)[0] ?? 'failed' });
      else resolve(readCommandOutput(output));
    });
  });
}

/** A bare number is a load in percent; everything else is agent-check's language. */
export function readCommandOutput(output: string): LoadReport {
  const text = output.trim();
  return /^[0-9]+(\.[0-9]+)?$/.test(text) ? { load: Number(text) / 100 } : parseAgentLine(text).report;
}

function describe({ cpu, memory, running, cpus, sockets }: Measure): string {
  const percent = (share: number): string => `${Math.round(share * 100)}%`;
  return `cpu ${percent(cpu)}, memory ${percent(memory)}, ${running} running on ${cpus} cpus, ${sockets} sockets`;
}
