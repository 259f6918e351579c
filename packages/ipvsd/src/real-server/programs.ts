/**
 * Our programs on a real server's interfaces (packages/ipvs/src/real-server): loaded, pinned and told of virtual addresses here.
 *
 * Pins lie beside the directors' in a folder of their own, so they outlive the command that made them.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { bytesOf, htons, ntohs } from '@ipvsd/bpf';
import { attachedPrograms, attachTc, detachTc, KernelMap, loadCollection, requireFeatures } from '@ipvsd/bpf/kernel';
import { type Address, addressBytes, formatAddress } from '@ipvsd/director';
import {
  AF_INET,
  AF_INET6,
  clamping,
  compiledPrograms,
  decapsulating,
  TAKES_GRE,
  TAKES_GUE,
  TAKES_IPIP,
  Vip,
  VipKey,
  vips,
} from '@ipvsd/ipvs';
import {
  currentNamespaceCookie,
  findBpfFileSystem,
  mountBpfFileSystem,
  type TcDirection,
  withRoutes,
} from '@ipvsd/linux';
import type { ProgramsOfVip } from './survey.ts';
import type { Wish } from './wish.ts';

/** After a director on the same host, which takes only what its services are for. */
const PRIORITY = 2;
const TAKES = { ipip: TAKES_IPIP, gre: TAKES_GRE, gue: TAKES_GUE } as const;

const folderIn = (bpfFolder: string): string => `${bpfFolder}/real-server-${currentNamespaceCookie()}`;
const linkPin = (folder: string, ifindex: number, direction: string): string => `${folder}/${direction}_${ifindex}`;

/** The folder of this network namespace, undefined where nothing was ever attached. */
function folderHere(): string | undefined {
  const bpfFolder = findBpfFileSystem();
  if (bpfFolder === undefined) return undefined;
  const folder = folderIn(bpfFolder);
  return existsSync(`${folder}/${vips.name}`) ? folder : undefined;
}

/** What they know, by virtual address. */
export function readPrograms(): ReadonlyMap<Address, ProgramsOfVip> {
  const folder = folderHere();
  const known = new Map<Address, ProgramsOfVip>();
  if (folder === undefined) return known;
  const map = KernelMap.fromPin(`${folder}/${vips.name}`);
  try {
    for (const [key, value] of map.entries()) {
      const { family } = VipKey.on(key);
      const { tunnels, port, segmentSize } = Vip.on(value);
      known.set(formatAddress(key.slice(0, family === AF_INET ? 4 : 16)), { tunnels, port: ntohs(port), segmentSize });
    }
  } finally {
    map.close();
  }
  return known;
}

/** Whether both are on that interface. */
export function hasPrograms(ifindex: number): boolean {
  const has = (name: string, direction: TcDirection): boolean =>
    attachedPrograms(ifindex, direction).some((program) => program.name === name);
  return has(decapsulating.name, 'ingress') && has(clamping.name, 'egress');
}

/** Onto both directions of an interface; what is there stays. */
export function attachPrograms(interfaceName: string): void {
  requireFeatures(['bpf_loop', 'coarse clock'], 'open tunnels with a program');
  const folder = folderIn(mountBpfFileSystem());
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const collection = loadCollection(compiledPrograms('real-server'), {
    pinTo: folder,
    programs: [decapsulating.name, clamping.name],
  });
  try {
    const { ifindex } = withRoutes(undefined, (routes) => routes.link(interfaceName));
    for (const [program, direction] of [
      [decapsulating.name, 'ingress'],
      [clamping.name, 'egress'],
    ] as const) {
      const pin = linkPin(folder, ifindex, direction);
      // Of an interface that is gone and whose number came back.
      if (existsSync(pin)) unlinkSync(pin);
      const attachment = attachTc(collection.program(program), { interface: ifindex, direction, priority: PRIORITY });
      attachment.pin(pin);
      attachment.close();
    }
  } finally {
    collection.close();
  }
}

/** Packets for the wish's virtual address are let out of their tunnel from now on. */
export function tellPrograms({ vip, tunnel, port }: Wish, decapsulates: boolean, segmentSize: number): void {
  withMap((map) => {
    const value = Vip.create({ tunnels: decapsulates ? TAKES[tunnel] : 0, port: htons(port), segmentSize });
    map.update(keyOf(vip), bytesOf(value));
  });
}

export function forgetVip(vip: Address): void {
  withMap((map) => map.delete(keyOf(vip)));
}

/** Off all interfaces, with all that they know. */
export function removePrograms(): void {
  const folder = folderHere();
  if (folder === undefined) return;
  const links = withRoutes(undefined, (routes) => routes.links());
  for (const { ifindex } of links.filter((link) => hasPrograms(link.ifindex))) {
    for (const direction of ['ingress', 'egress'] as const) {
      detachTc({ pin: linkPin(folder, ifindex, direction), ifindex, direction, priority: PRIORITY });
    }
  }
  // What is left is the map, and pins of interfaces that are gone.
  for (const name of readdirSync(folder)) unlinkSync(`${folder}/${name}`);
  rmdirSync(folder);
}

function withMap(work: (map: KernelMap) => void): void {
  const folder = folderHere();
  if (folder === undefined) return;
  const map = KernelMap.fromPin(`${folder}/${vips.name}`);
  try {
    work(map);
  } finally {
    map.close();
  }
}

function keyOf(vip: Address): Uint8Array {
  const bytes = addressBytes(vip);
  const key = bytesOf(VipKey.create({ family: bytes.length === 4 ? AF_INET : AF_INET6 }));
  key.set(bytes);
  return key;
}
