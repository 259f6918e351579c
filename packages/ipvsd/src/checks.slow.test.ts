/**
 * Every kind of check against real servers that fail and recover: what `ipvsd run` makes of it, and beside it the real keepalived, with
 * the same configuration at the same time. The verdicts must be the same, and come within two intervals and a noisy machine's delays.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle } from './testing/ours.ts';
import { PROGRAMS, RealServers, type Served, TRACK_FILE } from './testing/real-servers.ts';

const standIn = fileURLToPath(new URL('./testing/without-ip-vs.c', import.meta.url));
const VIP = '10.47.0.1';
const [OURS, THEIRS, NEAR, FAR] = ['192.168.47.1', '192.168.47.9', '192.168.47.2', '192.168.47.3'];
const PATIENCE_MS = 30_000;
/** Two intervals of a second, and what a busy machine adds. */
const APART_MS = 4000;
/** Nothing of the kind may happen in so many intervals. */
const QUIET_MS = 4000;

const has = (program: string): boolean => spawnSync('which', [program]).status === 0;
const absent = PROGRAMS.filter((program) => !has(program));
const absentBeside = ['keepalived', 'cc'].filter((program) => !has(program));
const why = absent.length > 0 ? `skipped, not installed: ${absent.join(', ')}` : '';
const whyBeside = absentBeside.length > 0 ? `skipped, not installed: ${absentBeside.join(', ')}` : '';

interface Verdict {
  readonly at: number;
  readonly alive: boolean;
}

/** A daemon's log, from which its verdicts are taken: both say them in the same words. */
class Watched {
  readonly verdicts = new Map<number, Verdict[]>();
  readonly lines: string[] = [];

  constructor(host: Host, program: string, args: readonly string[]) {
    const child = host.start(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const input of [child.stdout!, child.stderr!])
      createInterface({ input }).on('line', (line) => this.#hear(line));
  }

  of(port: number): readonly Verdict[] {
    return this.verdicts.get(port) ?? [];
  }

  #hear(line: string): void {
    this.lines.push(line);
    const match =
      /(Removing|Adding) service \[.*\] (?:from|to) VS \[10\.47\.0\.1\]:\w+:(\d+)|(Removing|Adding) service \S+ (?:from|to) VS \[10\.47\.0\.1\]:\w+:(\d+)/.exec(
        line,
      );
    if (match === null) return;
    const port = Number(match[2] ?? match[4]);
    const verdict = { at: performance.now(), alive: (match[1] ?? match[3]) === 'Adding' };
    this.verdicts.set(port, [...this.of(port), verdict]);
  }
}

function configuration(served: readonly Served[], trackedFile: string): string {
  const timing = 'retry 1\ndelay_before_retry 1\n';
  const connect = 'connect_timeout 1\n';
  const blocks = served.map(({ address, port, protocol, check }) => {
    const times = check.startsWith('FILE') ? '' : check.startsWith('MISC') ? timing : `${timing}${connect}`;
    const lines = `${check}${times}}\n`;
    return (
      `virtual_server ${VIP} ${port} {\ndelay_loop 1\nlvs_sched rr\nlvs_method NAT\nprotocol ${protocol}\n` +
      `real_server ${address} ${port} {\n${lines}}\n}\n`
    );
  });
  // The process of this port hangs; that it accepts is all that TCP_CHECK asks.
  const hanging = `virtual_server ${VIP} 9006 {\ndelay_loop 1\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\nreal_server ${NEAR} 8006 {\nTCP_CHECK {\n${timing}${connect}}\n}\n}\n`;
  const file = `track_file ${TRACK_FILE} {\nfile ${trackedFile}\n}\n`;
  return `global_defs {\nscript_user root\n}\n${file}${blocks.join('')}${hanging}`;
}

describeKernel(`checks of real servers${why && `: ${why}`}`, () => {
  if (absent.length > 0) {
    test.skip(why, () => {});
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'ipvsd-checks-'));
  let cluster: Cluster;
  let served: Served[];
  let ours: Watched;
  let theirs: Watched | undefined;
  let failedAt: number;
  let recoveredAt: number;

  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-checks'));
    const [us, them, near, far] = ['ours', 'theirs', 'near', 'far'].map((name) => cluster.host(name)) as [
      Host,
      Host,
      Host,
      Host,
    ];
    const face = (address: string) => ({ name: 'eth0', addresses: [`${address}/24`] });
    cluster.switch('switch', [
      [us, face(OURS!)],
      [them, face(THEIRS!)],
      [near, face(NEAR!)],
      [far, face(FAR!)],
    ]);
    const servers = new RealServers({ host: near, address: NEAR! }, { host: far, address: FAR! }, folder, [
      OURS!,
      THEIRS!,
    ]);
    served = servers.start();
    await pause(2000);
    const file = join(folder, 'keepalived.conf');
    writeFileSync(file, configuration(served, servers.trackedFile));
    ours = new Watched(us, process.execPath, [bundle('ipvsd'), 'run', '-f', file, '--log', 'text']);
    if (absentBeside.length === 0) theirs = watchKeepalived(them, file, folder);
    await pause(5000);
    for (const { port } of served)
      expect(ours.of(port), `port ${port} at the start: ${ours.lines.join('\n')}`).toEqual([]);
    failedAt = performance.now();
    for (const one of served) one.fail();
    await untilAll((daemon, { port }) => daemon.of(port).length >= 1);
    recoveredAt = performance.now();
    for (const one of served) one.recover();
    await untilAll((daemon, { port }) => daemon.of(port).length >= 2);
    await pause(QUIET_MS);
    report();
  }, 180_000);

  afterAll(() => {
    cluster?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Waits for both; who does not come to it is found out by the tests. */
  async function untilAll(isDone: (daemon: Watched, one: Served) => boolean): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    const daemons = theirs === undefined ? [ours] : [ours, theirs];
    while (!daemons.every((daemon) => served.every((one) => isDone(daemon, one))) && performance.now() < end) {
      await pause(100);
    }
  }

  function report(): void {
    const after = (verdict: Verdict | undefined, from: number): string =>
      (verdict ? ((verdict.at - from) / 1000).toFixed(1) : '-').padStart(6);
    const lines = served.map(({ name, port }) => {
      const columns = [ours, theirs].map((daemon) => {
        const [left, returned] = daemon?.of(port) ?? [];
        return `${after(left, failedAt)}${after(returned, recoveredAt)}`;
      });
      return `${name.padEnd(46)}${columns.join('   ')}`;
    });
    process.stdout.write(
      `${'seconds to leave and to return'.padEnd(46)}  ipvsd          keepalived\n${lines.join('\n')}\n`,
    );
  }

  const names = [8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8010, 8011, 8012, 8013, 8014, 8015, 8016];

  test.each(names)('the real server of port %i leaves and returns, once each', (port) => {
    const one = served.find((candidate) => candidate.port === port)!;
    expect(
      ours.of(port).map(({ alive }) => alive),
      `${one.name}\n${ours.lines.join('\n')}`,
    ).toEqual([false, true]);
  });

  test('a hanging process that still accepts does not leave a TCP_CHECK', () => {
    expect(ours.of(9006)).toEqual([]);
  });

  test.skipIf(absentBeside.length > 0)(
    `keepalived comes to the same verdicts at about the same time${whyBeside && `: ${whyBeside}`}`,
    () => {
      expect(theirs!.of(9006)).toEqual([]);
      for (const { name, port } of served) {
        const [mine, its] = [ours.of(port), theirs!.of(port)];
        expect(
          its.map(({ alive }) => alive),
          `${name}\n${theirs!.lines.join('\n')}`,
        ).toEqual(mine.map(({ alive }) => alive));
        for (const [i, verdict] of mine.entries()) {
          expect(Math.abs(verdict.at - its[i]!.at), `${name}, ${verdict.alive ? 'return' : 'leave'}`).toBeLessThan(
            APART_MS,
          );
        }
      }
    },
  );
});

/** It ends where there is no ip_vs, but for a stand-in; and its children keep their own process ids' files. */
function watchKeepalived(host: Host, file: string, folder: string): Watched {
  const library = join(folder, 'without-ip-vs.so');
  const made = spawnSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, standIn, '-ldl'], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`Cannot compile the stand-in for ip_vs: ${made.stderr}`);
  const ids = ['p', 'c', 'r', 'b'].flatMap((letter) => [`-${letter}`, join(folder, `keepalived-${letter}.pid`)]);
  return new Watched(host, 'env', [`LD_PRELOAD=${library}`, 'keepalived', '-n', '-C', '-l', '-D', '-f', file, ...ids]);
}
