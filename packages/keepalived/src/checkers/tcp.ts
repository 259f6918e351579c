/** TCP_CHECK: a connection is all it asks for. */
import type { TcpCheck } from '../model/configuration.ts';
import { converse, type Probe, success } from './probe.ts';

export function tcpProbe({ connection, timing }: TcpCheck): Probe {
  return {
    run: (tools, done) =>
      converse(tools, done, {
        connection,
        timeoutMs: timing.connectTimeoutMs,
        opened: (_, attempt) => attempt.finish(success('connected')),
      }),
  };
}
