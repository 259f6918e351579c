/** What generator and server agree on: fixed sizes, so that neither parses, and the words between the bench and its processes. */
import { addressOf } from '@ipvsd/linux';

export const REQUEST_PORT = 80;
export const BULK_PORT = 81;

const REQUEST = 'GET / HTTP/1.1\r\nHost: bench\r\n\r\n';
const RESPONSE = `HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n${'.'.repeat(64)}`;
export const REQUEST_BYTES = REQUEST.length;
export const RESPONSE_BYTES = RESPONSE.length;
export const CHUNK_BYTES = 262_144;

export type Load = 'cps' | 'keepalive' | 'bulk';

/** One slice of load, as the bench orders it from the generator. */
export interface Order {
  readonly load: Load;
  /** Taken in turn. */
  readonly targets: readonly { readonly address: string; readonly port: number }[];
  readonly connections: number;
  /** Counted; and let pass before counting. */
  readonly ms: number;
  readonly warmupMs: number;
}

export interface Slice {
  /** Connections, requests or bytes, and in how many seconds. */
  readonly done: number;
  readonly seconds: number;
  /** The same with the warm-up and the end: what the slice's CPU time was spent on. */
  readonly total: number;
  readonly errors: number;
  /** Of a request, or of a connection from its first packet to its answer; 0 for bulk. */
  readonly p50Us: number;
  readonly p99Us: number;
  /** What a fixed piece of work took just before. */
  readonly spinUs: number;
}

/** Memory that stays where it is for as long as the process. */
export class Fixed {
  readonly bytes: Uint8Array;
  readonly address: number;

  constructor(content: Uint8Array | number) {
    this.bytes = new Uint8Array(typeof content === 'number' ? content : content.length);
    if (typeof content !== 'number') this.bytes.set(content);
    this.address = addressOf(this.bytes);
    kept.push(this);
  }
}

const kept: Fixed[] = [];

export const requestMemory = (): Fixed => new Fixed(new TextEncoder().encode(REQUEST));
export const responseMemory = (): Fixed => new Fixed(new TextEncoder().encode(RESPONSE));
