/** `ipvsd run` in front of traffic: reloads that nobody notices, a real server that dies, and its return. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours } from './testing/ours.ts';
import { answerOn, SteadyLoad } from './testing/steady-load.ts';

const VIP = '172.16.46.10';
const CLIENT = '172.16.46.2';
const INNER = '192.168.46.1';
const REALS = ['192.168.46.2', '192.168.46.3', '192.168.46.4'];
const SERVICES = 500;
const FIRST_PORT = 8000;
const LAST_PORT = FIRST_PORT + SERVICES - 1;
/** The third real server listens on the first five ports only, so it is dead for the other services that name it. */
const DEAD_FROM = FIRST_PORT + 5;
const PATIENCE_MS = 40_000;

describeKernel('the daemon in front of traffic', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ipvsd-daemon-'));
  let cluster: Cluster;
  let client: Host;
  let director: Host;
  let reals: Host[];
  const endings: (() => void | Promise<void>)[] = [];

  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-daemon'));
    client = cluster.host('client');
    director = cluster.host('director');
    reals = REALS.map((_, i) => cluster.host(`real${i + 1}`));
    const face = (name: string, address: string) => ({ name, addresses: [`${address}/24`] });
    cluster.connect(client, face('eth0', CLIENT), director, face('eth0', VIP));
    cluster.switch('switch', [
      [director, face('eth1', INNER)],
      ...reals.map((host, i) => [host, face('eth0', REALS[i]!)] as const),
    ]);
    for (const real of reals) real.route('default', INNER);
    director.sysctl('net.ipv4.ip_forward', 1);
    client.sysctl('net.ipv4.ip_local_port_range', '1024 65535');
    const ports = [LAST_PORT, LAST_PORT, DEAD_FROM - 1];
    await Promise.all(reals.map((host, i) => answerOn(host, `real${i + 1}`, [FIRST_PORT, ports[i]!])));
  });

  afterEach(async () => {
    for (const end of endings.splice(0).reverse()) await end();
  });
  afterAll(() => {
    cluster?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  const ipvsd = (...args: string[]): string => ours(director, 'ipvsd', ...args);

  /** A daemon with this configuration, and what it has said so far. */
  async function run(name: string, text: string) {
    const file = join(folder, name);
    writeFileSync(file, text);
    const lines: { readonly at: number; readonly text: string }[] = [];
    const child = director.start(process.execPath, [bundle('ipvsd'), 'run', '-f', file, '--log', 'text'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const input of [child.stdout!, child.stderr!]) {
      createInterface({ input }).on('line', (line) => lines.push({ at: Date.now(), text: line }));
    }
    const ended = new Promise((resolve) => child.once('exit', resolve));
    endings.push(async () => {
      child.kill('SIGTERM');
      await ended;
    });
    const said = async (pattern: RegExp, from = 0): Promise<number> => {
      for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await pause(20)) {
        const found = lines.slice(from).find((line) => pattern.test(line.text));
        if (found) return found.at;
      }
      throw new Error(`waited in vain for ${pattern}: ${lines.map((line) => line.text).join('\n')}`);
    };
    const reload = async (changed: string): Promise<void> => {
      const from = lines.length;
      writeFileSync(file, changed);
      child.kill('SIGHUP');
      await said(/Reloaded/, from);
    };
    await said(/Running with/);
    return { lines, said, reload };
  }

  function load(ports: readonly [number, number]): SteadyLoad {
    const steady = new SteadyLoad(client, VIP, ports, 20);
    endings.push(() => steady.stop());
    return steady;
  }

  test('500 services are reloaded under load: no request fails, and no check forgets who is dead', async () => {
    const service = (port: number, scheduler = 'wlc'): string => {
      const third = port < DEAD_FROM + 5 ? [REALS[2]!] : [];
      const servers = [...REALS.slice(0, 2), ...third].map(
        (address) => `real_server ${address} ${port} {\nTCP_CHECK {\nconnect_timeout 2\nretry 3\n}\n}\n`,
      );
      return `virtual_server ${VIP} ${port} {\ndelay_loop 3\nlvs_sched ${scheduler}\nlvs_method NAT\nprotocol TCP\n${servers.join('')}}\n`;
    };
    const services = Array.from({ length: SERVICES }, (_, i) => service(FIRST_PORT + i));
    const { lines, reload, said } = await run('reload.conf', services.join(''));
    await said(new RegExp(`Removing service \\[${REALS[2]}\\]:tcp:${DEAD_FROM + 4} `));
    await pause(3500);
    const dead = lines.filter((line) => /Removing service/.test(line.text)).length;
    expect(dead).toBe(5);
    const before = lines.length;
    const steady = load([FIRST_PORT, LAST_PORT - 1]);
    for (const scheduler of ['rr', 'sed', 'wlc', 'nq']) {
      await pause(1500);
      // One changes, one goes, and comes back with the next.
      services[250] = service(FIRST_PORT + 250, scheduler);
      services[SERVICES - 1] = services[SERVICES - 1] === '' ? service(LAST_PORT) : '';
      await reload(services.join(''));
    }
    await pause(1500);
    expect(steady.asked.length).toBeGreaterThan(500);
    expect(steady.failed).toEqual([]);
    const since = lines.slice(before).map((line) => line.text);
    expect(since.filter((line) => /Removing|Adding|quorum/.test(line) && !line.includes(`:${LAST_PORT}`))).toEqual([]);
    expect(since.filter((line) => line.includes('Reloaded')).length).toBe(4);
    const listed = ours(director, 'ipvsadm', '-Ln');
    expect(listed.match(/^TCP /gm)?.length).toBe(SERVICES);
    // Two for each, and the third where it is alive.
    expect(listed.match(/^ {2}-> \d/gm)?.length).toBe(2 * SERVICES + 5);
  }, 120_000);

  test.each([
    ['at once', 0, [0.2, 0.5]],
    ['slowly, where that is configured', 10, [0.01, 0.2]],
  ])(
    'a real server that falls silent costs the requests in flight to it and no other; it takes work again %s',
    async (_, slowStart, [least = 0, most = 1]) => {
      const servers = REALS.map((address) => `      - { address: ${address}, port: ${FIRST_PORT} }\n`);
      const yaml =
        `services:\n  - address: ${VIP}\n    port: ${FIRST_PORT}\n    scheduler: wrr\n    slowStart: ${slowStart}\n` +
        '    checks: [{ type: tcp, every: 1, timeout: 1, retries: 0, warmup: 0 }]\n' +
        `    realServers:\n${servers.join('')}`;
      const { said, lines } = await run('return.yaml', yaml);
      ipvsd('set', 'expire_nodest_conn', '1');
      const steady = load([FIRST_PORT, FIRST_PORT]);
      await pause(2000);
      const route = (verb: string): void => {
        for (const address of [CLIENT, INNER]) reals[0]!.run('ip', ['route', verb, 'blackhole', `${address}/32`]);
      };
      route('add');
      const silentAt = Date.now();
      await said(/Removing service/);
      // Who waits for an answer to a SYN sends it again, the last time 7 s after the first.
      await pause(9000);
      const from = lines.length;
      route('del');
      const returnedAt = await said(/Adding service/, from);
      await pause(2200);
      const shares = steady.shares(returnedAt + 200, returnedAt + 2200);
      expect(shares['real1'] ?? 0).toBeGreaterThan(least);
      expect(shares['real1']).toBeLessThan(most);
      if (slowStart > 0) {
        await pause(slowStart * 1000);
        expect(steady.shares(Date.now() - 1500, Date.now())['real1']).toBeGreaterThan(0.25);
      }
      for (const { connected, started } of steady.failed) {
        expect(started).toBeLessThan(silentAt);
        expect(connected).not.toBeNull();
      }
      expect(
        steady.asked.filter(({ started, answer }) => started > silentAt && answer !== null).length,
      ).toBeGreaterThan(500);
    },
    120_000,
  );

  test('ll sends work by the loads that agents tell, and by connections when they have fallen silent', async () => {
    const loadFile = (i: number): string => join(folder, `load${i}`);
    const tell = (...percents: readonly number[]): void => {
      for (const [i, percent] of percents.entries()) writeFileSync(loadFile(i), `${percent}\n`);
    };
    tell(90, 10, 10);
    const agents = reals.map((host, i) =>
      host.start(process.execPath, [bundle('ipvsd'), 'agent', '--command', `cat '${loadFile(i)}'`], {
        stdio: 'ignore',
      }),
    );
    endings.push(() => {
      for (const agent of agents) agent.kill('SIGKILL');
    });
    const servers = REALS.map((address) => `      - { address: ${address}, port: ${FIRST_PORT} }\n`);
    await run(
      'least-load.yaml',
      `services:\n  - address: ${VIP}\n    port: ${FIRST_PORT}\n    scheduler: ll\n    load: { from: http, stale: 3 }\n    realServers:\n${servers.join('')}`,
    );
    const steady = load([FIRST_PORT, FIRST_PORT]);
    await pause(6000);
    const shares = () => steady.shares(Date.now() - 2500, Date.now());
    expect(shares()['real1'] ?? 0).toBeLessThan(0.15);
    const real = `${REALS[0]}:${FIRST_PORT}`;
    const virtual = `${VIP}:${FIRST_PORT}`;
    expect(ipvsd('explain', 'weight', virtual, real)).toMatch(
      /weight 1: its scheduler goes by the load itself\n.*\nreported load 0\.90/,
    );
    expect(ipvsd('explain', '192.0.2.1:1024', virtual)).toMatch(
      /ll takes the least load\n(.*\n)*.*reported 0\.\d+, \d+ connections opened since/,
    );
    tell(10, 10, 90);
    await pause(9000);
    const turned = shares();
    expect(turned['real1']).toBeGreaterThan(0.3);
    expect(turned['real3'] ?? 0).toBeLessThan(0.15);
    for (const agent of agents) agent.kill('SIGKILL');
    await pause(6000);
    expect(shares()['real3'], 'its report is too old to count').toBeGreaterThan(0.2);
    expect(steady.failed).toEqual([]);
  }, 120_000);
});
