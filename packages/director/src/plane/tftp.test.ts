/** TFTP through the data plane in Node: the real server answers from a port of its own choice. */
import { answerOnLink, NodeSkb, TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { MAX_CONNECTIONS, parseFrame, udpFrame } from '@ipvsd/ipvs';
import { expect, test } from 'vitest';
import { plainTunnel, type ServiceId } from '../model.ts';
import { MapDirector } from './map-director.ts';
import { NodePlane } from './node-plane.ts';

const CLIENT = '172.16.0.9';
const VIP = '10.1.0.100';
const REAL = '10.2.0.11';
const LOCAL = '10.2.0.1';
const READ = Buffer.from('\0\x01name\0octet\0');
const service: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'udp', address: VIP, port: 69 };

function site(forwarding: 'masq' | 'fullnat', ports: string) {
  const plane = new NodePlane({
    now: () => 10n ** 12n,
    random: () => 4,
    route: (parameters) => answerOnLink(parameters, 2),
  });
  const director = new MapDirector(plane);
  director.writeSettings(undefined, MAX_CONNECTIONS);
  director.execute({ kind: 'setSysctl', name: 'tftp_ports', value: ports });
  director.execute({
    kind: 'addService',
    service,
    settings: { scheduler: 'rr', schedulerFlags: 0, persistence: null, persistenceEngine: null, onePacket: false },
  });
  if (forwarding === 'fullnat') director.execute({ kind: 'addLocalAddress', service, address: LOCAL });
  director.execute({
    kind: 'addServer',
    service,
    server: { address: REAL, port: 6900 },
    settings: { forwarding, weight: 1, upperThreshold: 0, lowerThreshold: 0, tunnel: plainTunnel },
  });
  const send = (from: readonly [string, number], to: readonly [string, number], payload: Uint8Array) => {
    const skb = new NodeSkb(
      udpFrame({ source: from[0], sourcePort: from[1], destination: to[0], destinationPort: to[1], payload }),
    );
    const verdict = plane.receive(skb);
    return { verdict, parsed: parseFrame(skb.bytes) };
  };
  return { director, send };
}

test.each([
  'masq',
  'fullnat',
] as const)('a transfer comes from the virtual service, whatever port it is on (%s)', (how) => {
  const { send } = site(how, '69');
  const asked = send([CLIENT, 40_000], [VIP, 69], READ);
  expect(asked.parsed).toMatchObject({ destination: REAL, destinationPort: 6900 });
  const seen = [asked.parsed.source, asked.parsed.sourcePort] as const;
  // The same again, as the first was lost.
  expect(send([CLIENT, 40_000], [VIP, 69], READ).verdict).toBe(TC_ACT_REDIRECT);
  const data = send([REAL, 51_234], seen, Buffer.from('\0\x03\0\x01text'));
  expect(data).toMatchObject({
    verdict: TC_ACT_REDIRECT,
    parsed: { source: VIP, sourcePort: 51_234, destination: CLIENT, destinationPort: 40_000, valid: true },
  });
  const acknowledged = send([CLIENT, 40_000], [VIP, 51_234], Buffer.from('\0\x04\0\x01'));
  expect(acknowledged.parsed).toMatchObject({
    source: seen[0],
    sourcePort: seen[1],
    destination: REAL,
    destinationPort: 51_234,
    valid: true,
  });
  // It was for one transfer.
  expect(send([REAL, 51_235], seen, Buffer.from('\0\x03\0\x01text')).verdict).toBe(TC_ACT_UNSPEC);
});

test('without the setting, and after what is no request, nothing is expected', () => {
  for (const [ports, payload] of [
    ['none', READ],
    ['69', Buffer.from('\0\x05\0\x01')],
    ['69', Buffer.from('\0')],
  ] as const) {
    const { send } = site('masq', ports);
    send([CLIENT, 40_000], [VIP, 69], payload);
    expect(send([REAL, 51_234], [CLIENT, 40_000], Buffer.from('\0\x03\0\x01text')).verdict).toBe(TC_ACT_UNSPEC);
  }
});
