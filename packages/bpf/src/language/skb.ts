/**
 * The packet a program is given: `__sk_buff` for tc.
 *
 * `skb.header(S, offset)` is a bounds-checked view. Helpers that can move the packet make all earlier views stale: using one
 * is a compile error, and an exception in Node.
 */
import type { be16, u32 } from './scalar.ts';
import type { Fields, Guard, Struct, View } from './struct.ts';

/** Fields of the context that programs may read; those marked writable may be assigned. Offsets are the kernel's ABI. */
export const SKB_FIELDS = {
  len: { offset: 0, writable: false },
  pktType: { offset: 4, writable: false },
  mark: { offset: 8, writable: true },
  protocol: { offset: 16, writable: false, be16: true },
  vlanPresent: { offset: 20, writable: false },
  priority: { offset: 32, writable: true },
  ingressIfindex: { offset: 36, writable: false },
  ifindex: { offset: 40, writable: false },
  hash: { offset: 68, writable: false },
  gsoSegs: { offset: 164, writable: false },
  gsoSize: { offset: 176, writable: false },
} as const;

/** The largest offset that `header()` takes: the verifier wants a proof that it is small. */
export const MAX_HEADER_OFFSET = 0x7fff;

export interface Skb {
  /** Bytes of the whole packet, link header included. */
  readonly len: u32;
  /** PACKET_HOST 0, PACKET_BROADCAST 1, PACKET_MULTICAST 2, PACKET_OTHERHOST 3. */
  readonly pktType: u32;
  mark: u32;
  readonly protocol: be16;
  readonly vlanPresent: u32;
  priority: u32;
  readonly ingressIfindex: u32;
  readonly ifindex: u32;
  readonly hash: u32;
  readonly gsoSegs: u32;
  readonly gsoSize: u32;
  /** The struct at `offset`, or null where the (linear part of the) packet ends before its end. */
  header<Fs extends Fields>(type: Struct<Fs>, offset: u32): View<Fs> | null;
}

/** Where a redirecting helper wants the packet to go. */
export interface Redirection {
  readonly kind: 'redirect' | 'neighbour' | 'peer' | 'clone';
  readonly ifindex: number;
  /** The bytes of bpf_redir_neigh, where given. */
  readonly neighbour?: Uint8Array;
  /** Of a clone: it arrives at the interface instead of leaving by it. */
  readonly ingress?: boolean;
  /** The packet as it was when cloned. */
  readonly packet?: Uint8Array;
}

export type SkbInit = Partial<
  Pick<NodeSkb, 'pktType' | 'mark' | 'priority' | 'ingressIfindex' | 'ifindex' | 'hash' | 'gsoSegs' | 'gsoSize'>
>;

/** A packet in Node. */
export class NodeSkb implements Skb {
  bytes: Uint8Array;
  pktType = 0;
  mark = 0;
  /** What the kernel takes the packet for. The link header says so when it comes; only helpers change it, and it alone. */
  protocol: be16;
  vlanPresent = 0;
  priority = 0;
  ingressIfindex = 1;
  ifindex = 1;
  hash = 0;
  gsoSegs = 0;
  gsoSize = 0;
  /** The last redirecting helper's wish; it counts when the program returns TC_ACT_REDIRECT. */
  redirection: Redirection | undefined;
  readonly clones: Redirection[] = [];
  #generation = 0;

  constructor(frame: Uint8Array, init: SkbInit = {}) {
    this.bytes = frame.slice();
    this.protocol = ((frame[12] ?? 0) | ((frame[13] ?? 0) << 8)) as be16;
    Object.assign(this, init);
  }

  get len(): number {
    return this.bytes.length;
  }

  header<Fs extends Fields>(type: Struct<Fs>, offset: u32): View<Fs> | null {
    if (!(offset >= 0 && offset <= MAX_HEADER_OFFSET)) throw new RangeError(`Cannot view the packet at ${offset}`);
    if (offset + type.size > this.bytes.length) return null;
    return type.on(this.bytes, offset, this.#guard());
  }

  /** Called by helpers that may move the packet. */
  moved(): void {
    this.#generation++;
  }

  #guard(): Guard {
    const made = this.#generation;
    return {
      check: () => {
        if (made !== this.#generation) {
          throw new Error(
            'Cannot use a packet view made before a helper that can move the packet: call header() again',
          );
        }
      },
    };
  }
}
