/** How often the kernel is asked for a route, and that what it says next is heard. */
import { answerOnLink, FibLookup, raw, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { tcpFrame } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import { NodeBench, serverSettings, serviceSettings, tcpService, VIP } from '../testing/node-bench.ts';

const REAL = '10.2.0.1';
const CLIENT = '192.0.2.1';
const OTHER = '192.0.2.7';
/** A code of bpf_fib_lookup: not forwarded. */
const NOT_FOUND = 4;

/** Last bytes of the addresses that were asked for, beginning with 192. */
let asked: number[];
let reachable: boolean;
let bench: NodeBench;

beforeEach(() => {
  asked = [];
  reachable = true;
  bench = new NodeBench(undefined, undefined, (parameters) => {
    const destination = raw(FibLookup.on(parameters).destination.get(0));
    if ((destination & 255) !== 192) return answerOnLink(parameters, 2);
    asked.push(destination >>> 24);
    return reachable ? answerOnLink(parameters, 2) : NOT_FOUND;
  });
  const server = { address: REAL, port: 80 };
  bench.execute(
    { kind: 'addService', service: tcpService, settings: serviceSettings('rr') },
    { kind: 'addServer', service: tcpService, server, settings: serverSettings() },
  );
});

/** Whether the client hears of the real server. */
function open(client: string, port: number): boolean {
  bench.receive(tcpFrame({ source: client, destination: VIP, sourcePort: port, destinationPort: 80, flags: 'S' }));
  const answer = tcpFrame({ source: REAL, destination: client, sourcePort: 80, destinationPort: port, flags: 'SA' });
  return bench.receive(answer).verdict === TC_ACT_REDIRECT;
}

describe('the route to a client', () => {
  test('is asked once for all connections that it opens in a second, and again in the next', () => {
    for (let port = 1001; port <= 1020; port++) expect(open(CLIENT, port)).toBe(true);
    expect(open(OTHER, 1)).toBe(true);
    expect(asked).toEqual([1, 7]);
    bench.pass(2);
    for (let port = 1021; port <= 1040; port++) expect(open(CLIENT, port)).toBe(true);
    expect(asked).toEqual([1, 7, 1]);
  });

  test('that is gone is missed in the next second, and found at once when it is there again', () => {
    open(CLIENT, 1);
    reachable = false;
    bench.pass(2);
    expect(open(CLIENT, 2)).toBe(false);
    expect(open(CLIENT, 3)).toBe(false);
    reachable = true;
    expect(open(CLIENT, 4)).toBe(true);
    expect(asked).toEqual([1, 1, 1, 1]);
  });

  test('is as old as its answer, not as the connection that has it from another', () => {
    open(CLIENT, 1);
    bench.now += 600_000_000n;
    open(CLIENT, 2);
    bench.now += 600_000_000n;
    bench.reply(REAL, 80, CLIENT, 2, 'A');
    expect(asked).toEqual([1, 1]);
  });
});
