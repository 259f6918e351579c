/**
 * Integers of kernel TypeScript. Each name is a type, a field descriptor for `struct()`, and a narrowing function.
 *
 * Integers up to 32 bits are plain numbers; the compiler proves by intervals that a value fits where it is stored. `u64` is a
 * bigint and wraps only where `u64(...)` says so. `be16` and `be32` hold raw network bytes as the machine loads them (little
 * endian), so only `===`, assignment, `ntohs`, `ntohl` and `raw` mean anything on them; the types keep it so.
 */

declare const order: unique symbol;

export type u8 = number;
export type u16 = number;
export type u32 = number;
export type i32 = number;
export type u64 = bigint;
export type be16 = number & { readonly [order]: 'be16' };
export type be32 = number & { readonly [order]: 'be32' };

export type ScalarName = 'u8' | 'u16' | 'u32' | 'i32' | 'u64' | 'be16' | 'be32';

/** Describes a scalar field; `T` is the type that the field has in a view. */
export interface Scalar<T> {
  readonly kind: 'scalar';
  readonly scalar: ScalarName;
  readonly size: 1 | 2 | 4 | 8;
  readonly signed: boolean;
  /** Only for inference. */
  readonly type?: T;
}

type Narrow<T> = (x: number | bigint) => T;

const scalar = <T>(name: ScalarName, size: 1 | 2 | 4 | 8, signed: boolean, narrow: Narrow<T>): Scalar<T> & Narrow<T> =>
  Object.assign(narrow, { kind: 'scalar' as const, scalar: name, size, signed });

const low32 = (x: number | bigint): number => (typeof x === 'bigint' ? Number(BigInt.asUintN(32, x)) : x >>> 0);

/** Keep the low 8 bits. */
export const u8 = scalar<u8>('u8', 1, false, (x) => low32(x) & 0xff);
/** Keep the low 16 bits. */
export const u16 = scalar<u16>('u16', 2, false, (x) => low32(x) & 0xffff);
/** Keep the low 32 bits; `u32(a / b)` is the integer quotient, and 0 when b is 0. */
export const u32 = scalar<u32>('u32', 4, false, low32);
/** Keep the low 32 bits as a signed number. */
export const i32 = scalar<i32>('i32', 4, true, (x) => low32(x) | 0);
/** Wrap to 64 bits. */
export const u64 = scalar<u64>('u64', 8, false, (x) => BigInt.asUintN(64, BigInt(x)));

/** A function of its own each time: the descriptor's properties are put on it. */
const rawOnly = () => (): never => {
  throw new TypeError('be16 and be32 are not conversions: use htons(), htonl()');
};
/** 16 bits in network order. */
export const be16: Scalar<be16> = scalar<be16>('be16', 2, false, rawOnly());
/** 32 bits in network order. */
export const be32: Scalar<be32> = scalar<be32>('be32', 4, false, rawOnly());

const swap16 = (x: number): number => ((x & 0xff) << 8) | ((x >>> 8) & 0xff);
const swap32 = (x: number): number =>
  ((x << 24) | ((x & 0xff00) << 8) | ((x >>> 8) & 0xff00) | ((x >>> 24) & 0xff)) >>> 0;

/** Host number to network order. */
export const htons = (x: u16): be16 => swap16(x) as be16;
export const htonl = (x: u32): be32 => swap32(x) as be32;
/** Network order to host number. */
export const ntohs = (x: be16): u16 => swap16(x);
export const ntohl = (x: be32): u32 => swap32(x);
/** The bytes as the machine sees them, for checksum arithmetic and hashes. */
export const raw = (x: be16 | be32): u32 => x;
/** The way back from `raw`: the low 16 or 32 bits of a number taken as network order. */
export const rawBe16 = (x: u16): be16 => x as be16;
export const rawBe32 = (x: u32): be32 => x as be32;

/** `Math.imul` as an unsigned number: the low 32 bits of the product. */
export const mul32 = (a: u32, b: u32): u32 => Math.imul(a, b) >>> 0;
