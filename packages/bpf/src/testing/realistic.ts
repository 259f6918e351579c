/**
 * The path of a packet of an established NAT connection, as lowering would write it: every header fetched anew and tested
 * for null, keys zeroed and then filled, results of inlined functions passed through registers.
 */
import type { IrModule } from '../compiler/ir.ts';
import { FunctionBuilder, irMap, moduleOf, type Value } from './ir-builder.ts';

const MAP_LOOKUP = 1;
const L3_CSUM_REPLACE = 10;
const L4_CSUM_REPLACE = 11;
const REDIRECT_NEIGH = 152;
const KTIME_COARSE = 160;
const PSEUDO_HEADER = 0x10;

export const REALISTIC_MAPS = [
  irMap({ name: 'connections', type: 'hash', maxEntries: 1024, keySize: 16, valueSize: 40 }),
  irMap({ name: 'servers', type: 'array', maxEntries: 64, keySize: 4, valueSize: 32 }),
  irMap({ name: 'settings', type: 'array', maxEntries: 1, keySize: 4, valueSize: 16 }),
];

export function realistic(): IrModule {
  const f = new FunctionBuilder('nat');
  const context = f.params[0]!;
  const leave = f.block();

  /** `skb.header(S, offset)`: the pointer or 0 in a register, then tested. */
  const header = (offset: Value, size: bigint): number => {
    const data = f.load(4, { reg: context }, 76);
    const end = f.load(4, { reg: context }, 80);
    const start = f.binary('add', data, offset);
    const limit = f.binary('add', start, size);
    const result = f.register();
    const [bad, good, join, next] = [f.block(), f.block(), f.block(), f.block()];
    f.if('gt', limit, end, bad, good);
    f.at(bad).const(0n, result);
    f.goto(join);
    f.at(good).move(start, result);
    f.goto(join);
    f.at(join);
    const view = f.move(result);
    f.if('eq', view, 0n, leave, next);
    f.at(next);
    return view;
  };
  const must = (condition: 'eq' | 'ne' | 'gt' | 'le' | 'set', a: Value, b: Value, width: 32 | 64 = 32): void => {
    const next = f.block();
    f.if(condition, a, b, next, leave, width);
    f.at(next);
  };

  const eth = header(0n, 14n);
  must('eq', f.load(2, { reg: eth }, 12), 0x0008n);
  const ip = header(14n, 20n);
  const versionIhl = f.load(1, { reg: ip }, 0);
  const ihl = f.binary('and', f.move(versionIhl), 15n, 32);
  const length = f.extend(f.binary('mul', ihl, 4n), 32);
  must('eq', f.binary('shr', versionIhl, 4n, 32), 4n);
  must('gt', length, 19n);
  must('eq', f.load(1, { reg: ip }, 9), 6n);
  const fragment = f.swap(f.load(2, { reg: ip }, 6), 16);
  must('eq', f.binary('and', fragment, 0x3fffn, 32), 0n);
  const transport = f.binary('add', length, 14n);
  const tcp = header(transport, 20n);

  // The key: zeroed, then filled.
  const key = f.slot(16, true);
  f.store(8, { slot: key }, 0, 0n);
  f.store(8, { slot: key }, 8, 0n);
  f.store(4, { slot: key }, 0, f.load(4, { reg: ip }, 12));
  f.store(4, { slot: key }, 4, f.load(4, { reg: ip }, 16));
  f.store(2, { slot: key }, 8, f.load(2, { reg: tcp }, 0));
  f.store(2, { slot: key }, 10, f.load(2, { reg: tcp }, 2));
  f.store(1, { slot: key }, 12, f.load(1, { reg: ip }, 9));
  const connection = f.register();
  const map = f.mapAddress('connections');
  const pointer = f.slotAddress(key);
  f.call(MAP_LOOKUP, [map, pointer], connection);
  must('ne', connection, 0n, 64);

  // The real server of the connection.
  const index = f.slot(4, true);
  f.store(4, { slot: index }, 0, f.load(4, { reg: connection }, 16));
  const server = f.call(MAP_LOOKUP, [f.mapAddress('servers'), f.slotAddress(index)]);
  const found = f.block();
  f.if('eq', server, 0n, leave, found);
  f.at(found);
  const flags = f.load(4, { reg: server }, 8);
  const up = f.register();
  const [yes, no, tested] = [f.block(), f.block(), f.block()];
  f.if('ne', f.binary('and', flags, 1n, 32), 0n, yes, no, 32);
  f.at(yes).const(1n, up);
  f.goto(tested);
  f.at(no).const(0n, up);
  f.goto(tested);
  f.at(tested);
  must('ne', up, 0n);

  // Last seen, packets and bytes.
  const now = f.call(KTIME_COARSE, []);
  f.store(8, { reg: connection }, 0, now);
  f.add({ op: 'atomic', kind: 'add', size: 8, base: { reg: connection }, offset: 24, src: { imm: 1n } });
  const bytes = f.load(4, { reg: context }, 0);
  f.add({ op: 'atomic', kind: 'add', size: 8, base: { reg: connection }, offset: 32, src: { reg: bytes } });
  const single = f.mapValueAddress('settings');
  f.add({ op: 'atomic', kind: 'add', size: 8, base: { reg: single }, offset: 8, src: { imm: 1n } });

  // Destination address and port become the real server's.
  const oldAddress = f.load(4, { reg: ip }, 16);
  const oldPort = f.load(2, { reg: tcp }, 2);
  const newAddress = f.load(4, { reg: server }, 0);
  const newPort = f.load(2, { reg: server }, 4);
  f.store(4, { reg: ip }, 16, newAddress);
  f.store(2, { reg: tcp }, 2, newPort);
  const checksum = f.binary('add', transport, 16n);
  f.call(L4_CSUM_REPLACE, [context, checksum, oldAddress, newAddress, BigInt(PSEUDO_HEADER | 4)]);
  f.call(L4_CSUM_REPLACE, [context, checksum, f.move(oldPort), newPort, 2n]);
  f.call(L3_CSUM_REPLACE, [context, 24n, oldAddress, newAddress, 4n]);

  const hop = f.slot(20, true);
  for (const offset of [0, 8]) f.store(8, { slot: hop }, offset, 0n);
  f.store(4, { slot: hop }, 16, 0n);
  f.store(4, { slot: hop }, 0, 2n);
  f.store(4, { slot: hop }, 4, newAddress);
  const verdict = f.call(REDIRECT_NEIGH, [f.load(4, { reg: server }, 12), f.slotAddress(hop), 20n, 0n]);
  f.return(f.extend(verdict, 32, true));
  f.at(leave).return(0n);
  return moduleOf([f], REALISTIC_MAPS);
}
