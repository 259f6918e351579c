/**
 * HTTP_GET and SSL_GET. Each run tests one URL; when all have passed in a row, that is a success. A URL that failed is
 * tested until it passes; then all are, from the first. The request is spelt out here and the reply read byte by byte,
 * because what counts is what keepalived would have sent and seen.
 */
import { isIPv6 } from 'node:net';
import type { HttpCheck, HttpUrl, RegexTest } from '../model/configuration.ts';
import { HttpReply } from './http-reply.ts';
import { converse, failure, type Probe, type ProbeResult, success } from './probe.ts';

export function httpProbe(check: HttpCheck): Probe {
  const { connection, timing, urls, kind, serverName, tls } = check;
  let index = 0;
  let passed = 0;
  let failed = false;
  const judgeUrl = (result: ProbeResult): ProbeResult => {
    if (result.outcome === 'failure') {
      failed = true;
      return result;
    }
    if (failed) {
      failed = false;
      passed = 0;
      index = 0;
      return { ...result, outcome: 'partial' };
    }
    passed++;
    index = (index + 1) % urls.length;
    if (passed < urls.length) return { ...result, outcome: 'partial' };
    passed = 0;
    return result;
  };
  return {
    run(tools, done) {
      const url = urls[index]!;
      const reply = new HttpReply(url.digest !== undefined, url.regex !== undefined);
      const finish = (): ProbeResult => judgeReply(url, reply);
      return converse(tools, (result) => done(judgeUrl(result)), {
        connection,
        timeoutMs: timing.connectTimeoutMs,
        ...(kind === 'SSL_GET' && { tls: { serverName, settings: tls } }),
        opened: (socket) => socket.send(request(url, check)),
        received: (bytes, _, attempt) => {
          reply.add(bytes);
          if (reply.complete) attempt.finish(finish());
        },
        ended: (attempt) => attempt.finish(finish()),
      });
    },
  };
}

/** Without a virtual host the port is always named, even where it is the default. */
export function request({ path, host }: HttpUrl, { version, connection }: HttpCheck): string {
  const address = isIPv6(connection.address) ? `[${connection.address}]` : connection.address;
  const lines = [
    `GET ${path} HTTP/${version === '1.1' ? '1.1' : '1.0'}`,
    'User-Agent: KeepAliveClient',
    ...(version === '1.0' ? [] : ['Connection: close']),
    `Host: ${host ?? `${address}:${connection.port}`}`,
  ];
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** In keepalived's order: status, digest, regular expression. */
export function judgeReply(url: HttpUrl, reply: HttpReply): ProbeResult {
  const { status } = reply;
  if (reply.empty) return failure('closed without an answer');
  if (status === undefined) return failure('not an HTTP answer');
  if (!url.statusCodes.some(([from, to]) => status >= from && status <= to)) return failure(`status ${status}`);
  if (url.digest !== undefined && reply.digest() !== url.digest) return failure(`digest ${reply.digest()}`);
  if (url.regex && matches(url.regex, reply.text()) === url.regex.mustNotMatch) {
    return failure(url.regex.mustNotMatch ? 'the regular expression matches' : 'the regular expression does not match');
  }
  return success(`status ${status}`);
}

/** The match must begin within the offsets; what stands before them is still there to look behind at. */
function matches({ source, flags, minimumOffset, maximumOffset }: RegexTest, text: string): boolean {
  const regex = new RegExp(source, `${flags}g`);
  regex.lastIndex = minimumOffset;
  const found = minimumOffset <= text.length ? regex.exec(text) : null;
  return found !== null && (maximumOffset === undefined || found.index <= maximumOffset);
}
