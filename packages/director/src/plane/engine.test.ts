import { type MapDefinition, NodeSkb, TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { engineData, engineFlows, engineServers, type ParsedFrame, parseFrame, udpFrame } from '@ipvsd/ipvs';
import { beforeEach, expect, test } from 'vitest';
import type { ServiceId } from '../model.ts';
import { NodeBench, serverSettings, serviceSettings, VIP } from '../testing/node-bench.ts';

const service: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'udp', address: VIP, port: 5060 };
const SIP = { persistence: { timeoutSeconds: 60, netmask: 0xffff_ffff }, persistenceEngine: 'sip' };
const CLIENT = '192.0.2.9';

let bench: NodeBench;
beforeEach(() => {
  bench = new NodeBench();
  begin();
});

function begin(more = {}): void {
  bench.execute({ kind: 'addService', service, settings: serviceSettings('rr', { ...SIP, ...more }) });
  for (const host of [1, 2, 3]) {
    const server = { address: `10.2.0.${host}`, port: 5060 };
    bench.execute({ kind: 'addServer', service, server, settings: serverSettings() });
  }
}

const message = (callId: string | null): Uint8Array =>
  new TextEncoder().encode(`INVITE sip:x SIP/2.0\r\n${callId === null ? '' : `Call-ID: ${callId}\r\n`}\r\n`);

function send(
  source: string,
  sourcePort: number,
  destination: string,
  callId: string | null,
): NodeSkb & { verdict: number } {
  const frame = udpFrame({ source, sourcePort, destination, destinationPort: 5060, payload: message(callId) });
  const skb = new NodeSkb(frame);
  return Object.assign(skb, { verdict: bench.plane.receive(skb) });
}

/** Where a client's message goes. */
function toServer(sourcePort: number, callId: string | null, client = CLIENT): string | undefined {
  const { verdict, bytes } = send(client, sourcePort, VIP, callId);
  return verdict === TC_ACT_REDIRECT ? parseFrame(bytes).destination : undefined;
}

function toClient(host: number, callId: string | null): ParsedFrame | undefined {
  const { verdict, bytes } = send(`10.2.0.${host}`, 5060, CLIENT, callId);
  return verdict === TC_ACT_REDIRECT ? parseFrame(bytes) : undefined;
}

const stored = (map: MapDefinition): number => [...bench.plane.store(map).entries()].length;

test('a call stays with its real server, whichever port it comes from', () => {
  const first = toServer(1000, 'one@here');
  expect(toServer(1001, 'two@here')).not.toBe(first);
  expect(toServer(1002, 'one@here')).toBe(first);
  const templates = [...bench.director.connections()].filter(({ client }) => client.port === 0);
  expect(templates.map(({ persistenceEngine, persistenceData }) => [persistenceEngine, persistenceData])).toEqual([
    ['sip', 'one@here'],
    ['sip', 'two@here'],
  ]);
});

test('a call of another client is another one', () => {
  expect(toServer(1000, 'one')).not.toBe(toServer(1000, 'one', '192.0.2.10'));
});

test('a message without a Call-ID is dropped, unless its connection is known', () => {
  expect(send(CLIENT, 1000, VIP, null).verdict).toBe(TC_ACT_SHOT);
  const first = toServer(1000, 'one');
  expect(toServer(1000, null)).toBe(first);
});

test('a template is forgotten with all that it remembers', () => {
  toServer(1000, 'one');
  bench.pass(400);
  expect([...bench.director.connections()]).toEqual([]);
  expect([stored(engineFlows), stored(engineData)]).toEqual([0, 0]);
});

test('one-packet messages of a call go to one real server and leave only its template', () => {
  bench.execute({ kind: 'editService', service, settings: serviceSettings('rr', { ...SIP, onePacket: true }) });
  const first = toServer(1000, 'one');
  expect([toServer(1000, 'one'), toServer(1001, 'one')]).toEqual([first, first]);
  expect([...bench.director.connections()].map(({ client }) => client.port)).toEqual([0]);
});

test('a real server calls a client, whose answers come to that real server', () => {
  const usual = toServer(5060, 'register@phone');
  const caller = ['10.2.0.1', '10.2.0.2', '10.2.0.3'].findIndex((address) => address !== usual) + 1;
  expect(toClient(caller, 'call@server')).toMatchObject({
    source: VIP,
    sourcePort: 5060,
    destination: CLIENT,
    valid: true,
  });
  expect(toServer(5060, 'call@server')).toBe(`10.2.0.${caller}`);
  expect(toServer(6000, 'call@server')).toBe(`10.2.0.${caller}`);
  // What the other real server still sends comes from the virtual service as before.
  expect(toClient(Number(usual!.at(-1)), 'register@phone')).toMatchObject({ source: VIP });
  bench.pass(400);
  expect([...bench.director.connections()]).toEqual([]);
});

test('what a real server sends that is no SIP message, or behind DR, is the host’s', () => {
  expect(toClient(1, null)).toBeUndefined();
  const server = { address: '10.2.0.1', port: 5060 };
  bench.execute({ kind: 'editServer', service, server, settings: serverSettings(1, { forwarding: 'route' }) });
  expect(toClient(1, 'call')).toBeUndefined();
  bench.execute({ kind: 'deleteService', service });
  expect(stored(engineServers)).toBe(0);
});
