import { NodeSkb, ntohl, type Skb, World } from '@ipvsd/bpf';
import { expect, test } from 'vitest';
import { Address6 } from '../packet/address.ts';
import { NONE } from '../service/service.ts';
import {
  beginReading,
  findLine,
  lineWords,
  readAddress4,
  readAddress6,
  readFields,
  readingOf,
  readNumbers,
  readUpTo,
} from './reading.ts';

const AT = 40;

/** What `read` answers where the packet says `text`. */
function reading<T>(text: string, read: (skb: Skb) => T): T {
  const skb = new NodeSkb(Uint8Array.from([...new Uint8Array(AT), ...Buffer.from(text, 'latin1')]));
  let answer: T | undefined;
  const run = (packet: Skb): number => {
    beginReading(AT, packet.len);
    answer = read(packet);
    return 0;
  };
  new World({ now: () => 0n, random: () => 0 }).runTc({ run }, skb);
  return answer as T;
}

const found = (text: string, { first, last }: { first: number; last: number }): string =>
  text.slice(first - AT, last - AT);

const WORDS = lineWords('PASV', 'PORT', '227 ');

test.each([
  ['PASV\r\n', 0, '\r\n'],
  ['pasv\r\n', 0, '\r\n'],
  ['TYPE I\r\nPort 1\r\n', 1, ' 1\r\n'],
  ['220-PASV\r\n227 x', 2, 'x'],
  ['XPASV\r\n', NONE, ''],
  ['PAS\r\nPAS', NONE, ''],
  ['', NONE, ''],
])('the line that begins with a word is found in %j', (text, place, rest) => {
  const [answer, next] = reading(text, (skb) => [findLine(skb, WORDS), readingOf()!.at] as const);
  expect(answer).toBe(place);
  if (place !== NONE) expect(text.slice(next - AT)).toBe(rest);
});

test.each([
  ['10,2,0,11,195,83)', '10,2,0,11,195,83', 0x0a02000b, 50003],
  ['255,255,255,255,0,1\r', '255,255,255,255,0,1', 0xffffffff, 1],
])('six numbers are read from %j', (text, span, address, port) => {
  const r = reading(text, (skb) => {
    expect(readNumbers(skb)).toBe(true);
    return { ...pick(readingOf()!) };
  });
  expect(found(text, r)).toBe(span);
  expect([r.address, r.port]).toEqual([address, port]);
});

test.each([
  '10,2,0,11,195,83',
  '10,2,0,11,195',
  '10,2,0,11,195)',
  '10,2,0,256,1,1)',
  '10,2,0,0011,1,1)',
  '10,,2,0,11,1,1)',
  ' 10,2,0,11,1,1)',
  '10.2.0.11.1.1)',
  '',
])('%j are not six numbers', (text) => {
  expect(reading(text, readNumbers)).toBe(false);
});

const pick = ({ first, last, address, port, protocol }: Reading) => ({ first, last, address, port, protocol });
type Reading = NonNullable<ReturnType<typeof readingOf>>;

test.each([
  ['|||50010|)', '|||50010|', 0, 50010, ''],
  ['|1|132.235.1.2|6275|\r\n', '|1|132.235.1.2|6275|', 1, 6275, '132.235.1.2'],
  ['!2!1080::8:800:200C:417A!5282!\r\n', '!2!1080::8:800:200C:417A!5282!', 2, 5282, '1080::8:800:200C:417A'],
])('the fields of %j', (text, span, protocol, port, address) => {
  const r = reading(text, (skb) => {
    expect(readFields(skb)).toBe(true);
    const { addressAt, addressEnd } = readingOf()!;
    return { ...pick(readingOf()!), address: text.slice(addressAt - AT, addressEnd - AT) };
  });
  expect(found(text, r)).toBe(span);
  expect([r.protocol, r.port, r.address]).toEqual([protocol, port, address]);
});

test.each([
  '|||50010',
  '||||',
  '|||65536|',
  '|||x|',
  '   50010 ',
  '||1.2.3.4\r\n|5|',
  '|||50010)',
  '|1|1.2.3.4|',
  '',
])('%j has not the fields', (text) => {
  expect(reading(text, readFields)).toBe(false);
});

function address(text: string, read: (skb: Skb, into: Address6) => boolean): number[] | undefined {
  return reading(`|2|${text}|5282|`, (skb) => {
    const into = Address6.create();
    expect(readFields(skb)).toBe(true);
    return read(skb, into) ? [into.a, into.b, into.c, into.d].map((word) => ntohl(word)) : undefined;
  });
}

test.each([
  ['172.16.0.9', [0xac100009, 0, 0, 0]],
  ['0.0.0.0', [0, 0, 0, 0]],
  ['172.16.0', undefined],
  ['172.16.0.9.1', undefined],
  ['172.16.0.256', undefined],
  ['172..0.9', undefined],
  ['', undefined],
  ['::1', undefined],
])('%j as an IPv4 address', (text, words) => {
  expect(address(text, readAddress4)).toEqual(words);
});

test.each([
  ['2001:db8:c::9', [0x20010db8, 0x000c0000, 0, 9]],
  ['::', [0, 0, 0, 0]],
  ['::1', [0, 0, 0, 1]],
  ['fe80::', [0xfe800000, 0, 0, 0]],
  ['1:2:3:4:5:6:7:8', [0x00010002, 0x00030004, 0x00050006, 0x00070008]],
  ['1:2:3:4:5:6:7::', [0x00010002, 0x00030004, 0x00050006, 0x00070000]],
  ['1080::8:800:200C:417A', [0x10800000, 0, 0x00080800, 0x200c417a]],
  ['1:2:3:4:5:6:7', undefined],
  ['1:2:3:4:5:6:7:8:9', undefined],
  ['1::2::3', undefined],
  ['1:::2', undefined],
  ['12345::', undefined],
  ['1::g', undefined],
  ['::1.2.3.4', undefined],
  ['172.16.0.9', undefined],
  ['', undefined],
])('%j as an IPv6 address', (text, words) => {
  expect(address(text, readAddress6)).toEqual(words);
});

test('reading up to a character stays within the line', () => {
  expect(reading('Mode (1', (skb) => [readUpTo(skb, 40), readingOf()!.at - AT])).toEqual([true, 6]);
  expect(reading('Mode 12', (skb) => [readUpTo(skb, 0), readingOf()!.at - AT])).toEqual([true, 5]);
  expect(reading('Mode\r\n(1', (skb) => [readUpTo(skb, 40), readingOf()!.at - AT])).toEqual([false, 0]);
});
