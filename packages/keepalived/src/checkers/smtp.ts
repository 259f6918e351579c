/** SMTP_CHECK: greet, HELO, QUIT, on each host in turn. The fourth character of an answer must end or part it. */
import type { Connection, SmtpCheck } from '../model/configuration.ts';
import { converse, type Done, failure, type Probe, type ProbeTools, success } from './probe.ts';
import type { Closable } from './sockets.ts';

/** A line of RFC 5321 has 512 bytes; a server that sends more without an end is none. */
const LONGEST_LINE = 512;

export function smtpProbe({ connections, timing, heloName }: SmtpCheck): Probe {
  return {
    run(tools, done) {
      let current: Closable | undefined;
      const ask = (index: number): void => {
        current = askHost(tools, connections[index]!, timing.connectTimeoutMs, heloName, (result) => {
          if (result.outcome === 'success' && index + 1 < connections.length) ask(index + 1);
          else done(result);
        });
      };
      ask(0);
      return { close: () => current?.close() };
    },
  };
}

function askHost(tools: ProbeTools, connection: Connection, timeoutMs: number, heloName: string, done: Done): Closable {
  const steps = [
    { expect: '220', send: `HELO ${heloName}\r\n` },
    { expect: '250', send: 'QUIT\r\n' },
    { expect: undefined, send: undefined },
  ];
  let step = 0;
  let line = '';
  return converse(tools, done, {
    connection,
    timeoutMs,
    opened: () => {},
    received(bytes, socket, attempt) {
      line += Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
      for (let end = line.indexOf('\n'); end >= 0 && !attempt.over; end = line.indexOf('\n')) {
        const answer = line.slice(0, end).replace(/\r$/, '');
        line = line.slice(end + 1);
        const { expect, send } = steps[step]!;
        if (expect !== undefined && !isAnswer(answer, expect)) {
          attempt.finish(failure(`answered "${answer.slice(0, 80)}", expected ${expect}`));
          return;
        }
        if (send === undefined) {
          attempt.finish(success('answered to HELO'));
          return;
        }
        socket.send(send);
        step++;
      }
      if (line.length > LONGEST_LINE) attempt.finish(failure('a line without end'));
    },
    // After QUIT any end of the connection is a good one.
    ended: (attempt) => attempt.finish(step === 2 ? success('answered to HELO') : failure('closed by the real server')),
  });
}

function isAnswer(line: string, code: string): boolean {
  return line.startsWith(code) && (line.length === 3 || line[3] === ' ');
}
