/** JSON lines where a program reads them, plain lines where a person does. */
import type { Log } from '@ipvsd/keepalived';
import { destination, pino } from 'pino';

export interface LogStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export type LogFormat = 'json' | 'text' | 'auto';

export function createLog(format: LogFormat, stream: LogStream = process.stdout): Log {
  const json = format === 'json' || (format === 'auto' && stream.isTTY !== true);
  return json ? jsonLog(stream) : textLog(stream);
}

function jsonLog(stream: LogStream): Log {
  const options = { base: { name: 'ipvsd' }, formatters: { level: (level: string) => ({ level }) } };
  // Synchronous: the last line before an end is the one that matters.
  const logger = stream === process.stdout ? pino(options, destination({ fd: 1, sync: true })) : pino(options, stream);
  return {
    info: (text) => logger.info(text),
    warn: (text) => logger.warn(text),
    error: (text) => logger.error(text),
  };
}

function textLog(stream: LogStream): Log {
  const line = (level: string, text: string): void => {
    stream.write(`${new Date().toTimeString().slice(0, 8)} ${level.padEnd(5)} ${text}\n`);
  };
  return {
    info: (text) => line('info', text),
    warn: (text) => line('warn', text),
    error: (text) => line('error', text),
  };
}
