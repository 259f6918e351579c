import { NodeSkb, World } from '@ipvsd/bpf';
import { expect, test } from 'vitest';
import { readCallId } from './call-id.ts';
import { EngineKey } from './engine.ts';

const CASES: readonly (readonly [message: string, callId: string | null])[] = [
  ['INVITE sip:x SIP/2.0\r\nCall-ID: abc@host\r\n\r\n', 'abc@host'],
  ['INVITE sip:x SIP/2.0\r\ni: abc\r\n\r\n', 'abc'],
  ['INVITE sip:x SIP/2.0\nVia: x\nCALL-id\t : \t a84b4c76e66710@pc33.example.com\n', 'a84b4c76e66710@pc33.example.com'],
  [`x\r\nI:${'y'.repeat(255)}\r\n`, 'y'.repeat(255)],
  [`x\r\nI:${'y'.repeat(256)}\r\n`, null],
  // In the first line, inside a line, and as the end or the beginning of another name it is no header.
  ['Call-ID: a\r\n\r\n', null],
  ['x\r\nVia: Call-ID: a\r\n\r\n', null],
  ['x\r\nX-Call-ID: a\r\nCall-IDs: b\r\nid: c\r\n\r\n', null],
  ['x\r\nCall-ID2: a\r\nCall-ID: b\r\n\r\n', 'b'],
  ['x\r\nCall-ID: a@b@c\r\n\r\n', null],
  ['x\r\nCall-ID: a@\r\n\r\n', null],
  ['x\r\nCall-ID: a b\r\n\r\n', null],
  ['x\r\nCall-ID:\r\n\r\n', null],
  ['x\r\nCall-ID: a', null],
  ['x\r\nCall-ID: a;b\r\n', null],
  ['x\r\nCall-ID: (a)[b]{c}<d>"e"/f:g?h\\i\'j`k~l+m_n*o%p!q.r-s\r\n', '(a)[b]{c}<d>"e"/f:g?h\\i\'j`k~l+m_n*o%p!q.r-s'],
  ['', null],
];

test.each(CASES)('the Call-ID of %j is %j', (message, callId) => {
  const bytes = new TextEncoder().encode(message);
  const skb = new NodeSkb(Uint8Array.from([...new Uint8Array(50), ...bytes]));
  const key = EngineKey.create();
  const found = new World({ now: () => 0n, random: () => 0 }).run(() => readCallId(skb, 50, bytes.length, key));
  const data = Array.from({ length: key.length }, (_, i) => String.fromCharCode(key.data.get(i))).join('');
  expect(found ? data : null).toBe(callId);
});
