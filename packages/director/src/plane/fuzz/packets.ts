/**
 * Random packets around the fuzzer's site: of all protocols that are balanced and some that are not, from clients, of known
 * connections, from real servers, errors about both; as fragments, in tunnels, with options, cut short, and with bytes changed.
 */
import { internetChecksum, ipFrame, parseFrame, sctpFrame, tcpFrame, udpFrame } from '@ipvsd/ipvs';
import { parseIp } from '@ipvsd/linux';
import type { Family } from '../../address.ts';
import type { Protocol, ServiceId } from '../../model.ts';
import { FTP_DATA_PORTS, ftpLine, ftpSession, giveOptions } from './ftp.ts';
import type { Random } from './random.ts';
import { GUE_PORT, OWN_ADDRESSES, PORTS, REAL_SERVERS, SITES } from './site.ts';

interface Ends {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

/** A connection as the packets that were sent for it show it. */
interface Seen {
  readonly protocol: Protocol;
  readonly request: Ends;
  readonly reply: Ends;
}

const NAMES: Readonly<Record<number, Protocol>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };
const ETHERNET = 14;
/** As much as is remembered of each. */
const MOST_SEEN = 300;
const MOST_TUNNELLED = 50;

export class Packets {
  readonly #random: Random;
  readonly #services: () => readonly ServiceId[];
  readonly #seen: Seen[] = [];
  /** Packets of ours in tunnels, as they left. */
  readonly #tunnelled: Uint8Array[] = [];
  /** Packets that come before any other. */
  #session: (() => Uint8Array)[] = [];

  /** `services`: those there are, which most packets are for. */
  constructor(random: Random, services: () => readonly ServiceId[]) {
    this.#random = random;
    this.#services = services;
  }

  next(): Uint8Array {
    const r = this.#random;
    if (this.#session.length === 0 && r.oneIn(8)) this.#beginSession();
    const talk = this.#session.shift()?.();
    if (talk !== undefined) return r.oneIn(4) ? maim(r, talk) : talk;
    const family: Family = r.pick(['ipv4', 'ipv4', 'ipv6']);
    const known = this.#seen.length > 0;
    if (known && r.oneIn(8)) return maim(r, this.#error());
    if (r.oneIn(30)) return maim(r, encrypted(r, family));
    if (r.oneIn(20)) return maim(r, echo(r, family));
    const made = known && r.below(5) > 1 ? this.#ofConnection() : this.#first(family);
    const frame = made[12] === 8 && r.oneIn(3) ? splittable(made) : made;
    if (r.oneIn(40)) return maim(r, nested(r, frame));
    if (r.oneIn(30)) return maim(r, withOptions(r, frame));
    return maim(r, r.oneIn(12) ? fragmented(r, frame) : frame);
  }

  /** The data plane sent `sent` on as `left`. */
  remember(sent: Uint8Array, left: Uint8Array): void {
    const after = parsed(left);
    const before = parsed(sent);
    if (after === undefined || before === undefined) return;
    const tunnel = OWN_ADDRESSES.includes(after.source);
    if (tunnel) push(this.#tunnelled, left.slice(), MOST_TUNNELLED);
    const protocol = NAMES[before.protocol];
    if (protocol === undefined || before.destinationPort === 0) return;
    const request: Ends = before;
    if (!isReal(after.destination)) return;
    const real = tunnel ? before : after;
    const reply: Ends = {
      source: real.destination,
      sourcePort: real.destinationPort,
      // Under FULLNAT the real server answers the director.
      destination: real.source,
      destinationPort: real.sourcePort,
    };
    push(this.#seen, { protocol, request, reply }, MOST_SEEN);
  }

  #first(family: Family): Uint8Array {
    const r = this.#random;
    const services = this.#services();
    if (services.length === 0 || r.oneIn(5)) return fresh(r, family);
    const service = r.pick(services);
    if (service.kind === 'fwmark') return fresh(r, service.family);
    const destinationPort = service.port === 0 || r.oneIn(20) ? r.pick(PORTS) : service.port;
    const client = SITES[service.family].client(r.below(8));
    const ends = { source: client, sourcePort: clientPort(r), destination: service.address, destinationPort };
    return transportFrame(r, service.protocol, ends, timeToLive(r));
  }

  /** Somebody comes to an FTP service, if there is one. */
  #beginSession(): void {
    const r = this.#random;
    const controls = this.#services().filter((id) => id.kind === 'address' && id.protocol === 'tcp' && id.port === 21);
    if (controls.length === 0) return;
    const service = r.pick(controls);
    if (service.kind !== 'address') return;
    const source = SITES[service.family].client(r.below(8));
    const request: Ends = { source, sourcePort: clientPort(r), destination: service.address, destinationPort: 21 };
    const known = (seen: Seen): boolean =>
      seen.request.source === source &&
      seen.request.sourcePort === request.sourcePort &&
      seen.request.destinationPort === 21;
    this.#session = ftpSession(r, request, () => this.#seen.findLast(known)?.reply);
  }

  #ofConnection(): Uint8Array {
    const r = this.#random;
    const { protocol, request, reply } = r.pick(this.#seen);
    const asks = r.oneIn(2);
    const ends = asks ? request : reply;
    if (protocol === 'tcp' && r.oneIn(3)) return ofHandshake(r, ends, asks);
    return transportFrame(r, protocol, ends, r.oneIn(20) ? r.pick([1, 2]) : 64);
  }

  /** An error about a packet of a connection, from either side, or about one of ours in a tunnel. */
  #error(): Uint8Array {
    const r = this.#random;
    if (this.#tunnelled.length > 0 && r.oneIn(3)) {
      const sent = r.pick(this.#tunnelled);
      const { source, destination } = parseFrame(sent);
      return icmp(r, destination, source, sent.slice(ETHERNET, ETHERNET + 28 + r.below(150)));
    }
    const { protocol, request, reply } = r.pick(this.#seen);
    // An error quotes what its receiver has sent.
    const about = r.oneIn(2) ? request : reply;
    const quoted = transportFrame(r, protocol, { ...reversed(about) }, 64);
    // At least the ports, now and then less.
    const length = (about.source.includes(':') ? 40 : 20) + r.below(40);
    const body = r.oneIn(12) ? fragmented(r, quoted) : quoted;
    return icmp(r, about.source, about.destination, body.slice(ETHERNET, ETHERNET + length));
  }
}

const reversed = ({ source, sourcePort, destination, destinationPort }: Ends): Ends => ({
  source: destination,
  sourcePort: destinationPort,
  destination: source,
  destinationPort: sourcePort,
});

function push<T>(list: T[], item: T, most: number): void {
  list.push(item);
  if (list.length > most) list.shift();
}

const isReal = (address: string): boolean => address.startsWith('10.2.') || address.startsWith('2001:db8:2:');

/** Undefined for what is too short to have ports, or is no IP at all. */
function parsed(frame: Uint8Array): ReturnType<typeof parseFrame> | undefined {
  const type = (frame[12]! << 8) | frame[13]!;
  if ((type !== 0x0800 && type !== 0x86dd) || frame.length < ETHERNET + 60) return undefined;
  try {
    return parseFrame(frame);
  } catch {
    // It says more of itself than there is.
    return undefined;
  }
}

// Made anew ----------------------------------------------------------------------------------------------------------

function fresh(r: Random, family: Family): Uint8Array {
  const site = SITES[family];
  const protocol: Protocol = r.pick(['tcp', 'tcp', 'udp', 'udp', 'sctp']);
  const port = clientPort(r);
  const client = site.client(r.below(8));
  if (r.oneIn(4)) {
    const source = site.real(r.below(REAL_SERVERS));
    const ends = { source, sourcePort: r.pick([80, 8000, ...PORTS]), destination: client, destinationPort: port };
    return transportFrame(r, protocol, ends, timeToLive(r));
  }
  const destination = r.oneIn(30) ? r.pick(site.own) : r.pick(site.virtual);
  const destinationPort = r.oneIn(10) ? r.pick([20, 82, 40_000, GUE_PORT, ...FTP_DATA_PORTS]) : r.pick(PORTS);
  return transportFrame(r, protocol, { source: client, sourcePort: port, destination, destinationPort }, timeToLive(r));
}

const clientPort = (r: Random): number => (r.oneIn(20) ? r.pick([20, 500]) : 1000 + r.below(40));
const timeToLive = (r: Random): number => (r.oneIn(20) ? r.pick([0, 1, 2]) : 64);

const FLAGS = ['S', 'S', 'S', 'SA', 'A', 'A', 'PA', 'FA', 'R', 'RA', 'F', '', 'SR'];
/** A handshake and the first data behind it, whose numbers fit together: for what is told a real server of its client. */
function ofHandshake(r: Random, ends: Ends, asks: boolean): Uint8Array {
  const [flags, sequence, acknowledgement] = r.pick<readonly [string, number, number]>(
    asks
      ? [
          ['S', 0, 0],
          ['A', 1, 1],
          ['A', 1, 1],
          ['PA', 1, 1],
          ['FA', 1, 1],
          ['A', 8, 1],
        ]
      : [
          ['SA', 0, 1],
          ['SA', 0, 1],
          ['A', 1, 1 + r.below(60)],
        ],
  );
  const payload = flags === 'PA' ? r.bytes(r.pick([1, 2, 33, 1440 + r.below(21)])) : r.bytes(0);
  const frame = tcpFrame({ ...ends, flags, sequence, acknowledgement, payload });
  if (r.oneIn(4)) giveOptions(r, frame);
  return frame;
}

/** Types of SCTP chunks (RFC 9260), and one that nobody knows. */
const CHUNKS = [0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 12, 200];

function transportFrame(r: Random, protocol: Protocol, ends: Ends, hops: number): Uint8Array {
  const length = r.oneIn(12) ? 1400 + r.below(130) : r.pick([0, 0, 1, 7, 33, 64]);
  const init = { ...ends, timeToLive: hops, tos: r.oneIn(10) ? r.pick([0xb9, 3, 0x10]) : 0 };
  if (protocol === 'tcp') {
    const payload = r.oneIn(12) ? ftpLine(r) : r.bytes(length);
    // Small ones follow each other now and then, as those of a handshake do.
    const number = (): number => (r.oneIn(2) ? r.below(3) : r.below(2 ** 32));
    const sequence = number();
    const frame = tcpFrame({ ...init, flags: r.pick(FLAGS), sequence, acknowledgement: number(), payload });
    if (r.oneIn(8)) giveOptions(r, frame);
    return frame;
  }
  if (protocol === 'sctp') return sctpFrame(init, chunks(r, length));
  const payload = r.oneIn(8) ? sipMessage(r) : r.oneIn(8) ? tftpRequest(r) : r.bytes(length);
  const frame = udpFrame({ ...init, payload });
  if (r.oneIn(8)) frame.set([0, 0], frame.length - payload.length - 2);
  return frame;
}

function chunks(r: Random, more: number): Uint8Array {
  const chunk = (length: number): number[] => [
    r.pick(CHUNKS),
    r.below(2),
    ...(r.oneIn(10) ? [r.below(256), r.below(256)] : [length >> 8, length & 255]),
  ];
  return Uint8Array.from([...chunk(4), ...(r.oneIn(3) ? chunk(4) : []), ...r.bytes(more)]);
}

/** RFC 1350: operation, file, mode. */
const tftpRequest = (r: Random): Uint8Array => Uint8Array.from([0, r.pick([1, 1, 2, 3]), ...r.bytes(r.below(20)), 0]);

const encoder = new TextEncoder();

function sipMessage(r: Random): Uint8Array {
  const name = r.pick(['Call-ID', 'call-id', 'i', 'CALL-ID', 'Call_ID', 'X-Call-ID']);
  const colon = r.pick([': ', ':', ' : ', ' ', ':\t']);
  const value =
    r.pick(['a', 'abc@host', 'b1', 'x'.repeat(255), 'y'.repeat(256), 'a@', '', 'a b', '@b', 'é']) + r.below(4);
  const end = r.pick(['\r\n', '\r\n', '\n', '']);
  const line = r.pick(['\r\n', '\n', '', ' ']);
  const before = r.oneIn(6) ? 'x'.repeat(r.below(1000)) : '';
  return encoder.encode(`REGISTER sip:x SIP/2.0\r\nVia: ${before}${line}${name}${colon}${value}${end}CSeq: 1\r\n\r\n`);
}

/** AH or ESP between a client and a virtual service, or back. */
function encrypted(r: Random, family: Family): Uint8Array {
  const site = SITES[family];
  const client = site.client(r.below(8));
  const other = r.oneIn(3) ? site.real(r.below(REAL_SERVERS)) : r.pick(site.virtual);
  const [source, destination] = r.oneIn(3) ? [other, client] : [client, other];
  return ipFrame({ source, destination }, r.pick([50, 51]), r.bytes(8 + r.below(60)));
}

/** A real server asks a client, or hears from it; few identifiers, as local ones come out of a small range. */
function echo(r: Random, family: Family): Uint8Array {
  const site = SITES[family];
  const [client, real] = [site.client(r.below(8)), site.real(r.below(REAL_SERVERS))];
  const asks = r.oneIn(2);
  const [source, destination] = asks ? [real, client] : [client, r.pick([site.own[0], real])];
  const id = asks ? r.below(4) : 2000 + r.below(8);
  const type = family === 'ipv4' ? (asks ? 8 : 0) : asks ? 128 : 129;
  const message = Uint8Array.from([type, 0, 0, 0, id >> 8, id & 255, 0, r.below(9), ...r.bytes(r.below(40))]);
  sumMessage(message, source, destination);
  return ipFrame({ source, destination, timeToLive: timeToLive(r) }, family === 'ipv4' ? 1 : 58, message);
}

/** The checksum of an ICMP message, which was 0. */
function sumMessage(message: Uint8Array, source: string, destination: string): void {
  const { length } = message;
  const pseudo = source.includes(':')
    ? [parseIp(source), parseIp(destination), Uint8Array.of(0, 0, length >> 8, length & 255, 0, 0, 0, 58)]
    : [];
  const sum = internetChecksum(...pseudo, message);
  message.set([sum >> 8, sum & 255], 2);
}

const ERRORS = {
  4: [
    [3, 3],
    [3, 3],
    [3, 4],
    [3, 4],
    [3, 2],
    [3, 13],
    [3, 14],
    [11, 0],
    [4, 0],
    [5, 1],
    [8, 0],
  ],
  6: [
    [1, 4],
    [1, 1],
    [2, 0],
    [2, 0],
    [3, 0],
    [4, 0],
    [4, 1],
    [128, 0],
  ],
} as const;

/** An ICMP message that quotes what is given. */
function icmp(r: Random, source: string, destination: string, quoted: Uint8Array): Uint8Array {
  const six = source.includes(':');
  const [type, code] = r.pick<readonly [number, number]>(six ? ERRORS[6] : ERRORS[4]);
  const mtu = r.pick([0, 6, 512, 1300, 1400]);
  const message = Uint8Array.from([type, code, 0, 0, 0, 0, mtu >> 8, mtu & 255, ...quoted]);
  if (r.oneIn(20)) message.set([0x12, 0x34], 2);
  else sumMessage(message, source, destination);
  return ipFrame({ source, destination, timeToLive: r.pick([64, 64, 64, 1]) }, six ? 58 : 1, message);
}

// Changed ------------------------------------------------------------------------------------------------------------

/** The packet inside another one: IP in IP, GRE, GUE, or quoted by an error that is quoted by another. */
function nested(r: Random, frame: Uint8Array): Uint8Array {
  const four = frame[12] === 8;
  const inner = frame.slice(ETHERNET);
  const site = SITES[r.pick(['ipv4', 'ipv6'] as const)];
  const ends = { source: site.client(r.below(8)), destination: r.pick([...site.virtual, ...site.own]) };
  const kind = r.below(4);
  if (kind === 0) return ipFrame(ends, four ? 4 : 41, inner);
  if (kind === 1 && r.oneIn(2)) {
    const call = r.pick([7, 9]);
    return ipFrame(ends, 47, Uint8Array.from([0x20, r.pick([1, 1, 0]), 0x88, 0x0b, 0, 0, 0, call, ...inner]));
  }
  if (kind === 1) return ipFrame(ends, 47, Uint8Array.from([0, 0, four ? 8 : 0x86, four ? 0 : 0xdd, ...inner]));
  if (kind === 2) {
    const payload = Uint8Array.from([0, four ? 4 : 41, 0, 0, ...inner]);
    return udpFrame({ ...ends, sourcePort: 1000, destinationPort: GUE_PORT, payload });
  }
  return icmp(r, ends.source, ends.destination, icmp(r, ends.destination, ends.source, inner).slice(ETHERNET));
}

/** Routers may fragment it. */
function splittable(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  copy[20] = 0;
  return summed4(copy);
}

/** With IPv4 options, or extension headers of IPv6. */
function withOptions(r: Random, frame: Uint8Array): Uint8Array {
  if (frame[12] === 8) {
    const words = 1 + r.below(10);
    const copy = Uint8Array.from([...frame.slice(0, 34), ...new Uint8Array(words * 4).fill(1), ...frame.slice(34)]);
    copy[ETHERNET] = 0x45 + words;
    const length = copy.length - ETHERNET;
    copy.set([length >> 8, length & 255], 16);
    return summed4(copy);
  }
  const extension = [frame[20]!, 0, 1, 4, 0, 0, 0, 0];
  return inserted6(frame, extension, r.pick([0, 43, 60]));
}

/** The packet as if it were a fragment, the first or a later one. */
function fragmented(r: Random, frame: Uint8Array): Uint8Array {
  const id = r.below(6);
  const offset = r.pick([0, 0, 0, 1, 64]);
  const last = offset === 64;
  if (frame[12] === 8) {
    const copy = frame.slice();
    copy.set([0, id, (last ? 0 : 0x20) | (offset >> 8), offset & 255], 18);
    return summed4(copy);
  }
  return inserted6(frame, [frame[20]!, 0, offset >> 5, ((offset & 31) << 3) | (last ? 0 : 1), 0, 0, 0, id], 44);
}

/** The header checksum of IPv4 made right. */
function summed4(frame: Uint8Array): Uint8Array {
  frame.set([0, 0], 24);
  const sum = internetChecksum(frame.subarray(ETHERNET, ETHERNET + (frame[ETHERNET]! & 15) * 4));
  frame.set([sum >> 8, sum & 255], 24);
  return frame;
}

function inserted6(frame: Uint8Array, extension: readonly number[], number: number): Uint8Array {
  const copy = Uint8Array.from([...frame.subarray(0, 54), ...extension, ...frame.subarray(54)]);
  const length = copy.length - 54;
  copy.set([length >> 8, length & 255, number], 18);
  return copy;
}

/** One in eight is cut short or has bytes changed, anywhere. */
function maim(r: Random, frame: Uint8Array): Uint8Array {
  if (!r.oneIn(8)) return frame;
  if (r.oneIn(2)) return frame.slice(0, ETHERNET + 1 + r.below(frame.length - ETHERNET));
  for (let i = 1 + r.below(4); i > 0; i--) {
    const at = 12 + r.below(Math.min(frame.length, 100) - 12);
    frame[at] = r.pick([r.below(256), 0, 255, frame[at]! ^ (1 << r.below(8))]);
  }
  return frame;
}
