import { NodeSkb, type Skb, World } from '@ipvsd/bpf';
import { describe, expect, test } from 'vitest';
import { IPV4, IPV6 } from '../family.ts';
import { parseFrame, tcpFrame } from '../frame/frame.ts';
import { beginLine, lineLength, replaceText, writeCharacter, writeNumber } from './writing.ts';

describe.each([
  ['IPv4', IPV4, '10.2.0.11', '172.16.0.9'],
  ['IPv6', IPV6, '2001:db8:2::11', '2001:db8:c::9'],
])('over %s', (_name, family, source, destination) => {
  test.each([
    ['227 (10,2,0,11,1,2).\r\n', '10,2,0,11', '203,0,113,100'],
    ['227 (10,2,0,11,1,2)\r\n', '10,2,0,11', '9'],
    ['227 (10,2,0,11,1,2)\r\n', '(10,2,0,11,1,2)\r\n', ''],
    ['odd (1,2,3,4) and more that follows, many words of it\r\n', '1,2,3,4', '111,222,222,111'],
    ['(1,2,3,4)', '1,2,3,4', '4,3,2,1'],
  ])('in %j %j becomes %j, all else is as it was', (text, old, next) => {
    const frame = tcpFrame({
      source,
      destination,
      sourcePort: 21,
      destinationPort: 40_000,
      flags: 'PA',
      payload: Buffer.from(text),
    });
    // Short frames are filled up on the wire; the filling is no payload.
    for (const filling of [0, 6]) {
      const skb = new NodeSkb(Uint8Array.from([...frame, ...new Uint8Array(filling).fill(0xee)]));
      const payload = frame.length - text.length;
      const run = (packet: Skb): number => {
        beginLine();
        for (const character of Buffer.from(next)) writeCharacter(character);
        const at = payload + text.indexOf(old);
        expect(replaceText(packet, family, payload - 20, at, old.length)).toBe(true);
        return 0;
      };
      new World({ now: () => 0n, random: () => 0 }).runTc({ run }, skb);
      const parsed = parseFrame(skb.bytes);
      expect(Buffer.from(parsed.payload).toString()).toBe(text.replace(old, next));
      expect(parsed).toMatchObject({ source, destination, sourcePort: 21, flags: 'PA', valid: true });
    }
  });
});

test.each([0, 7, 10, 255, 50_003, 4_294_967_295])('%i is written in decimal', (number) => {
  const skb = new NodeSkb(
    tcpFrame({
      source: '10.0.0.1',
      destination: '10.0.0.2',
      sourcePort: 1,
      destinationPort: 2,
      flags: 'A',
      payload: Buffer.from('x'),
    }),
  );
  const run = (packet: Skb): number => {
    beginLine();
    writeNumber(number);
    expect(lineLength()).toBe(String(number).length);
    replaceText(packet, IPV4, 34, 54, 1);
    return 0;
  };
  new World({ now: () => 0n, random: () => 0 }).runTc({ run }, skb);
  expect(Buffer.from(parseFrame(skb.bytes).payload).toString()).toBe(String(number));
});
