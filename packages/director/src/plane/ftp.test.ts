/** FTP through the data plane in Node: what both sides read, who may connect where, and how numbers go on. */
import { TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { describe, expect, test } from 'vitest';
import { LOCAL, Session, V4, V6 } from '../testing/session.ts';

const EPSV = '229 Entering Extended Passive Mode (|||50010|)\r\n';

test('a passive answer names the virtual service, and the client may come from any port', () => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  expect(session.says('server', '227 Entering Passive Mode (10,2,0,11,195,83).\r\n')).toBe(
    '227 Entering Passive Mode (10,1,0,100,195,83).\r\n',
  );
  expect(session.connections()).toEqual(['172.16.0.9 0 > 10.1.0.100 50003 > 10.2.0.11 50003 LISTEN']);
  session.says('client', 'RETR x\r\n');
  session.says('server', '150 Here it comes\r\n');

  const opened = session.packet({ from: [V4.client, 45_678], to: [V4.vip, 50_003], flags: 'S' });
  expect(opened.parsed).toMatchObject({ destination: V4.real, destinationPort: 50_003 });
  expect(session.connections()).toEqual(['172.16.0.9 45678 > 10.1.0.100 50003 > 10.2.0.11 50003 SYN_RECV']);
  const answered = session.packet({ from: [V4.real, 50_003], to: [V4.client, 45_678], flags: 'SA' });
  expect(answered.parsed).toMatchObject({ source: V4.vip, sourcePort: 50_003 });
  // It was for one connection.
  const other = session.packet({ from: [V4.client, 45_679], to: [V4.vip, 50_003], flags: 'S' });
  expect(other.verdict).toBe(TC_ACT_UNSPEC);
});

test('answers that grow and shrink again and again leave both streams whole, where numbers come round too', () => {
  const session = new Session({ ...V4, vip: '10.1.0.1' });
  const long = new Session({ ...V4, vip: '210.111.100.100' });
  for (const [each, name] of [
    [session, '10,1,0,1'],
    [long, '210,111,100,100'],
  ] as const) {
    for (let i = 0; i < 12; i++) {
      each.says('client', 'PASV\r\n');
      const line = each.says('server', `227 (10,2,0,11,195,${80 + i})\r\n`);
      expect(line).toBe(`227 (${name},195,${80 + i})\r\n`);
      each.says('client', 'NOOP\r\n');
      each.says('server', '200 yes\r\n');
    }
  }
});

test('an answer that is sent again is changed again, and nothing is expected twice', () => {
  const session = new Session(V4);
  const line = '227 Passive (10,2,0,11,195,83)\r\n';
  session.says('client', 'PASV\r\n');
  const first = session.says('server', line);
  session.packet({ from: [V4.client, 45_678], to: [V4.vip, 50_003], flags: 'S' });
  expect(session.repeats('server', line)).toBe(first);
  expect(session.connections()).toHaveLength(1);
  session.says('client', 'NOOP\r\n');
  session.says('server', '200 yes\r\n');
});

test('extended passive mode tells a port only, over IPv4 and IPv6', () => {
  for (const addresses of [V4, V6]) {
    const session = new Session(addresses);
    session.says('client', addresses === V4 ? 'epsv\r\n' : 'EPSV 2\r\n');
    expect(session.says('server', EPSV)).toBe(EPSV);
    const { client, vip, real } = addresses;
    expect(session.connections()).toEqual([`${client} 0 > ${vip} 50010 > ${real} 50010 LISTEN`]);
    const opened = session.packet({ from: [client, 45_678], to: [vip, 50_010], flags: 'S' });
    expect(opened.parsed).toMatchObject({ destination: real, destinationPort: 50_010 });
  }
});

test.each([
  ['PORT 172,16,0,9,236,197\r\n', V4, '172.16.0.9 60613'],
  ['EPRT |1|172.16.0.9|53829|\r\n', V4, '172.16.0.9 53829'],
  ['TYPE I\r\nPORT 192,0,2,7,1,1\r\n', V4, '192.0.2.7 257'],
  ['EPRT |2|2001:db8:c::9|53829|\r\n', V6, '2001:db8:c::9 53829'],
])('after %j the real server may connect from the port below its own, as the virtual service', (line, addresses, to) => {
  const session = new Session(addresses);
  expect(session.says('client', line)).toBe(line);
  const { vip, real } = addresses;
  expect(session.connections()).toEqual([`${to} > ${vip} 20 > ${real} 2099 LISTEN`]);
  const [address = '', port = ''] = to.split(' ');
  const opened = session.packet({ from: [real, 2099], to: [address, Number(port)], flags: 'S' });
  expect(opened).toMatchObject({ verdict: TC_ACT_REDIRECT, parsed: { source: vip, sourcePort: 20 } });
  const answered = session.packet({ from: [address, Number(port)], to: [vip, 20], flags: 'SA' });
  expect(answered.parsed).toMatchObject({ destination: real, destinationPort: 2099 });
});

test.each([
  ['nobody asked', [], '227 (10,2,0,11,195,83)\r\n'],
  ['the other mode was asked for', ['EPSV\r\n'], '227 (10,2,0,11,195,83)\r\n'],
  ['the client has gone active since', ['PASV\r\n', 'PORT 172,16,0,9,1,2\r\n'], '227 (10,2,0,11,195,83)\r\n'],
  ['EPSV ALL asks for nothing', ['EPSV ALL\r\n'], EPSV],
])('an answer stays as it is where %s', (_why, asked, answer) => {
  const session = new Session(V4);
  for (const line of asked) session.says('client', line);
  const before = session.connections();
  expect(session.says('server', answer)).toBe(answer);
  expect(session.connections()).toEqual(before);
});

test.each([
  ['server', '227 Entering Passive Mode (10,2,0,11,195'],
  ['server', '227 Entering Passive Mode (10,2,0,11,195,83'],
  ['server', '227 Entering Passive Mode\r\n'],
  ['client', 'PORT 172,16,0,9,236'],
  ['client', 'PORT 172,16,0,9,0,0\r\n'],
  ['client', 'PORT 172,16,0,999,1,1\r\n'],
  ['client', 'EPRT |2|2001:db8:c::9|53829|\r\n'],
  ['client', 'EPRT |1|172.16.0.9|0|\r\n'],
] as const)('what cannot be read goes on as it is and is counted: the %s says %j', (side, line) => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  const before = session.counted('unread');
  expect(session.says(side, line)).toBe(line);
  expect(session.connections()).toEqual([]);
  expect(session.counted('unread')).toBe(before + 1);
});

test("what two control connections expect of one port is the newest one's", () => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  session.says('server', '227 (10,2,0,11,195,83)\r\n');
  session.says('client', 'PASV\r\n');
  session.says('server', '227 (10,2,0,11,195,83)\r\n');
  expect(session.connections()).toHaveLength(1);
});

test('only ports of the setting are helped', () => {
  const asked = (session: Session): string => {
    session.says('client', 'PASV\r\n');
    return session.says('server', '227 (10,2,0,11,195,83)\r\n');
  };
  expect(asked(new Session(V4, [], 2121))).toContain('10,2,0,11');
  expect(asked(new Session(V4, [['ftp_ports', '21 2121']], 2121))).toContain('10,1,0,100');
  expect(asked(new Session(V4, [['ftp_ports', 'none']]))).toContain('10,2,0,11');
});

test('an expected connection holds the control connection and goes by itself after 120 seconds', () => {
  const session = new Session(V4);
  session.says('client', 'PASV\r\n');
  session.says('server', '227 (10,2,0,11,195,83)\r\n');
  const left = (): number[] => [...session.director.connections()].map(({ expiresSeconds }) => expiresSeconds);
  expect(left()).toEqual([900, 120]);
  session.wait(119);
  expect(left()).toEqual([781, 1]);
  session.wait(2);
  expect(left()).toEqual([779]);
  const late = session.packet({ from: [V4.client, 45_679], to: [V4.vip, 50_003], flags: 'S' });
  expect(late.verdict).toBe(TC_ACT_UNSPEC);
});

describe('under FULLNAT', () => {
  test.each([
    ['PORT 172,16,0,9,236,197\r\n', V4, /^PORT (10),(2),(0),(1),(\d+),(\d+)\r\n$/],
    ['EPRT |1|172.16.0.9|60613|\r\n', V4, /^EPRT \|1\|10\.2\.0\.1\|(\d+)\|\r\n$/],
    ['EPRT |2|2001:db8:c::9|60613|\r\n', V6, /^EPRT \|2\|2001:db8:2:0:0:0:0:1\|(\d+)\|\r\n$/],
  ])('%j names a port of ours, which leads to the client from any port of the real server', (line, addresses, expected) => {
    const session = new Session(addresses, [], 21, 'fullnat');
    const said = session.says('client', line);
    expect(said).toMatch(expected);
    expect(session.repeats('client', line)).toBe(said);
    const numbers = expected.exec(said)!.slice(1).map(Number);
    const port = numbers.length === 1 ? numbers[0]! : numbers[4]! * 256 + numbers[5]!;
    const { client, vip, real } = addresses;
    const local = addresses === V4 ? LOCAL.ipv4 : LOCAL.ipv6;
    const opened = session.packet({ from: [real, 3456], to: [local, port], flags: 'S' });
    expect(opened.parsed).toMatchObject({
      source: vip,
      sourcePort: 3456,
      destination: client,
      destinationPort: 60_613,
    });
    const answered = session.packet({ from: [client, 60_613], to: [vip, 3456], flags: 'SA' });
    expect(answered.parsed).toMatchObject({
      source: local,
      sourcePort: port,
      destination: real,
      destinationPort: 3456,
    });
    // The client's bytes are more or fewer than it sent, and both sides agree all the same.
    session.says('client', 'RETR x\r\n');
    session.says('server', '150 Here it comes\r\n');
    session.says('client', line);
    session.says('client', 'NOOP\r\n');
    session.says('server', '200 yes\r\n');
  });

  test.each([
    ['v1', 'PROXY TCP4 172.16.0.9 10.1.0.100 40000 21\r\n'],
    ['v2', '\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\xac\x10\0\x09\x0a\x01\0\x64\x9c\x40\0\x15'],
  ] as const)('a control connection begins with a PROXY header (%s), and what its helper changes counts behind it', (version, header) => {
    const session = new Session(V4, [], 21, 'fullnat', version);
    expect(session.shaken).toBe(header);
    session.says('server', '220 Who is there?\r\n');
    for (let i = 0; i < 3; i++) {
      const line = `PORT 172,16,0,9,236,${190 + i}\r\n`;
      const said = session.says('client', line);
      expect(said).toMatch(/^PORT 10,2,0,1,(\d+),(\d+)\r\n$/);
      expect(session.repeats('client', line)).toBe(said);
      session.says('server', '200 As you say\r\n');
      session.says('client', 'NOOP\r\n');
      session.says('server', '200 yes\r\n');
    }
    session.says('client', 'PASV\r\n');
    expect(session.says('server', '227 (10,2,0,11,195,83)\r\n')).toBe('227 (10,1,0,100,195,83)\r\n');
    // Data connections begin with data, also where one before has told by a header.
    const opened = session.packet({ from: [V4.client, 45_678], to: [V4.vip, 50_003], flags: 'S', sequence: 7 });
    const { source, sourcePort } = opened.parsed;
    session.packet({ from: [V4.real, 50_003], to: [source, sourcePort], flags: 'SA', acknowledgement: 8 });
    const first = session.packet({
      from: [V4.client, 45_678],
      to: [V4.vip, 50_003],
      text: 'data',
      sequence: 8,
      acknowledgement: 1,
    });
    expect(first.parsed).toMatchObject({ sequence: 8, options: new Uint8Array(0) });
    expect(Buffer.from(first.parsed.payload).toString()).toBe('data');
  });

  test('passive data connections come from the local address of the control connection', () => {
    const session = new Session(V4, [], 21, 'fullnat');
    session.says('client', 'PASV\r\n');
    expect(session.says('server', '227 (10,2,0,11,195,83)\r\n')).toBe('227 (10,1,0,100,195,83)\r\n');
    const opened = session.packet({ from: [V4.client, 45_678], to: [V4.vip, 50_003], flags: 'S' });
    expect(opened.parsed).toMatchObject({ source: LOCAL.ipv4, destination: V4.real, destinationPort: 50_003 });
    const { source, sourcePort } = opened.parsed;
    const answered = session.packet({ from: [V4.real, 50_003], to: [source, sourcePort], flags: 'SA' });
    expect(answered.parsed).toMatchObject({ source: V4.vip, sourcePort: 50_003, destinationPort: 45_678 });
  });
});
