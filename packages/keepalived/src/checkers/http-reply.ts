/** An HTTP answer as it comes in: the status, where the body begins and ends, its digest and its text. */
import { createHash } from 'node:crypto';

/** A page of more than this is searched only so far; the digest takes all of it. */
const MOST_TEXT = 4 << 20;
const MOST_HEADER = 64 << 10;

export class HttpReply {
  readonly #hash: ReturnType<typeof createHash> | undefined;
  readonly #keepText: boolean;
  #head = '';
  #digest: string | undefined;
  readonly #text: Uint8Array[] = [];
  #textBytes = 0;
  #inBody = false;
  #bodyBytes = 0;
  #contentLength: number | undefined;

  constructor(wantDigest: boolean, wantText: boolean) {
    this.#hash = wantDigest ? createHash('md5') : undefined;
    this.#keepText = wantText;
  }

  get empty(): boolean {
    return this.#head === '';
  }

  get status(): number | undefined {
    const code = /^HTTP\/[0-9.]+ +([0-9]{3})/.exec(this.#head)?.[1];
    return code === undefined ? undefined : Number(code);
  }

  /** By its own Content-Length; without one only the end of the connection says so. */
  get complete(): boolean {
    return this.#inBody && this.#contentLength !== undefined && this.#bodyBytes >= this.#contentLength;
  }

  add(bytes: Uint8Array): void {
    if (this.#inBody) {
      this.#addBody(bytes);
      return;
    }
    const before = this.#head.length;
    // latin1 keeps bytes and characters one to one, so that an index in the text is an offset in the bytes.
    this.#head += Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    const end = this.#head.indexOf('\r\n\r\n', Math.max(0, before - 3));
    if (end >= 0) {
      this.#head = this.#head.slice(0, end + 4);
      this.#inBody = true;
      this.#contentLength = readContentLength(this.#head);
      this.#addBody(bytes.subarray(end + 4 - before));
    } else if (this.#head.length > MOST_HEADER) {
      this.#inBody = true;
    }
  }

  digest(): string {
    this.#digest ??= this.#hash?.digest('hex') ?? '';
    return this.#digest;
  }

  text(): string {
    return Buffer.concat(this.#text).toString('utf8');
  }

  #addBody(bytes: Uint8Array): void {
    const left = this.#contentLength === undefined ? bytes.length : this.#contentLength - this.#bodyBytes;
    const part = bytes.subarray(0, Math.max(0, left));
    this.#bodyBytes += part.length;
    this.#hash?.update(part);
    if (!this.#keepText || this.#textBytes >= MOST_TEXT) return;
    this.#text.push(part.slice());
    this.#textBytes += part.length;
  }
}

function readContentLength(head: string): number | undefined {
  const text = /\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n/i.exec(head)?.[1];
  return text === undefined ? undefined : Number(text);
}
