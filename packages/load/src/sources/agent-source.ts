/** Asks an agent-check agent: connect, perhaps say something, read one line. What a line does not mention stays as it was. */
import { connect } from 'node:net';
import { type AgentWords, mergeAgentWords, parseAgentWords, reportOf } from '../agent-check.ts';
import type { LoadReport, Source } from '../report.ts';

export interface AgentSourceOptions {
  readonly port: number;
  readonly timeoutMs: number;
  /** HAProxy's agent-send: goes out as it is. */
  readonly send?: string;
  /** The percentage is how idle the server is, rather than the weight it asks for. */
  readonly percentIsIdle?: boolean;
}

const LONGEST_LINE = 4096;

export function agentSource({ port, timeoutMs, send, percentIsIdle = false }: AgentSourceOptions): Source {
  const said = new Map<string, AgentWords>();
  const read = (address: string, text: string): LoadReport => {
    const words = mergeAgentWords(said.get(address) ?? {}, parseAgentWords(text).words);
    said.set(address, words);
    return asIdle(reportOf(words), percentIsIdle);
  };
  return {
    ask: (address) =>
      new Promise((resolve, reject) => {
        const socket = connect({ host: address, port });
        let text = '';
        const finish = (outcome: () => void): void => {
          socket.destroy();
          outcome();
        };
        socket.setTimeout(timeoutMs, () => finish(() => reject(new Error('no answer in time'))));
        socket.on('connect', () => send !== undefined && socket.write(send));
        socket.on('data', (bytes) => {
          text += bytes.toString('latin1');
          if (/[\r\n\0]/.test(text)) finish(() => resolve(read(address, text)));
          else if (text.length > LONGEST_LINE) finish(() => reject(new Error('a line without end')));
        });
        socket.on('end', () => finish(() => reject(new Error('closed before the end of its line'))));
        socket.on('error', (error) => finish(() => reject(error)));
      }),
  };
}

function asIdle(report: LoadReport, percentIsIdle: boolean): LoadReport {
  if (!percentIsIdle || report.weightPercent === undefined) return report;
  const { weightPercent, ...rest } = report;
  return { ...rest, load: 1 - Math.min(100, weightPercent) / 100 };
}
