/** What both sides of FTP say, and of other protocols with helpers, right and wrong, and sessions in which they say it in turn. */
import { ipFrame, tcpFrame } from '@ipvsd/ipvs';
import type { Random } from './random.ts';

/** A message of PPTP about the call `first`, with the number `second` behind it. */
function pptp(type: number, first: number, second: number): string {
  const words = [32, 1, 0x1a2b, 0x3c4d, type, 0, first, second, 0x0100, 0, 0, 0, 0, 0, 0, 0];
  return words.map((word) => String.fromCharCode(word >> 8, word & 255)).join('');
}
/** Numbers of calls, few enough to meet. */
const CALLS = [0, 7, 9] as const;

const COMMANDS = [
  'PASV\r\n',
  'EPSV\r\n',
  'EPSV 1\r\n',
  'EPSV 2\r\n',
  'TYPE I\r\nPASV\r\n',
  'PORT 10,1,0,3,4,1\r\n',
  'EPRT |1|10.1.0.4|1025|\r\n',
  'EPRT |2|2001:db8:1::3|1026|\r\n',
  'PRIVMSG x :\x01DCC SEND f 167903243 5000 1\x01\r\n',
  'SETUP rtsp://x RTSP/1.0\r\nTransport: RTP/AVP;client_port=1005-1006\r\n\r\n',
  pptp(7, 9, 0),
  pptp(7, 9, 0),
  pptp(7, 7, 0) + pptp(12, 7, 0),
  pptp(12, 9, 0),
  pptp(15, 7, 0),
];
const ANSWERS = [
  '227 Entering Passive Mode (10,2,0,11,195,83).\r\n',
  '227 Entering Passive Mode (10,2,0,12,195,83).\r\n',
  '227 10,2,0,11,195,84 and on with more than that\r\n150 x\r\n',
  '229 Entering Extended Passive Mode (|||50010|)\r\n',
  '229 (|2|2001:db8:2::11|50011|)',
  'RTSP/1.0 200 OK\r\nTransport: RTP/AVP;client_port=1005-1006;server_port=50003;source=10.2.0.11\r\n',
  pptp(8, 7, 9),
  pptp(8, 0, 9),
  pptp(8, 7, 7) + pptp(14, 7, 0),
  pptp(13, 7, 0),
  'RTSP/1.0 200 OK\r\nTransport: RTP/AVP;source=2001:db8:2::c;client_port=1007\r\n\r\n',
];
/** Ports that answers speak of. */
export const FTP_DATA_PORTS = [50_003, 50_004, 50_010, 50_011] as const;

/** A line, now and then with bytes changed, doubled or missing. */
export function ftpLine(r: Random, lines: readonly string[] = [...COMMANDS, ...ANSWERS]): Uint8Array {
  const bytes = [...Buffer.from(r.pick(lines))];
  for (let i = r.pick([0, 0, 0, 1, 3]); i > 0 && bytes.length > 0; i--) {
    bytes.splice(
      r.below(bytes.length),
      r.below(2),
      ...r.pick([[], [r.below(256)], [48 + r.below(10)], [44], [124], [13, 10]]),
    );
  }
  return Uint8Array.from(bytes);
}

/** An end of a connection, as its packets show it. */
export interface End {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

/** The packets of a session: the client connects, and both sides talk. `reply`: how the real server's packets are addressed. */
export function ftpSession(r: Random, request: End, reply: () => End | undefined): (() => Uint8Array)[] {
  const segment = (ends: End, flags: string, payload: Uint8Array): Uint8Array =>
    tcpFrame({
      ...ends,
      flags,
      sequence: r.below(2 ** 32),
      acknowledgement: r.below(2 ** 32),
      payload,
    });
  const nothing = new Uint8Array(0);
  const packets = [() => segment(request, 'S', nothing), () => segment(request, 'A', nothing)];
  for (let i = 2 + r.below(8); i > 0; i--) {
    packets.push(
      () => segment(request, 'PA', ftpLine(r, COMMANDS)),
      () => segment(reply() ?? request, 'PA', ftpLine(r, ANSWERS)),
    );
    if (r.below(3) === 0) packets.push(() => callPacket(r, r.pick([request, reply() ?? request])));
  }
  return packets;
}

/** GRE of PPTP to the one who has that number for the call. */
function callPacket(r: Random, { source, destination }: End): Uint8Array {
  const call = r.pick(CALLS);
  return ipFrame({ source, destination }, 47, Uint8Array.from([0x20, 1, 0x88, 0x0b, 0, 4, 0, call, 1, 2, 3, 4]));
}

/** The payload's beginning becomes TCP options, sensible or not; the checksum is wrong by then. */
export function giveOptions(r: Random, frame: Uint8Array): void {
  const at = 14 + (frame[12] === 8 ? 20 : 40) + 20;
  if (frame.length < at + 40) return;
  frame[at - 8] = (5 + r.below(11)) << 4;
  for (let i = 0; i < 40; ) {
    const timestamp = [8, 10];
    const selective = [5, r.pick([10, 18, 26, r.below(256)])];
    const option = r.pick([[1], [1], timestamp, selective, selective, [r.below(256), r.below(12)], [0]]);
    frame.set(option.slice(0, 40 - i), at + i);
    i += Math.max(option[1] ?? 1, 1);
  }
}
