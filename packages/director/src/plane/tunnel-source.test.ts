import { answerOnLink, BPF_FIB_LOOKUP_SRC, bytesOf, NodeSkb, TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { AF_INET, OwnAddress, OwnAddressKey, ownAddresses, parseFrame, tcpFrame } from '@ipvsd/ipvs';
import { parseIp } from '@ipvsd/linux';
import { expect, test } from 'vitest';
import { NodeBench, serverSettings, serviceSettings, tcpService, VIP } from '../testing/node-bench.ts';

const OUT = 2;
/** BPF_FIB_LOOKUP_SRC is a flag of Linux 6.7: before, its answer is EINVAL. */
const EINVAL = -22;

function send(bench: NodeBench): { verdict: number; frame: Uint8Array } {
  const ends = { source: '192.0.2.1', sourcePort: 4000, destination: VIP, destinationPort: 80 };
  const skb = new NodeSkb(tcpFrame({ ...ends, flags: 'S' }));
  return { verdict: bench.plane.receive(skb), frame: skb.bytes };
}

test('a tunnel begins at the address of its interface where the kernel does not say which', () => {
  const bench = new NodeBench(undefined, undefined, (parameters, flags) =>
    (flags & BPF_FIB_LOOKUP_SRC) === 0 ? answerOnLink(parameters, OUT) : EINVAL,
  );
  bench.execute(
    { kind: 'addService', service: tcpService, settings: serviceSettings('rr') },
    {
      kind: 'addServer',
      service: tcpService,
      server: { address: '10.2.0.1', port: 80 },
      settings: serverSettings(1, { forwarding: 'tunnel' }),
    },
  );
  expect(send(bench).verdict).toBe(TC_ACT_SHOT);
  const own = bytesOf(OwnAddress.create());
  own.set(parseIp('10.2.0.9'));
  bench.plane.store(ownAddresses).update(bytesOf(OwnAddressKey.create({ ifindex: OUT, family: AF_INET })), own);
  const { verdict, frame } = send(bench);
  expect(verdict).toBe(TC_ACT_REDIRECT);
  const { source, destination, protocol } = parseFrame(frame);
  expect([source, destination, protocol]).toEqual(['10.2.0.9', '10.2.0.1', 4]);
});
