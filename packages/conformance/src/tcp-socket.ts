/**
 * One end of a TCP connection as Linux 6.1 plays it: handshake, data, the four ways to close, retransmission with a loss
 * probe first, and acknowledgements that wait once a connection has become a dialogue (quick and delayed ACKs).
 */
import type { Timer } from './clock.ts';
import type { Ends4, Host } from './hosts.ts';
import { type Parsed, tcpPacket } from './wire.ts';

export type TcpState =
  | 'SYN_SENT'
  | 'SYN_RECV'
  | 'ESTABLISHED'
  | 'FIN_WAIT1'
  | 'FIN_WAIT2'
  | 'CLOSING'
  | 'TIME_WAIT'
  | 'CLOSE_WAIT'
  | 'LAST_ACK'
  | 'CLOSED';

interface Sent {
  readonly sequence: number;
  readonly flags: string;
  readonly payload: Uint8Array;
  readonly length: number;
}

const MILLISECOND = 1000;
const SECOND = 1_000_000;
const INITIAL_TIMEOUT = SECOND;
const MINIMUM_TIMEOUT = 200 * MILLISECOND;
const MAXIMUM_TIMEOUT = 120 * SECOND;
/** With more than one segment on its way nobody waits for a delayed acknowledgement. */
const PROBE_TIMEOUT = 20 * MILLISECOND;
const DELAYED_ACK = 40 * MILLISECOND;
const SYN_RETRIES = 6;
const SYN_ACK_RETRIES = 5;
const RETRIES = 15;
const ORPHAN_RETRIES = 8;
const QUICK_ACKS = 16;

const NOTHING = new Uint8Array(0);
/** a - b as sequence numbers. */
const distance = (a: number, b: number): number => (a - b) | 0;

export class TcpSocket {
  readonly host: Host;
  readonly ends: Ends4;
  state: TcpState = 'CLOSED';
  /** Why it ended, as errno names it. */
  error: string | undefined;
  /** Bytes that wait to be read. */
  received = 0;
  /** The other end has closed. */
  ended = false;
  #next = 0;
  #unacknowledged = 0;
  #expected = 0;
  #queue: Sent[] = [];
  #retransmit: Timer | undefined;
  #retries = 0;
  #probed = false;
  /** A timeout has passed, and not all is acknowledged since. */
  #recovering = false;
  #delayed: Timer | undefined;
  #quick = QUICK_ACKS;
  /** A dialogue: answers follow requests, so acknowledgements wait for them. */
  #dialogue = false;
  /** How long an acknowledgement may wait: not at all before the first data came. */
  #acknowledgeWithin = 0;
  #lastReceived = -Infinity;
  #lasting: Timer | undefined;
  #orphan = false;

  constructor(host: Host, ends: Ends4) {
    this.host = host;
    this.ends = ends;
  }

  // What an application does ---------------------------------------------------------------------------------------

  connect(): void {
    this.#begin();
    this.state = 'SYN_SENT';
    this.#queueAndSend('S', NOTHING);
  }

  /** A SYN came to a listening port. */
  accept(syn: Parsed): void {
    this.#begin();
    this.state = 'SYN_RECV';
    this.#expected = (syn.sequence + 1) >>> 0;
    this.#queueAndSend('SA', NOTHING);
  }

  /** False where the connection is gone. */
  write(bytes: number): boolean {
    if (this.state !== 'ESTABLISHED' && this.state !== 'CLOSE_WAIT') return false;
    this.#queueAndSend('PA', new Uint8Array(bytes).fill(0x78));
    return true;
  }

  read(): number {
    const bytes = this.received;
    this.received = 0;
    return bytes;
  }

  close(): void {
    this.#orphan = true;
    if (this.state === 'ESTABLISHED') this.#finish('FIN_WAIT1');
    else if (this.state === 'CLOSE_WAIT') this.#finish('LAST_ACK');
    else if (this.state === 'SYN_SENT' || this.state === 'SYN_RECV') this.#end();
  }

  /** With SO_LINGER 0. */
  reset(): void {
    this.#orphan = true;
    if (!['CLOSED', 'SYN_SENT', 'TIME_WAIT'].includes(this.state)) this.#transmit('RA', this.#next, NOTHING);
    this.#end();
  }

  /** Gone without a word: its addresses and ports are another connection's. */
  abandon(): void {
    this.#end();
  }

  unreachable(error: string): void {
    // An established connection takes it as advice only.
    if (this.state === 'SYN_SENT') this.#fail(error);
  }

  // What the network does ------------------------------------------------------------------------------------------

  receive(p: Parsed): void {
    if (this.state === 'CLOSED') return;
    if (this.state === 'SYN_SENT') {
      this.#answerToSyn(p);
      return;
    }
    if (p.flags.includes('R')) {
      if (distance(p.sequence, this.#expected) >= 0) this.#fail(this.state === 'CLOSE_WAIT' ? 'EPIPE' : 'ECONNRESET');
      return;
    }
    if (p.flags.includes('S')) {
      if (this.state === 'SYN_RECV') this.#transmit('SA', this.#unacknowledged, NOTHING);
      else this.#acknowledge();
      return;
    }
    if (!p.flags.includes('A')) return;
    if (this.state === 'SYN_RECV') {
      if (p.acknowledgement !== this.#next) return;
      this.state = 'ESTABLISHED';
      this.host.accepted.push(this);
    }
    this.#acknowledged(p.acknowledgement);
    this.#take(p);
  }

  #answerToSyn(p: Parsed): void {
    if (!p.flags.includes('A') || p.acknowledgement !== this.#next) return;
    if (p.flags.includes('R')) {
      this.#fail('ECONNREFUSED');
    } else if (p.flags.includes('S')) {
      this.#acknowledged(p.acknowledgement);
      this.#expected = (p.sequence + 1) >>> 0;
      this.state = 'ESTABLISHED';
      this.#acknowledge();
    }
  }

  #acknowledged(number: number): void {
    if (distance(number, this.#unacknowledged) <= 0 || distance(number, this.#next) > 0) return;
    this.#unacknowledged = number;
    this.#queue = this.#queue.filter(({ sequence, length }) => distance(sequence + length, number) > 0);
    this.#retries = 0;
    this.#probed = false;
    const [oldest] = this.#queue;
    if (this.#recovering && oldest !== undefined) this.#transmit(oldest.flags, oldest.sequence, oldest.payload);
    this.#recovering &&= oldest !== undefined;
    this.#arm();
    if (number !== this.#next) return;
    if (this.state === 'FIN_WAIT1') this.#halfClosed();
    else if (this.state === 'CLOSING') this.#linger();
    else if (this.state === 'LAST_ACK') this.#end();
  }

  #take(p: Parsed): void {
    const length = p.payload.length;
    const ends = p.flags.includes('F');
    if (length === 0 && !ends) return;
    if (p.sequence !== this.#expected) {
      // Seen before, or something before it is missing: say at once what is expected.
      this.#acknowledgeOddly();
      return;
    }
    if (length > 0 && this.#orphan) {
      this.#transmit('R', p.acknowledgement, NOTHING);
      this.#end();
      return;
    }
    this.#expected = (this.#expected + length + (ends ? 1 : 0)) >>> 0;
    this.received += length;
    if (length > 0) {
      this.#lastReceived = this.host.clock.now;
      this.#acknowledgeWithin = DELAYED_ACK;
    }
    if (ends) this.#otherEndClosed();
    else this.#acknowledgeSoon();
  }

  #otherEndClosed(): void {
    this.ended = true;
    if (this.state === 'ESTABLISHED') {
      this.state = 'CLOSE_WAIT';
      this.#dialogue = true;
      this.#acknowledgeSoon();
    } else if (this.state === 'FIN_WAIT1') {
      this.state = 'CLOSING';
      this.#acknowledge();
    } else if (this.state === 'FIN_WAIT2') {
      this.#acknowledge();
      this.#linger();
    } else {
      this.#acknowledge();
    }
  }

  #acknowledgeSoon(): void {
    if (!this.#dialogue && this.#quick > 0) {
      this.#quick--;
      this.#acknowledge();
    } else if (this.#delayed === undefined) {
      this.#delayed = this.host.clock.kernelTimer(this.#acknowledgeWithin, () => this.#acknowledge());
    }
  }

  #acknowledge(): void {
    this.#transmit('A', this.#next, NOTHING);
  }

  /** With a SACK block: of what was seen twice (RFC 2883), or of what lies beyond a gap. */
  #acknowledgeOddly(): void {
    this.#transmit('A', this.#next, NOTHING, 'sack');
  }

  // Sending --------------------------------------------------------------------------------------------------------

  #begin(): void {
    this.#next = this.host.nextSequence();
    this.#unacknowledged = this.#next;
  }

  #finish(state: TcpState): void {
    this.state = state;
    this.#queueAndSend('FA', NOTHING);
  }

  #queueAndSend(flags: string, payload: Uint8Array): void {
    const length = payload.length + (flags.includes('S') || flags.includes('F') ? 1 : 0);
    const sent = { sequence: this.#next, flags, payload, length };
    this.#next = (this.#next + length) >>> 0;
    this.#queue.push(sent);
    if (payload.length > 0 && this.host.clock.now - this.#lastReceived < DELAYED_ACK) this.#dialogue = true;
    // After a timeout one segment at a time is on its way.
    if (this.#recovering) return;
    this.#transmit(flags, sent.sequence, payload);
    this.#arm();
  }

  #transmit(flags: string, sequence: number, payload: Uint8Array, options: 'data' | 'sack' = 'data'): void {
    if (this.#delayed !== undefined) this.#delayed.cancelled = true;
    this.#delayed = undefined;
    const { local, localPort, remote, remotePort } = this.ends;
    this.host.send(
      tcpPacket({
        source: local,
        sourcePort: localPort,
        destination: remote,
        destinationPort: remotePort,
        flags,
        sequence,
        acknowledgement: flags.includes('A') ? this.#expected : 0,
        payload,
        options: flags.includes('S') ? 'syn' : flags === 'R' ? 'none' : options,
      }),
    );
  }

  /** (Re)start the retransmission timer for what is not acknowledged. */
  #arm(): void {
    if (this.#retransmit !== undefined) this.#retransmit.cancelled = true;
    this.#retransmit = undefined;
    if (this.#queue.length === 0) return;
    const handshake = this.state === 'SYN_SENT' || this.state === 'SYN_RECV';
    const probe = !handshake && !this.#probed && this.#retries === 0 && this.#queue.length > 1;
    const first = handshake ? INITIAL_TIMEOUT : probe ? PROBE_TIMEOUT : MINIMUM_TIMEOUT;
    const timeout = Math.min(first * 2 ** this.#retries, MAXIMUM_TIMEOUT);
    this.#retransmit = this.host.clock.kernelTimer(timeout, () => this.#again());
  }

  #again(): void {
    const [oldest] = this.#queue;
    if (oldest === undefined) return;
    const handshake = this.state === 'SYN_SENT' || this.state === 'SYN_RECV';
    const most = handshake
      ? this.state === 'SYN_SENT'
        ? SYN_RETRIES
        : SYN_ACK_RETRIES
      : this.#orphan
        ? ORPHAN_RETRIES
        : RETRIES;
    if (this.#retries >= most) {
      this.#fail('ETIMEDOUT');
      return;
    }
    // The first time it is a loss probe: the newest again, after which the timer starts anew at its full length.
    let again = oldest;
    if (!handshake && !this.#probed) {
      this.#probed = true;
      again = this.#queue.at(-1)!;
    } else {
      this.#retries++;
      if (!handshake) this.#recovering = true;
    }
    this.host.retransmissions++;
    this.#transmit(again.flags, again.sequence, again.payload);
    this.#arm();
  }

  // Ends -----------------------------------------------------------------------------------------------------------

  #halfClosed(): void {
    this.state = 'FIN_WAIT2';
    this.#lastFor(60 * SECOND);
  }

  #linger(): void {
    this.state = 'TIME_WAIT';
    this.#lastFor(60 * SECOND);
  }

  #lastFor(microseconds: number): void {
    if (this.#lasting !== undefined) this.#lasting.cancelled = true;
    this.#lasting = this.host.clock.kernelTimer(microseconds, () => this.#end());
  }

  #fail(error: string): void {
    this.error ??= error;
    this.#end();
  }

  #end(): void {
    this.state = 'CLOSED';
    this.#queue = [];
    for (const timer of [this.#retransmit, this.#delayed, this.#lasting])
      if (timer !== undefined) timer.cancelled = true;
    this.#delayed = undefined;
    this.host.forget(this);
  }
}
