/** Each kind of check against real sockets on the loopback: one that answers, hangs, is silent, errs, closes, is not there. */
import { createHash } from 'node:crypto';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { Check } from '../model/configuration.ts';
import { loadKeepalivedText } from '../model/load.ts';
import { NodeSockets } from './node-sockets.ts';
import type { Probe, ProbeResult } from './probe.ts';
import { probeFor } from './probes.ts';
import type { Sockets } from './sockets.ts';
import { startTimers } from './timers.ts';

const tools = { sockets: new NodeSockets(), timers: startTimers() };
const folder = mkdtempSync(join(tmpdir(), 'ipvsd-probes-'));
afterAll(() => {
  tools.sockets.close();
  tools.timers.stop();
  rmSync(folder, { recursive: true });
});

const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

/** The port of a TCP server that does this with each connection. */
async function tcpServer(serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
  return (server.address() as AddressInfo).port;
}

async function udpServer(answer: (message: Buffer) => Uint8Array | undefined): Promise<number> {
  const socket: UdpSocket = createSocket('udp4', (message, { port, address }) => {
    const reply = answer(message);
    if (reply) socket.send(reply, port, address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  open.push(socket);
  return socket.address().port;
}

function checkOf(kind: string, port: number, lines = '', protocol = 'TCP', extra = ''): Check {
  const text = `${extra}
virtual_server 10.0.0.1 80 {
  protocol ${protocol}
  connect_timeout 0.3
  real_server 127.0.0.1 ${port} {
    weight 10
    ${kind} {
      ${lines}
    }
  }
}`;
  const { configuration, diagnostics } = loadKeepalivedText(text);
  const check = configuration.virtualServers[0]?.realServers[0]?.checks[0];
  if (check === undefined) throw new Error(diagnostics.map(({ message }) => message).join('\n'));
  return check;
}

function probe(kind: string, port: number, lines = '', extra = ''): Probe {
  return probeFor(checkOf(kind, port, lines, 'TCP', extra))!;
}

function ask(subject: Probe): Promise<ProbeResult> {
  return new Promise((resolve) => subject.run(tools, resolve));
}

/** A port where nobody is: bound once and let go. */
async function nobody(): Promise<number> {
  const port = await tcpServer(() => {});
  open.splice(0).forEach((server) => void server.close());
  return port;
}

const http = (body: string, status = '200 OK', headers = '') =>
  tcpServer((socket) => {
    socket.on('data', () => socket.end(`HTTP/1.0 ${status}\r\n${headers}\r\n${body}`));
  });

describe('TCP_CHECK', () => {
  test('asks for no more than a connection', async () => {
    expect(await ask(probe('TCP_CHECK', await tcpServer(() => {})))).toEqual({
      outcome: 'success',
      reason: 'connected',
    });
  });

  test('fails where nobody listens', async () => {
    expect(await ask(probe('TCP_CHECK', await nobody()))).toEqual({ outcome: 'failure', reason: 'connection refused' });
  });

  test('fails after connect_timeout where nobody answers at all', async () => {
    // No address is sure to be silent on every host, so the network is one of the test's own.
    const nowhere = { send() {}, close() {} };
    const sockets: Sockets = {
      tcp: () => nowhere,
      udp: () => nowhere,
      ping: () => nowhere,
      run: () => ({ kill() {} }),
      readFile: () => undefined,
    };
    const ask = (kind: string) =>
      new Promise<ProbeResult>((resolve) => probe(kind, 80).run({ ...tools, sockets }, resolve));
    const started = performance.now();
    expect(await ask('TCP_CHECK')).toEqual({ outcome: 'failure', reason: 'no connection in time' });
    expect(await ask('PING_CHECK')).toEqual({ outcome: 'failure', reason: 'no echo in time' });
    expect(performance.now() - started).toBeGreaterThan(590);
    expect(performance.now() - started).toBeLessThan(1500);
  });

  test('binds to the address it is told', async () => {
    let peer = '';
    const port = await tcpServer((socket) => {
      peer = socket.remoteAddress ?? '';
    });
    await ask(probe('TCP_CHECK', port, 'bindto 127.0.0.9'));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(peer).toBe('127.0.0.9');
  });
});

describe('HTTP_GET', () => {
  test('sends what keepalived sends, with the port in Host where there is no virtual host', async () => {
    const seen: string[] = [];
    const port = await tcpServer((socket) => {
      socket.on('data', (bytes) => {
        seen.push(String(bytes));
        socket.end('HTTP/1.0 200 OK\r\n\r\n');
      });
    });
    const url = 'url {\npath /health?x=1\n}';
    await ask(probe('HTTP_GET', port, url));
    await ask(probe('HTTP_GET', port, `${url}\nvirtualhost www.example.com\nhttp_protocol 1.1`));
    await ask(probe('HTTP_GET', port, `${url}\nhttp_protocol 1.0C`));
    const head = 'GET /health?x=1 HTTP/1';
    const agent = 'User-Agent: KeepAliveClient\r\n';
    expect(seen).toEqual([
      `${head}.0\r\n${agent}Host: 127.0.0.1:${port}\r\n\r\n`,
      `${head}.1\r\n${agent}Connection: close\r\nHost: www.example.com\r\n\r\n`,
      `${head}.0\r\n${agent}Connection: close\r\nHost: 127.0.0.1:${port}\r\n\r\n`,
    ]);
  });

  test('takes 200 to 299 unless told otherwise', async () => {
    const [ok, moved, broken] = [await http('x'), await http('', '302 Found'), await http('', '500 Oops')];
    expect(await ask(probe('HTTP_GET', ok, 'url {\npath /\n}'))).toEqual({ outcome: 'success', reason: 'status 200' });
    expect(await ask(probe('HTTP_GET', moved, 'url {\npath /\n}'))).toEqual({
      outcome: 'failure',
      reason: 'status 302',
    });
    expect((await ask(probe('HTTP_GET', moved, 'url {\npath /\nstatus_code 200 300-399\n}'))).outcome).toBe('success');
    expect(await ask(probe('HTTP_GET', broken, 'url {\npath /\n}'))).toEqual({
      outcome: 'failure',
      reason: 'status 500',
    });
  });

  test('compares the MD5 of the body, up to its Content-Length', async () => {
    const digest = createHash('md5').update('hello').digest('hex');
    const url = `url {\npath /\ndigest ${digest}\n}`;
    expect((await ask(probe('HTTP_GET', await http('hello'), url))).outcome).toBe('success');
    expect(
      (await ask(probe('HTTP_GET', await http('hello and more', '200 OK', 'Content-Length: 5\r\n'), url))).outcome,
    ).toBe('success');
    expect((await ask(probe('HTTP_GET', await http('hallo'), url))).outcome).toBe('failure');
  });

  test('searches the body for a regular expression, or for its absence', async () => {
    const port = await http('All is WELL here');
    const url = (lines: string) => `url {\npath /\n${lines}\n}`;
    expect((await ask(probe('HTTP_GET', port, url('regex "is well"')))).outcome).toBe('failure');
    expect((await ask(probe('HTTP_GET', port, url('regex "is well"\nregex_options caseless')))).outcome).toBe(
      'success',
    );
    expect((await ask(probe('HTTP_GET', port, url('regex WELL\nregex_no_match')))).outcome).toBe('failure');
    expect((await ask(probe('HTTP_GET', port, url('regex All\nregex_min_offset 1')))).outcome).toBe('failure');
    expect((await ask(probe('HTTP_GET', port, url('regex here\nregex_max_offset 5')))).outcome).toBe('failure');
  });

  test('fails when the answer hangs, stops half-way, or is none', async () => {
    const url = 'url {\npath /\n}';
    const silent = await tcpServer(() => {});
    const closing = await tcpServer((socket) => socket.end());
    const half = await tcpServer((socket) => {
      socket.on('data', () => socket.write('HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nab'));
    });
    const noise = await tcpServer((socket) => {
      socket.on('data', () => socket.end('what?'));
    });
    const results = await Promise.all([silent, closing, half, noise].map((port) => ask(probe('HTTP_GET', port, url))));
    expect(results.map(({ reason }) => reason)).toEqual([
      'no answer in time',
      'closed without an answer',
      'the answer stopped half-way',
      'not an HTTP answer',
    ]);
  });

  test('takes its URLs in turn; one that failed is asked until it passes, and then all are from the first', async () => {
    const paths: string[] = [];
    let broken = '/b';
    const port = await tcpServer((socket) => {
      socket.on('data', (bytes) => {
        const path = String(bytes).split(' ')[1] ?? '';
        paths.push(path);
        socket.end(`HTTP/1.0 ${path === broken ? 500 : 200} x\r\n\r\n`);
      });
    });
    const subject = probe('HTTP_GET', port, 'url {\npath /a\n}\nurl {\npath /b\n}');
    const outcomes: string[] = [];
    const look = async () => outcomes.push((await ask(subject)).outcome);
    for (let i = 0; i < 3; i++) await look();
    broken = '';
    for (let i = 0; i < 4; i++) await look();
    expect(paths).toEqual(['/a', '/b', '/b', '/b', '/a', '/b', '/a']);
    expect(outcomes).toEqual(['partial', 'failure', 'failure', 'partial', 'partial', 'success', 'partial']);
  });
});

describe('SMTP_CHECK', () => {
  const smtp = (greeting: string, hello: string, bye = '221 bye\r\n') =>
    tcpServer((socket) => {
      socket.write(greeting);
      socket.on('data', (bytes) => socket.write(String(bytes).startsWith('HELO') ? hello : bye));
    });

  test('greets, says HELO, and leaves', async () => {
    const port = await smtp('220 mail\r\n', '250 hello\r\n');
    expect((await ask(probe('SMTP_CHECK', port))).outcome).toBe('success');
  });

  test('takes no answer of several lines, and no other code', async () => {
    const several = await smtp('220 mail\r\n', '250-hello\r\n250 more\r\n');
    const busy = await smtp('421 busy\r\n', '');
    expect((await ask(probe('SMTP_CHECK', several))).reason).toBe('answered "250-hello", expected 250');
    expect((await ask(probe('SMTP_CHECK', busy))).outcome).toBe('failure');
    expect((await ask(probe('SMTP_CHECK', await tcpServer(() => {})))).reason).toBe('no answer in time');
  });
});

describe('DNS_CHECK', () => {
  const dns = (rcode: number) =>
    udpServer((query) => {
      const reply = Buffer.from(query);
      reply.writeUInt16BE(0x8180 | rcode, 2);
      return reply;
    });

  test('an answer without error is enough, whatever it holds', async () => {
    const lines = 'type A\nname www.example.com';
    expect((await ask(probe('DNS_CHECK', await dns(0), lines))).outcome).toBe('success');
    expect((await ask(probe('DNS_CHECK', await dns(3), lines))).reason).toBe('answered NXDOMAIN');
  });

  test('silence is a failure, and so is a port where nobody is', async () => {
    expect((await ask(probe('DNS_CHECK', await udpServer(() => undefined)))).reason).toBe('no answer in time');
    expect((await ask(probe('DNS_CHECK', await nobody()))).reason).toBe('connection refused');
  });
});

describe('UDP_CHECK', () => {
  test('without require_reply silence is good and an ICMP error is not', async () => {
    expect((await ask(probe('UDP_CHECK', await udpServer(() => undefined)))).reason).toBe('nobody objected');
    expect((await ask(probe('UDP_CHECK', await nobody()))).reason).toBe('connection refused');
  });

  test('with require_reply the answer must fit, x standing for any digit', async () => {
    const port = await udpServer((message) => message);
    const check = (reply: string) => probe('UDP_CHECK', port, `payload Ab12f 3\nrequire_reply ${reply}`);
    expect((await ask(check('ab120f03'))).outcome).toBe('success');
    expect((await ask(check('axx2'))).outcome).toBe('success');
    expect((await ask(check('ac12'))).outcome).toBe('failure');
    expect((await ask(check('ab\nmin_reply_length 9'))).outcome).toBe('failure');
    const silent = await udpServer(() => undefined);
    expect((await ask(probe('UDP_CHECK', silent, 'require_reply'))).reason).toBe('no answer in time');
  });
});

describe('MISC_CHECK', () => {
  const script = (body: string): string => {
    const path = join(folder, `script-${Math.random().toString(36).slice(2)}`);
    writeFileSync(path, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    return path;
  };

  test('0 is good, all else is not', async () => {
    expect((await ask(probe('MISC_CHECK', 80, `misc_path "${script('exit 0')}"`))).outcome).toBe('success');
    expect((await ask(probe('MISC_CHECK', 80, `misc_path "${script('exit 7')}"`))).reason).toBe('exited with status 7');
    expect((await ask(probe('MISC_CHECK', 80, 'misc_path /no/such/program'))).reason).toBe('no such program');
  });

  test('with misc_dynamic 2 to 255 say a weight', async () => {
    const path = script('exit "$1"');
    const look = (status: number) => ask(probe('MISC_CHECK', 80, `misc_path "${path} ${status}"\nmisc_dynamic`));
    // The configured weight is 10.
    expect(await look(12)).toEqual({ outcome: 'success', reason: 'exited with status 12', weightDelta: 0 });
    expect((await look(32)).weightDelta).toBe(20);
    expect((await look(2)).weightDelta).toBe(-10);
    expect((await look(1)).outcome).toBe('failure');
    expect((await look(0)).weightDelta).toBe(0);
  });

  test('one that runs too long is told to end, and is a failure', async () => {
    const started = performance.now();
    const result = await ask(probe('MISC_CHECK', 80, `misc_path "${script('sleep 20')}"\nmisc_timeout 0.2`));
    expect(result).toEqual({ outcome: 'failure', reason: 'timed out' });
    expect(performance.now() - started).toBeLessThan(1500);
  });
});

test('FILE_CHECK adds the number in the file, times its weight; with weight 0 any number is a failure', async () => {
  const path = join(folder, 'load');
  const look = (weight: number) =>
    ask(probe('FILE_CHECK', 80, 'track_file load', `track_file load {\nfile ${path}\nweight ${weight}\n}`));
  expect((await look(-2)).weightDelta).toBe(-0);
  writeFileSync(path, '3\n');
  expect((await look(-2)).weightDelta).toBe(-6);
  expect(await look(0)).toEqual({ outcome: 'failure', reason: 'the file says 3' });
  writeFileSync(path, '0');
  expect((await look(0)).outcome).toBe('success');
});

describe('PING_CHECK', () => {
  const mayPing = process.getuid?.() === 0;

  test.skipIf(!mayPing)('hears the loopback of both families (skipped unless root)', async () => {
    expect((await ask(probe('PING_CHECK', 80))).reason).toBe('answered');
    expect((await ask(probe('PING_CHECK', 80, 'connect_ip ::1'))).reason).toBe('answered');
  });
});

test('an attempt that is cancelled never answers', async () => {
  let answers = 0;
  const running = probe('TCP_CHECK', await tcpServer(() => {})).run(tools, () => answers++);
  running.close();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(answers).toBe(0);
});
