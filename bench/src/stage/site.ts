/**
 * The ground: one client and two real servers that all systems share, and for each system a director of its own between them,
 * with addresses of its own everywhere (shared ones would meet the other systems' TIME_WAIT).
 *
 *                 10.S.0.2 ─── 10.S.0.1  director S  10.S.1.1 ─── 10.S.1.2  real server 1
 *        client                 (VIP 10.S.100.1)     10.S.2.1 ─── 10.S.2.2  real server 2
 *                 10.0.1.1 ──────────────────────────────────────  10.0.1.2  real server 1   direct: replies of direct
 *                 10.0.2.1 ──────────────────────────────────────  10.0.2.2  real server 2   return, and no director
 *
 * A director of its own, because a rule of one system in a namespace costs the packets of all others there.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createNamespace, hasSysctl, runInNamespace, setOffloads, withRoutes, writeSysctl } from '@ipvsd/linux';
import { MINE, removeNamespace, undoAtEnd } from './cleanup.ts';

export const CLIENT = `${MINE}-client`;
export const REALS = [`${MINE}-real1`, `${MINE}-real2`] as const;
export const FOLDER = `${tmpdir()}/${MINE}`;

/** What every host of a bench needs to be measured rather than to get in the way. */
const EVERYWHERE: Readonly<Record<string, number | string>> = {
  'net.ipv4.conf.all.rp_filter': 0,
  'net.ipv4.conf.default.rp_filter': 0,
  'net.ipv4.tcp_congestion_control': 'reno',
  'net.ipv4.tcp_tw_reuse': 1,
  'net.ipv4.tcp_tw_reuse_delay': 10,
  'net.ipv4.ip_local_port_range': '1024 65535',
  'net.core.somaxconn': 16_384,
  'net.ipv4.tcp_max_syn_backlog': 16_384,
  // Reached within the first second, so that the first round meets what the last one does.
  'net.ipv4.tcp_max_tw_buckets': 20_000,
  'net.ipv6.conf.all.disable_ipv6': 1,
};

/** One system's own piece of ground. */
export class Site {
  readonly number: number;
  readonly director: string;
  readonly vip: string;
  readonly client: string;
  /** The director's addresses: towards the client, towards each real server. */
  readonly directorAddress: string;
  readonly reals: readonly [string, string];

  /** `linkMtu`: between director and real servers, with room for the outer header where there is a tunnel. */
  constructor(number: number, name: string, linkMtu = 1500) {
    this.number = number;
    this.director = `${MINE}-${name}`;
    this.vip = `10.${number}.100.1`;
    this.client = `10.${number}.0.2`;
    this.directorAddress = `10.${number}.0.1`;
    this.reals = [`10.${number}.1.2`, `10.${number}.2.2`];
    makeHost(this.director);
    cable({
      a: [CLIENT, `s${number}`, `${this.client}/24`],
      b: [this.director, 'client', `${this.directorAddress}/24`],
    });
    for (const [i, real] of REALS.entries()) {
      cable({
        a: [this.director, `real${i + 1}`, `10.${number}.${i + 1}.1/24`],
        b: [real, `s${number}`, `${this.reals[i]}/24`],
        mtu: linkMtu,
      });
      withRoutes(real, (routes) => routes.addRoute({ to: `10.${number}.0.0/24`, via: `10.${number}.${i + 1}.1` }));
    }
    withRoutes(CLIENT, (routes) => routes.addRoute({ to: `10.${number}.100.0/24`, via: this.directorAddress }));
    writeSysctl('net.ipv4.ip_forward', 1, this.director);
  }

  /** The real servers own the VIP too, as for direct routing. */
  shareVip(): void {
    for (const real of REALS) withRoutes(real, (routes) => routes.addAddress('lo', `${this.vip}/32`));
  }

  /** Replies go to the client without the director. */
  replyDirectly(): void {
    for (const [i, real] of REALS.entries()) {
      withRoutes(real, (routes) => routes.replaceRoute({ to: `10.${this.number}.0.0/24`, via: `10.0.${i + 1}.1` }));
    }
  }

  /** The director is the VIP: for what ends connections itself. */
  ownVip(): void {
    withRoutes(this.director, (routes) => routes.addAddress('lo', `${this.vip}/32`));
  }

  run(command: string, args: readonly string[], input?: string): string {
    return runIn(this.director, command, args, input);
  }
}

export function runIn(namespace: string, command: string, args: readonly string[], input?: string): string {
  const { status, stdout, stderr, error } = runInNamespace(
    namespace,
    command,
    args,
    input === undefined ? {} : { input },
  );
  if (status !== 0) {
    throw new Error(`Cannot run ${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
  }
  return stdout;
}

/** Client and real servers with the cables between them. */
export function layGround(): void {
  mkdirSync(FOLDER, { recursive: true });
  undoAtEnd(() => rmSync(FOLDER, { recursive: true, force: true }));
  makeHost(CLIENT);
  for (const [i, real] of REALS.entries()) {
    makeHost(real);
    cable({ a: [CLIENT, `direct${i + 1}`, `10.0.${i + 1}.1/24`], b: [real, 'direct', `10.0.${i + 1}.2/24`] });
  }
}

export const DIRECT = ['10.0.1.2', '10.0.2.2'] as const;

const hosts: string[] = [];

function makeHost(name: string): void {
  createNamespace(name);
  undoAtEnd(() => removeNamespace(name));
  hosts.push(name);
  withRoutes(name, (routes) => routes.setUp('lo'));
  for (const [sysctl, value] of Object.entries(EVERYWHERE)) {
    if (hasSysctl(sysctl, name)) writeSysctl(sysctl, value, name);
  }
}

type End = readonly [namespace: string, interfaceName: string, address: string];

function cable({ a, b, mtu = 1500 }: { readonly a: End; readonly b: End; readonly mtu?: number }): void {
  withRoutes(a[0], (routes) => routes.addVeth(a[1], b[1], b[0]));
  const macs = [a, b].map(([namespace, name, address]) =>
    withRoutes(namespace, (routes) => {
      routes.setMtu(name, mtu);
      routes.addAddress(name, address);
      routes.setUp(name);
      return routes.link(name).mac;
    }),
  );
  // Nobody asks who has an address while it is measured.
  withRoutes(a[0], (routes) => routes.addNeighbour(a[1], b[2].split('/')[0]!, macs[1]!));
  withRoutes(b[0], (routes) => routes.addNeighbour(b[1], a[2].split('/')[0]!, macs[0]!));
}

/** Packets of up to 64 KB, as virtual networks pass them; or of 1500 bytes, as a network card would. */
export function setLargePackets(on: boolean): void {
  for (const host of hosts) {
    const names = withRoutes(host, (routes) => routes.links().filter(({ kind }) => kind === 'veth'));
    for (const { name } of names) setOffloads(name, { tso: on, gso: on, gro: false }, host);
  }
}
