import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addressBytes, addressKind, expandIPv6, formatAddress, ipv4Number, parseAddress } from './address.ts';

describe('parseAddress', () => {
  test.each([
    ['192.0.2.10', '192.0.2.10'],
    ['2001:DB8:0:0:2::12', '2001:db8::2:0:0:12'],
    ['::', '::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::ffff:1.2.3.4', '::ffff:1.2.3.4'],
    ['::ffff:102:304', '::ffff:1.2.3.4'],
    ['::1.2.3.4', '::1.2.3.4'],
    ['2001:db8::', '2001:db8::'],
  ])('reads %s as %s', (text, canonical) => {
    expect(parseAddress(text)).toBe(canonical);
  });

  test.each([
    '',
    '1.2.3',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4 ',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8',
    'fe80::1%lo',
    '2001:db8::zz',
    '12345::',
    '1.2.3.4::',
    '::1.2.3',
  ])('refuses "%s"', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  test('what is formatted is read back as the same bytes, and Node agrees that it is an address', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.array(fc.constantFrom(0, 1, 255), { minLength: 16, maxLength: 16 }).map((all) => Uint8Array.from(all)),
    );
    fc.assert(
      fc.property(bytes, (bytes) => {
        const text = formatAddress(bytes);
        expect(isIPv6(text)).toBe(true);
        expect(addressBytes(text)).toEqual(bytes);
        expect(parseAddress(text)).toBe(text);
      }),
    );
  });
});

test('only unicast addresses are of kind unicast', () => {
  const kinds = [
    '10.2.0.11',
    '0.0.0.0',
    '255.255.255.255',
    '224.0.0.5',
    '::1',
    '::',
    'ff02::1',
    'fe80::1',
    '::ffff:1.2.3.4',
  ];
  expect(kinds.map(addressKind)).toEqual([
    'unicast',
    'unspecified',
    'broadcast',
    'multicast',
    'unicast',
    'unspecified',
    'multicast',
    'link-local',
    'mapped',
  ]);
});

test('the spellings of /proc: a host-order number, eight groups of four digits', () => {
  expect(ipv4Number('192.0.2.10')).toBe(0xc000020a);
  expect(expandIPv6('2001:db8::10')).toBe('2001:0db8:0000:0000:0000:0000:0000:0010');
});
