/**
 * UDP_CHECK. Without require_reply only an ICMP error is a failure: silence for connect_timeout is all that a healthy
 * service without an answer can show.
 */
import type { UdpCheck, UdpReply } from '../model/configuration.ts';
import { attempt, failure, type Probe, type ProbeResult, success } from './probe.ts';

export function udpProbe({ connection, timing, payload, reply }: UdpCheck): Probe {
  return {
    run: (tools, done) =>
      attempt(tools, done, (self) => {
        const socket = tools.sockets.udp(connection, {
          data: (bytes) => self.finish(reply ? judgeReply(bytes, reply) : success('answered')),
          error: (reason) => self.finish(failure(reason)),
        });
        self.own(socket);
        self.allow(timing.connectTimeoutMs, () => (reply ? failure('no answer in time') : success('nobody objected')));
        socket.send(payload);
      }),
  };
}

/** Compared as far as both reach. */
export function judgeReply(bytes: Uint8Array, reply: UdpReply): ProbeResult {
  const { minimumLength, maximumLength } = reply;
  if (bytes.length < minimumLength || bytes.length > maximumLength) {
    return failure(`an answer of ${bytes.length} bytes, expected ${minimumLength}..${maximumLength}`);
  }
  const differs = bytes.some((byte, at) => ((byte ^ (reply.bytes[at] ?? 0)) & (reply.mask[at] ?? 0)) !== 0);
  return differs ? failure('another answer than the one required') : success('answered as required');
}
