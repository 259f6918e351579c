/** PING_CHECK: one echo request, one echo reply. */
import type { PingCheck } from '../model/configuration.ts';
import { attempt, failure, type Probe, success } from './probe.ts';

export function pingProbe({ connection, timing }: PingCheck): Probe {
  return {
    run: (tools, done) =>
      attempt(tools, done, (self) => {
        self.allow(timing.connectTimeoutMs, () => failure('no echo in time'));
        self.own(
          tools.sockets.ping(connection, {
            reply: () => self.finish(success('answered')),
            error: (reason) => self.finish(failure(reason)),
          }),
        );
      }),
  };
}
