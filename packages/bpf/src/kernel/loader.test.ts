import { readdirSync, rmSync } from 'node:fs';
import {
  createNamespace,
  deleteNamespace,
  mountBpfFileSystem,
  PacketSocket,
  RouteSocket,
  unmountBpfFileSystem,
} from '@ipvsd/linux';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  alu32,
  alu64,
  atomic,
  call,
  callFunction,
  disassemble,
  exit,
  helperNumber,
  type Insn,
  jump,
  jump32,
  jump64,
  ldFunction,
  ldImm64,
  ldMap,
  ldMapValue,
  ldx,
  ldxSigned,
  mov32,
  mov64,
  neg32,
  neg64,
  st,
  stx,
  toBigEndian,
  toLittleEndian,
} from '../assembler/index.ts';
import { describeKernel, uniqueName } from '../testing/kernel.ts';
import { collection, mapSpec } from '../testing/programs.ts';
import { BtfBuilder } from './btf.ts';
import { loadCollection } from './collection.ts';
import { FEATURE_NAMES, featureSince, hasFeature, MissingFeatureError, requireFeatures } from './features.ts';
import { attachedPrograms, attachTc, attachXdp, openTcAttachment, type TcMechanism } from './link.ts';
import { KernelMap } from './map.ts';
import { KernelProgram, readSkbContext, skbContext } from './program.ts';
import { RingBuffer } from './ring-buffer.ts';
import { VerifierError } from './verifier-error.ts';

const FRAME = new Uint8Array(64).fill(0xaa);
const MARK = 8;
const TC_ACT_OK = 0;
const TC_ACT_SHOT = 2;

function u32(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

function number(bytes: Uint8Array | null | undefined): number | undefined {
  return bytes == null ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

function helper(name: string): Insn {
  return call(helperNumber(name)!);
}

/** Counts in the one value of map `count` and returns `verdict`. */
function counting(verdict: number, step = 1): readonly Insn[] {
  return [...ldMapValue(1), mov64(2, step), atomic('add', 4, 1, 0, 2), mov64(0, verdict), exit()];
}

const COUNT = mapSpec({ name: 'count', type: 'array' });
const COUNT_RELOCATION = { kind: 'mapValue', instruction: 0, map: 'count', offset: 0 } as const;

describeKernel('programs in the kernel', () => {
  test('a program runs on test data: return value, packet and context come back', () => {
    const loaded = loadCollection(
      collection([
        {
          insns: [
            // mark += 5; first byte of the packet = 0x11
            mov64(6, { reg: 1 }),
            ldx(4, 0, 6, MARK),
            alu64('add', 0, 5),
            stx(4, 6, MARK, 0),
            ldx(4, 2, 6, 76),
            ldx(4, 3, 6, 80),
            mov64(4, { reg: 2 }),
            alu64('add', 4, 14),
            jump64('gt', 4, { reg: 3 }, 1),
            st(1, 2, 0, 0x11),
            mov64(0, 42),
            exit(),
          ],
        },
      ]),
    );
    const result = loaded.program('test').testRun({ data: FRAME, context: skbContext({ mark: 2 }) });
    expect(result.retval).toBe(42);
    expect(result.data).toEqual(Uint8Array.of(0x11, ...FRAME.subarray(1)));
    expect(readSkbContext(result.context).mark).toBe(7);
    expect(loaded.program('test').testRun({ data: FRAME, repeat: 100 }).durationNs).toBeGreaterThanOrEqual(0);
    expect(loaded.program('test').info()).toMatchObject({ name: 'test', type: 'tc' });
    loaded.close();
  });

  test('map relocations are filled in, for pointers and for values', () => {
    const spec = collection(
      [
        {
          insns: [
            // table[7] = 9 by helper; count += 1 by value
            st(4, 10, -4, 7),
            st(4, 10, -8, 9),
            ...ldMap(1),
            mov64(2, { reg: 10 }),
            alu64('add', 2, -4),
            mov64(3, { reg: 10 }),
            alu64('add', 3, -8),
            mov64(4, 0),
            helper('map_update_elem'),
            ...counting(TC_ACT_OK),
          ],
          relocations: [
            { kind: 'map', instruction: 2, map: 'table' },
            { kind: 'mapValue', instruction: 10, map: 'count', offset: 4 },
          ],
        },
      ],
      [mapSpec({ name: 'table', type: 'hash', maxEntries: 10 }), { ...COUNT, valueSize: 8 }],
    );
    const loaded = loadCollection(spec, { maxEntries: { table: 3 } });
    loaded.program('test').testRun({ data: FRAME });
    loaded.program('test').testRun({ data: FRAME });
    expect(number(loaded.map('table').lookup(u32(7)))).toBe(9);
    expect(loaded.map('table').info().maxEntries).toBe(3);
    expect(loaded.map('count').lookup(u32(0))).toEqual(u32(0, 2));
    expect([...loaded.program('test').info().mapIds].sort()).toEqual(
      [loaded.map('table').info().id, loaded.map('count').info().id].sort(),
    );
    expect(() => loaded.map('nothing')).toThrow('Cannot find map "nothing": there are table, count');
    loaded.close();
  });

  test('a syscall program answers in its context', () => {
    const loaded = loadCollection(
      collection([
        {
          type: 'syscall',
          insns: [ldx(4, 0, 1, 0), alu64('mul', 0, 3), stx(4, 1, 4, 0), mov64(0, 1), exit()],
        },
      ]),
    );
    const result = loaded.program('test').testRun({ context: u32(14, 0) });
    expect(result.retval).toBe(1);
    expect(result.context).toEqual(u32(14, 42));
    loaded.close();
  });

  test('a tail call reaches the program set in a program array', () => {
    const loaded = loadCollection(
      collection(
        [
          {
            name: 'first',
            insns: [...ldMap(2), mov64(3, 1), helper('tail_call'), mov64(0, 1), exit()],
            relocations: [{ kind: 'map', instruction: 0, map: 'stages' }],
          },
          { name: 'second', insns: [mov64(0, 2), exit()] },
        ],
        [mapSpec({ name: 'stages', type: 'progArray', maxEntries: 2 })],
      ),
    );
    expect(loaded.program('first').testRun({ data: FRAME }).retval).toBe(1);
    loaded.map('stages').setProgram(1, loaded.program('second'));
    expect(loaded.program('first').testRun({ data: FRAME }).retval).toBe(2);
    loaded.close();
  });

  test('a function without a line of its own takes the next', () => {
    const spec = collection(
      [
        {
          insns: [callFunction(1), exit(), mov64(0, 3), exit()],
          functions: { sub: 2 },
          lines: [{ instruction: 1, file: 0, line: 1, column: 1 }],
        },
      ],
      [],
      [{ path: 'a.ts', text: 'return sub();' }],
    );
    const loaded = loadCollection(spec);
    expect(loaded.program('test').testRun({ data: FRAME }).retval).toBe(3);
    loaded.close();
  });

  test('the disassembler writes what the verifier writes', () => {
    const insns = [
      mov64(6, { reg: 1 }),
      st(8, 10, -8, 3),
      st(1, 10, -9, 3),
      mov32(2, -1),
      stx(2, 10, -12, 2),
      atomic('add', 8, 10, -8, 2),
      atomic('and', 8, 10, -8, 2, true),
      atomic('xor', 4, 10, -8, 2),
      atomic('exchange', 4, 10, -4, 2),
      mov64(0, 5),
      atomic('compareExchange', 8, 10, -8, 2),
      ldx(8, 3, 10, -8),
      ldx(4, 4, 6, MARK),
      ldxSigned(2, 5, 10, -8),
      ldxSigned(4, 5, 10, -8),
      alu32('add', 3, { reg: 4 }),
      alu64('sar', 3, 7),
      alu64('div', 3, 3),
      alu32('mod', 3, 3),
      alu64('or', 3, { reg: 4 }),
      neg64(3),
      neg32(3),
      toBigEndian(3, 16),
      toLittleEndian(3, 32),
      { ...mov64(3, { reg: 4 }), offset: 8 },
      { ...mov32(3, { reg: 4 }), offset: 16 },
      { ...alu64('div', 3, 3), offset: 1 },
      { ...toLittleEndian(3, 64), opcode: 0xd7 },
      ...ldImm64(7, 0x1234_5678_9abcn),
      jump64('ne', 3, { reg: 4 }, 0),
      jump32('slt', 3, -5, 0),
      jump64('set', 3, 8, 0),
      jump64('gt', 4, -1, 0),
      jump(0),
      helper('ktime_get_coarse_ns'),
      callFunction(2),
      mov64(0, 0),
      exit(),
      mov64(0, 1),
      exit(),
    ];
    const loaded = loadCollection(collection([{ insns, functions: { sub: 39 } }]), { log: 2 });
    const texts = [...loaded.program('test').log.matchAll(/^(\d+): (\([0-9a-f]{2}\) .*?)(?:\s*;.*|\s*)$/gm)];
    const verifier = new Map(texts.map(([, slot, text]) => [Number(slot), text]));
    for (const line of disassemble(insns).split('\n')) {
      const [slot, text] = [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)];
      expect(verifier.get(Number(slot))?.replace(/ \d+: .*$/, ''), line).toBe(text);
    }
    loaded.close();
  });

  test('a callback is called by bpf_loop', () => {
    const loaded = loadCollection(
      collection([
        {
          insns: [
            st(8, 10, -8, 0),
            mov64(1, 10),
            ...ldFunction(2, 7),
            mov64(3, { reg: 10 }),
            alu64('add', 3, -8),
            mov64(4, 0),
            helper('loop'),
            ldx(8, 0, 10, -8),
            exit(),
            // callback(index, context): context += index
            ldx(8, 3, 2, 0),
            alu64('add', 3, { reg: 1 }),
            stx(8, 2, 0, 3),
            mov64(0, 0),
            exit(),
          ],
          functions: { each: 10 },
        },
      ]),
    );
    expect(loaded.program('test').testRun({ data: FRAME }).retval).toBe(45);
    loaded.close();
  });

  test('a timer in a map value fires, by the BTF of its struct', async () => {
    const btf = new BtfBuilder();
    const key = btf.scalar('u32');
    const value = btf.struct('Entry', 24, [
      { name: 'fired', type: btf.scalar('u64'), offset: 0 },
      { name: 'timer', type: btf.timer(), offset: 8 },
    ]);
    const entries = mapSpec({
      name: 'entries',
      type: 'hash',
      maxEntries: 8,
      valueSize: 24,
      keyTypeId: key,
      valueTypeId: value,
    });
    const spec = collection(
      [
        {
          insns: [
            st(4, 10, -4, 1),
            ...ldMap(1),
            mov64(2, { reg: 10 }),
            alu64('add', 2, -4),
            helper('map_lookup_elem'),
            jump64('ne', 0, 0, 2),
            mov64(0, 1),
            exit(),
            mov64(6, { reg: 0 }),
            alu64('add', 6, 8),
            mov64(1, { reg: 6 }),
            ...ldMap(2),
            mov64(3, 1),
            helper('timer_init'),
            mov64(1, { reg: 6 }),
            ...ldFunction(2, 8),
            helper('timer_set_callback'),
            mov64(1, { reg: 6 }),
            mov64(2, 1_000_000),
            mov64(3, 0),
            helper('timer_start'),
            mov64(0, 0),
            exit(),
            // callback(map, key, value)
            mov64(2, 7),
            stx(8, 3, 0, 2),
            mov64(0, 0),
            exit(),
          ],
          relocations: [
            { kind: 'map', instruction: 1, map: 'entries' },
            { kind: 'map', instruction: 12, map: 'entries' },
          ],
          functions: { expire: 26 },
        },
      ],
      [entries],
      [],
      btf,
    );
    const loaded = loadCollection(spec);
    loaded.map('entries').update(u32(1), new Uint8Array(24));
    expect(loaded.program('test').testRun({ data: FRAME }).retval).toBe(0);
    await expect.poll(() => number(loaded.map('entries').lookup(u32(1)))).toBe(7);
    expect(loaded.map('entries').info().btfId).toBeGreaterThan(0);
    loaded.close();
  });

  test('ring buffer records arrive whole and in order, also around the end', async () => {
    const loaded = loadCollection(
      collection(
        [
          {
            insns: [
              // ringbuf_output(events, &skb->mark, 4 .. 64 bytes of stack, 0)
              mov64(6, { reg: 1 }),
              ldx(4, 2, 6, MARK),
              ...Array.from({ length: 25 }, (_, i) => stx(8, 10, -8 * (i + 1), 2)),
              ...ldMap(1),
              mov64(2, { reg: 10 }),
              alu64('add', 2, -200),
              mov64(3, 196),
              mov64(4, 0),
              helper('ringbuf_output'),
              exit(),
            ],
            relocations: [{ kind: 'map', instruction: 27, map: 'events' }],
          },
        ],
        [mapSpec({ name: 'events', type: 'ringBuffer', keySize: 0, valueSize: 0, maxEntries: 4096 })],
      ),
    );
    const events = new RingBuffer(loaded.map('events'));
    const send = (mark: number): number =>
      loaded.program('test').testRun({ data: FRAME, context: skbContext({ mark }) }).retval | 0;
    const got: number[] = [];
    const take = (record: Uint8Array): void => {
      expect(record).toHaveLength(196);
      expect(number(record.subarray(192))).toBe(number(record));
      got.push(number(record)!);
    };
    for (let i = 0; i < 300; i++) {
      expect(send(i)).toBe(0);
      if (i % 7 === 0) events.consume(take);
    }
    events.consume(take);
    expect(got).toEqual(Array.from({ length: 300 }, (_, i) => i));
    expect(events.wait(1)).toBe(false);

    const iterated: number[] = [];
    const reading = (async () => {
      for await (const record of events) iterated.push(number(record)!);
    })();
    for (const mark of [1, 2, 3]) {
      send(mark);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await expect.poll(() => iterated).toEqual([1, 2, 3]);
    while (send(9) === 0);
    expect(send(9)).toBe(-11);
    await expect.poll(() => iterated.length).toBe(3 + Math.floor(4096 / 208));
    events.close();
    await reading;
    expect(() => events.consume(take)).toThrow('it is closed');
    loaded.close();
  });
});

describeKernel('a refused program', () => {
  const files = [{ path: 'src/nat.ts', text: 'function nat(skb: Skb) {\n  const x = lookup();\n\treturn x.y;\n}\n' }];
  const refused = (): VerifierError => {
    const spec = collection(
      [
        {
          name: 'nat',
          insns: [mov64(2, 0), ldx(8, 0, 2, 16), exit()],
          lines: [
            { instruction: 0, file: 0, line: 2, column: 9 },
            { instruction: 1, file: 0, line: 3, column: 9 },
          ],
        },
      ],
      [],
      files,
    );
    try {
      loadCollection(spec);
    } catch (error) {
      if (error instanceof VerifierError) return error;
      throw error;
    }
    throw new Error('The verifier took it');
  };

  test('is a TypeScript diagnostic with the line and a caret', () => {
    const error = refused();
    expect(error.message).toBe(
      [
        `src/nat.ts:3:9: Cannot load program "nat": the verifier says: R2 invalid mem access 'scalar'`,
        '',
        '3 | \treturn x.y;',
        '  | \t       ^',
        '',
        'instruction 1: (79) r0 = *(u64 *)(r2 +16)',
      ].join('\n'),
    );
    expect(error).toMatchObject({ code: 'EACCES', instruction: 1, program: 'nat' });
    expect(error.position).toMatchObject({ path: 'src/nat.ts', line: 3, column: 9 });
  });

  test('keeps the whole log, in which the kernel quotes the source', () => {
    expect(refused().log).toContain('; const x = lookup();');
    expect(refused().log).toMatch(/processed \d+ insns/);
  });

  test('before any path is walked is found by the instruction that the verifier names', () => {
    const spec = collection(
      [
        {
          insns: [mov64(0, 0), exit(), mov64(0, 1), exit()],
          lines: [
            { instruction: 0, file: 0, line: 2, column: 3 },
            { instruction: 2, file: 0, line: 3, column: 2 },
          ],
        },
      ],
      [],
      files,
    );
    expect(() => loadCollection(spec)).toThrow(
      'src/nat.ts:3:2: Cannot load program "test": the verifier says: unreachable insn 2',
    );
  });

  test.each<[string, readonly Insn[]]>([
    [
      'invalid access to packet, off=0 size=4, R2(id=0,off=0,r=0); R2 offset is outside of the packet',
      [ldx(4, 2, 1, 76), ldx(4, 0, 2, 0), exit()],
    ],
    ['infinite loop detected at insn 0', [helper('get_prandom_u32'), jump64('ne', 0, 0, -2), mov64(0, 0), exit()]],
    [
      'BPF program is too large. Processed 1000001 insn',
      [mov64(6, 0), alu64('add', 6, 1), jump64('lt', 6, 10_000_000, -2), mov64(0, 0), exit()],
    ],
  ])('gives the whole reason: %s', (reason, insns) => {
    try {
      loadCollection(collection([{ insns }])).close();
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ name: 'VerifierError', reason });
    }
  });

  test('names what is missing when a map is', () => {
    const spec = collection([{ insns: counting(0), relocations: [COUNT_RELOCATION] }]);
    expect(() => loadCollection(spec)).toThrow('it uses map "count", which is not there');
  });

  test('has a log on success too, when asked', () => {
    const loaded = loadCollection(collection([{ insns: [mov64(0, 0), exit()] }]), { log: 2 });
    expect(loaded.program('test').log).toContain('(95) exit');
    loaded.close();
  });
});

describeKernel('pinned collections', () => {
  const root = `/run/${uniqueName('ipvsd-pin')}`;
  beforeAll(() => void mountBpfFileSystem(root));
  afterAll(() => {
    unmountBpfFileSystem(root);
    rmSync(root, { recursive: true });
  });
  const spec = collection([{ insns: counting(0), relocations: [COUNT_RELOCATION] }], [COUNT]);

  test('a second load takes the maps over with their contents', () => {
    const first = loadCollection(spec, { pinTo: `${root}/a` });
    first.program('test').testRun({ data: FRAME });
    first.close();
    expect(readdirSync(`${root}/a`)).toEqual(['count']);
    const second = loadCollection(spec, { pinTo: `${root}/a` });
    second.program('test').testRun({ data: FRAME });
    expect(number(second.map('count').lookup(u32(0)))).toBe(2);
    second.program('test').pin(`${root}/a/prog`);
    second.close();
    const program = KernelProgram.fromPin(`${root}/a/prog`);
    expect(program.testRun({ data: FRAME }).retval).toBe(0);
    program.close();
  });

  test('a pinned map of another shape is refused, and says how it differs', () => {
    loadCollection(spec, { pinTo: `${root}/b` }).close();
    const other = collection([], [{ ...COUNT, type: 'hash', valueSize: 16 }]);
    expect(() => loadCollection(other, { pinTo: `${root}/b` })).toThrow(
      `Cannot use ${root}/b/count as map "count": its type is array, must be hash; its value size is 4, must be 16`,
    );
  });

  test('maps given by the caller are used and stay open', () => {
    const mine = KernelMap.create(COUNT);
    const loaded = loadCollection(spec, { reuseMaps: new Map([['count', mine]]), programs: ['test'] });
    loaded.program('test').testRun({ data: FRAME });
    loaded.close();
    expect(number(mine.lookup(u32(0)))).toBe(1);
    mine.close();
    expect(() => loadCollection(spec, { programs: ['other'] })).toThrow('Cannot load program "other"');
  });
});

describeKernel('attaching to an interface', () => {
  const namespace = uniqueName('tc');
  const root = `/run/${uniqueName('ipvsd-link')}`;
  let routes: RouteSocket;
  let sender: PacketSocket;
  let receiver: PacketSocket;
  beforeAll(() => {
    mountBpfFileSystem(root);
    createNamespace(namespace);
    routes = new RouteSocket(namespace);
    routes.addVeth('v0', 'v1');
    routes.setUp('v0');
    routes.setUp('v1');
    sender = new PacketSocket('v0', { namespace });
    receiver = new PacketSocket('v1', { namespace });
  });
  afterAll(() => {
    sender.close();
    receiver.close();
    routes.close();
    deleteNamespace(namespace);
    unmountBpfFileSystem(root);
    rmSync(root, { recursive: true });
  });

  const test88b5 = Uint8Array.from({ length: 64 }, (_, i) => (i === 12 ? 0x88 : i === 13 ? 0xb5 : 0xff));
  /** Counts only our frames: the kernel's own IPv6 chatter passes through too. */
  const ours = (step: number): readonly Insn[] => [
    mov64(0, TC_ACT_OK),
    ldx(4, 2, 1, 16),
    jump64('ne', 2, 0xb588, 4),
    ...ldMapValue(1),
    mov64(2, step),
    atomic('add', 4, 1, 0, 2),
    exit(),
  ];
  const two = collection(
    [
      { name: 'one', insns: ours(1), relocations: [{ ...COUNT_RELOCATION, instruction: 3 }] },
      { name: 'other', insns: ours(100_000), relocations: [{ ...COUNT_RELOCATION, instruction: 3 }] },
      { name: 'drop', insns: [mov64(0, TC_ACT_SHOT), exit()] },
    ],
    [COUNT],
  );

  describe.each<TcMechanism>(['tcx', 'clsact'])('by %s', (mechanism) => {
    const arrives = (): boolean => {
      sender.send(test88b5);
      return receiver.receiveMatching((frame) => frame[12] === 0x88 && frame[13] === 0xb5, 100) !== null;
    };

    test.each(['ingress', 'egress'] as const)('a program sees packets at %s and is swapped', (direction) => {
      const loaded = loadCollection(two);
      const count = (): number => number(loaded.map('count').lookup(u32(0)))!;
      const options = { interface: direction === 'ingress' ? 'v1' : 'v0', direction, namespace, mechanism };
      const attachment = attachTc(loaded.program('one'), options);
      expect(attachment).toMatchObject({ mechanism, direction, ifindex: routes.link(options.interface).ifindex });
      expect(arrives()).toBe(true);
      expect(count()).toBe(1);
      attachment.update(loaded.program('other'));
      expect(arrives()).toBe(true);
      expect(count()).toBe(100_001);
      const { id } = loaded.program('other').info();
      expect(attachment.programId()).toBe(id);
      expect(attachedPrograms(options.interface, direction, namespace)).toEqual([
        expect.objectContaining({ programId: id, name: 'other', mechanism }),
      ]);
      attachment.detach();
      expect(arrives()).toBe(true);
      expect(count()).toBe(100_001);
      expect(attachedPrograms(options.interface, direction, namespace)).toEqual([]);
      loaded.close();
    });

    test('a swap under a flood loses no packet', () => {
      const loaded = loadCollection(two);
      const attachment = attachTc(loaded.program('one'), {
        interface: 'v1',
        direction: 'ingress',
        namespace,
        mechanism,
      });
      for (let i = 0; i < 2000; i++) {
        sender.send(test88b5);
        attachment.update(loaded.program(i % 2 ? 'one' : 'other'));
      }
      const total = (): number => {
        const count = number(loaded.map('count').lookup(u32(0)))!;
        return (count % 100_000) + Math.floor(count / 100_000);
      };
      // Packets are delivered by a softirq that may still be running.
      const deadline = performance.now() + 1000;
      while (total() < 2000 && performance.now() < deadline);
      expect(total()).toBe(2000);
      attachment.detach();
      loaded.close();
      while (receiver.receive(0) !== null);
    });
  });

  test('a pinned TCX link outlives its maker and is taken over', () => {
    const loaded = loadCollection(two);
    const path = `${root}/v1-ingress`;
    const attachment = attachTc(loaded.program('drop'), { interface: 'v1', direction: 'ingress', namespace });
    attachment.pin(path);
    attachment.close();
    expect(attachedPrograms('v1', 'ingress', namespace)).toHaveLength(1);
    const again = openTcAttachment(path);
    expect(again).toMatchObject({ mechanism: 'tcx', direction: 'ingress' });
    again.update(loaded.program('one'));
    expect(again.programId()).toBe(loaded.program('one').info().id);
    again.detach();
    expect(readdirSync(root)).not.toContain('v1-ingress');
    loaded.close();
  });

  test('positions order TCX programs, and an unpinned link ends with its holder', () => {
    const loaded = loadCollection(two);
    const options = { interface: 'v1', direction: 'ingress', namespace } as const;
    const last = attachTc(loaded.program('one'), options);
    const first = attachTc(loaded.program('other'), { ...options, position: 'first' });
    const names = (): string[] => attachedPrograms('v1', 'ingress', namespace).map((one) => one.name);
    expect(names()).toEqual(['other', 'one']);
    first.close();
    last.close();
    expect(names()).toEqual([]);
    loaded.close();
  });

  test('an attachment knows when its interface is gone', () => {
    const loaded = loadCollection(two);
    routes.addVeth('w0', 'w1');
    const attachment = attachTc(loaded.program('one'), { interface: 'w0', direction: 'ingress', namespace });
    routes.deleteLink('w0');
    expect(attachment.programId()).toBeUndefined();
    attachment.close();
    expect(() => attachTc(loaded.program('one'), { interface: 'w0', direction: 'ingress', namespace })).toThrow(
      'Cannot find interface "w0"',
    );
    loaded.close();
  });

  test('an XDP program is attached by a link', () => {
    const loaded = loadCollection(collection([{ type: 'xdp', insns: [mov64(0, 1), exit()] }]));
    const link = attachXdp(loaded.program('test'), { interface: 'v1', namespace, mode: 'generic' });
    expect(link.info().ifindex).toBe(routes.link('v1').ifindex);
    sender.send(test88b5);
    expect(receiver.receiveMatching((frame) => frame[12] === 0x88 && frame[13] === 0xb5, 50)).toBeNull();
    link.detach();
    loaded.close();
  });
});

describeKernel('features', () => {
  test('this kernel, being 6.6 or newer, has all of them', ({ skip }) => {
    if (!hasFeature('tcx')) skip('the kernel is older than 6.6');
    expect(FEATURE_NAMES.filter((name) => !hasFeature(name))).toEqual([]);
    requireFeatures(FEATURE_NAMES);
  });

  test('a missing one is named together with the kernel that has it', () => {
    expect(new MissingFeatureError('load the packet path', ['bpf_loop', 'tcx']).message).toMatch(
      /^Cannot load the packet path: this kernel \(.+\) has no bpf_loop \(Linux 5\.17 or later has it\) and no TCX \(Linux 6\.6 or later has it\)$/,
    );
    expect(featureSince('timers')).toBe('5.15');
  });
});
