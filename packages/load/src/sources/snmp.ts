/**
 * As much of SNMP v2c (RFC 3416) as it takes to ask for a few integers: a GET in BER, and its answer.
 *
 *     SEQUENCE { version 1, community, [0] { id, error, index, SEQUENCE { SEQUENCE { oid, value } ... } } }
 */

const INTEGER = 0x02;
const OCTETS = 0x04;
const NULL = 0x05;
const OID = 0x06;
const SEQUENCE = 0x30;
const GET = 0xa0;
const RESPONSE = 0xa2;
const VERSION_2C = 1;
/** Counter32, Gauge32, TimeTicks and Counter64 are integers that never are negative. */
const UNSIGNED = new Set([0x41, 0x42, 0x43, 0x46]);

export interface SnmpResponse {
  readonly id: number;
  readonly error: number;
  /** By OID; what the agent does not have is missing. */
  readonly values: ReadonlyMap<string, number | string>;
}

export function encodeGet(community: string, id: number, oids: readonly string[]): Uint8Array {
  const bindings = oids.map((oid) =>
    element(SEQUENCE, Buffer.concat([encodeOid(oid), element(NULL, Buffer.alloc(0))])),
  );
  const request = [integer(id), integer(0), integer(0), element(SEQUENCE, Buffer.concat(bindings))];
  const message = [integer(VERSION_2C), element(OCTETS, Buffer.from(community)), element(GET, Buffer.concat(request))];
  return element(SEQUENCE, Buffer.concat(message));
}

export function decodeResponse(bytes: Uint8Array): SnmpResponse {
  const [message] = elements(Buffer.from(bytes));
  const [, , response] = message?.tag === SEQUENCE ? elements(message.content) : [];
  if (response?.tag !== RESPONSE) throw new Error('not an SNMP response');
  const [id, error, , bindings] = elements(response.content);
  if (id === undefined || error === undefined || bindings === undefined) throw new Error('an SNMP response cut short');
  const values = new Map<string, number | string>();
  for (const binding of elements(bindings.content)) {
    const [oid, value] = elements(binding.content);
    if (oid?.tag !== OID || value === undefined) continue;
    if (value.tag === INTEGER) values.set(decodeOid(oid.content), signed(value.content));
    else if (UNSIGNED.has(value.tag)) values.set(decodeOid(oid.content), unsigned(value.content));
    else if (value.tag === OCTETS) values.set(decodeOid(oid.content), value.content.toString('latin1'));
  }
  return { id: signed(id.content), error: signed(error.content), values };
}

interface Element {
  readonly tag: number;
  readonly content: Buffer;
}

function elements(bytes: Buffer): Element[] {
  const found: Element[] = [];
  for (let at = 0; at + 2 <= bytes.length; ) {
    const tag = bytes[at]!;
    const first = bytes[at + 1]!;
    const long = first > 0x7f ? first & 0x7f : 0;
    if (long > 4 || at + 2 + long > bytes.length) break;
    const length = long === 0 ? first : bytes.readUIntBE(at + 2, long);
    const start = at + 2 + long;
    if (start + length > bytes.length) break;
    found.push({ tag, content: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}

function element(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.of(tag, ...size), content]);
}

/** In as few bytes as hold it, which BER insists on; never negative here. */
function integer(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  let start = 0;
  while (start < 3 && bytes[start] === 0 && bytes[start + 1]! < 0x80) start++;
  return element(INTEGER, bytes.subarray(start));
}

function signed(bytes: Buffer): number {
  return bytes.length === 0 || bytes.length > 6 ? 0 : bytes.readIntBE(0, bytes.length);
}

function unsigned(bytes: Buffer): number {
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

/** The first two numbers share a byte; the others have seven bits to a byte, the highest of which says "more". */
function encodeOid(oid: string): Buffer {
  const [a = 0, b = 0, ...rest] = oid.split('.').map(Number);
  const bytes = [a * 40 + b, ...rest.flatMap(base128)];
  return element(OID, Buffer.from(bytes));
}

function base128(value: number): number[] {
  const bytes = [value & 127];
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) bytes.unshift((rest & 127) | 128);
  return bytes;
}

function decodeOid(bytes: Buffer): string {
  const numbers = [Math.floor((bytes[0] ?? 0) / 40), (bytes[0] ?? 0) % 40];
  let value = 0;
  for (const byte of bytes.subarray(1)) {
    value = value * 128 + (byte & 127);
    if (byte & 128) continue;
    numbers.push(value);
    value = 0;
  }
  return numbers.join('.');
}
