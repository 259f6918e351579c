/**
 * Attaching programs to interfaces.
 *
 * A tc program hangs on an interface by TCX (Linux 6.6): a link object that survives the process when pinned, and whose
 * program is swapped without losing a packet. Older kernels have the clsact qdisc with a cls_bpf filter: it needs no pin to
 * survive, and replacing it is just as atomic. Both look the same from here.
 *
 * Several programs on one hook run in order for as long as they return TC_ACT_UNSPEC (-1); TC_ACT_OK ends the hook, and with
 * TCX also keeps the packet from the clsact filters.
 */

import { existsSync, unlinkSync } from 'node:fs';
import { inNamespace, type Link, type NamespaceRef, RouteSocket, type TcDirection, withRoutes } from '@ipvsd/linux';
import { Attr, bpf, closeFd, objectInfo, openPin, pinObject } from './bpf-syscall.ts';
import { hasFeature } from './features.ts';
import { KernelProgram } from './program.ts';

export type TcMechanism = 'tcx' | 'clsact';

export interface TcAttachOptions {
  /** Name or index. */
  readonly interface: string | number;
  readonly direction: TcDirection;
  /** Where the interface is; the current one unless told. */
  readonly namespace?: NamespaceRef;
  /** The best that the kernel has, unless told. */
  readonly mechanism?: TcMechanism;
  /** Before or after the programs that are there already; last unless told. TCX only. */
  readonly position?: 'first' | 'last';
  /** Order among filters, the lowest first. clsact only. */
  readonly priority?: number;
}

export interface TcAttachment {
  readonly mechanism: TcMechanism;
  readonly ifindex: number;
  readonly direction: TcDirection;
  /** Id of the program attached; undefined when it is not attached any more, for instance because the interface is gone. */
  programId(): number | undefined;
  /** Swaps the program. Every packet sees the one or the other. */
  update(program: KernelProgram): void;
  /** Keeps it attached after this process. A filter of clsact needs no pin and ignores this. */
  pin(path: string): void;
  detach(): void;
  /** Lets go: an attachment that is not pinned ends with TCX and stays with clsact. */
  close(): void;
}

export interface AttachedProgram {
  readonly programId: number;
  readonly name: string;
  readonly mechanism: TcMechanism;
  /** TCX only. */
  readonly linkId?: number;
  /** clsact only. */
  readonly priority?: number;
}

export interface LinkInfo {
  readonly id: number;
  readonly programId: number;
  /** 0 when the interface is gone. */
  readonly ifindex: number;
  readonly attachType: number;
}

const ATTACH_TYPES: Readonly<Record<TcDirection, number>> = { ingress: 46, egress: 47 };
const ATTACH_XDP = 37;
const XDP_MODES = { generic: 2, native: 4 } as const;
const BPF_F_BEFORE = 8;
const LINK_TYPE_XDP = 6;
const LINK_TYPE_TCX = 11;
const DEFAULT_PRIORITY = 1;
const LINK_INFO_BYTES = 64;
/** The kernel's limit of programs per hook. */
const MAX_ATTACHED = 64;

/** A BPF link: the object that keeps a program attached. */
export class BpfLink {
  readonly fd: number;
  #pinned: string | undefined;
  #open = true;

  constructor(fd: number, pinned?: string) {
    this.fd = fd;
    this.#pinned = pinned;
  }

  static fromPin(path: string): BpfLink {
    return new BpfLink(openPin(path), path);
  }

  info(): LinkInfo {
    const info = objectInfo(this.fd, LINK_INFO_BYTES);
    const type = info.getUint32(0, true);
    const known = type === LINK_TYPE_TCX || type === LINK_TYPE_XDP;
    return {
      id: info.getUint32(4, true),
      programId: info.getUint32(8, true),
      ifindex: known ? info.getUint32(16, true) : 0,
      attachType: type === LINK_TYPE_TCX ? info.getUint32(20, true) : ATTACH_XDP,
    };
  }

  /** Swaps the program without a packet in between that sees none. */
  update(program: KernelProgram): void {
    bpf(`swap in program "${program.name}"`, 'LINK_UPDATE', new Attr().u32(0, this.fd).u32(4, program.fd));
  }

  pin(path: string): void {
    pinObject(this.fd, path);
    this.#pinned = path;
  }

  /** Ends the attachment at once, whoever else holds the link, and removes our pin. */
  detach(): void {
    bpf('detach a program', 'LINK_DETACH', new Attr().u32(0, this.fd));
    if (this.#pinned !== undefined) unlinkSync(this.#pinned);
    this.#pinned = undefined;
    this.close();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.fd);
  }
}

export function attachTc(program: KernelProgram, options: TcAttachOptions): TcAttachment {
  const mechanism = options.mechanism ?? (hasFeature('tcx') ? 'tcx' : 'clsact');
  const ifindex = withRoutes(options.namespace, (routes) => routes.link(options.interface).ifindex);
  if (mechanism === 'clsact') return ClsactAttachment.attach(program, ifindex, options);
  const attr = new Attr()
    .u32(0, program.fd)
    .u32(4, ifindex)
    .u32(8, ATTACH_TYPES[options.direction])
    .u32(12, options.position === 'first' ? BPF_F_BEFORE : 0);
  const action = `attach program "${program.name}" to ${options.direction} of ${options.interface}`;
  return new TcxAttachment(new BpfLink(inside(options.namespace, () => bpf(action, 'LINK_CREATE', attr))));
}

/** Takes over what an earlier process attached by TCX and pinned. */
export function openTcAttachment(path: string): TcAttachment {
  return new TcxAttachment(BpfLink.fromPin(path));
}

export interface TcDetachOptions {
  readonly ifindex: number;
  readonly direction: TcDirection;
  /** As it was attached with; clsact only. */
  readonly priority: number;
  /** Where the link is pinned; TCX only. */
  readonly pin: string;
}

/** Ends what another process attached and pinned. Of clsact the qdisc goes too where nobody else hangs a filter on it. */
export function detachTc({ ifindex, direction, priority, pin }: TcDetachOptions): void {
  if (hasFeature('tcx')) {
    if (existsSync(pin)) openTcAttachment(pin).detach();
    // A link whose interface is gone leaves its pin.
    if (existsSync(pin)) unlinkSync(pin);
    return;
  }
  withRoutes(undefined, (routes) => {
    routes.deleteBpfFilter(ifindex, direction, priority);
    const others = routes.bpfFilters(ifindex, 'ingress').length + routes.bpfFilters(ifindex, 'egress').length;
    if (others === 0) routes.deleteClsact(ifindex);
  });
}

/** What is attached, in the order in which it sees a packet: TCX comes before clsact. */
export function attachedPrograms(
  interfaceName: string | number,
  direction: TcDirection,
  namespace?: NamespaceRef,
): AttachedProgram[] {
  return withRoutes(namespace, (routes) => {
    const { ifindex } = routes.link(interfaceName);
    const filters = routes.bpfFilters(ifindex, direction).map(
      ({ programId, priority }): AttachedProgram => ({
        programId,
        name: programName(programId),
        mechanism: 'clsact',
        priority,
      }),
    );
    return [...inside(namespace, () => tcxPrograms(ifindex, direction)), ...filters];
  });
}

/** XDP: generic mode works on every interface, native needs the driver's help. */
export function attachXdp(
  program: KernelProgram,
  options: {
    readonly interface: string | number;
    readonly namespace?: NamespaceRef;
    readonly mode?: keyof typeof XDP_MODES;
  },
): BpfLink {
  const link: Link = withRoutes(options.namespace, (routes) => routes.link(options.interface));
  const mode = options.mode === undefined ? 0 : XDP_MODES[options.mode];
  const attr = new Attr().u32(0, program.fd).u32(4, link.ifindex).u32(8, ATTACH_XDP).u32(12, mode);
  const action = `attach program "${program.name}" to XDP of ${link.name}`;
  return new BpfLink(inside(options.namespace, () => bpf(action, 'LINK_CREATE', attr)));
}

class TcxAttachment implements TcAttachment {
  readonly mechanism = 'tcx';
  readonly ifindex: number;
  readonly direction: TcDirection;
  readonly #link: BpfLink;

  constructor(link: BpfLink) {
    const info = link.info();
    this.#link = link;
    this.ifindex = info.ifindex;
    this.direction = info.attachType === ATTACH_TYPES.egress ? 'egress' : 'ingress';
  }

  programId(): number | undefined {
    const info = this.#link.info();
    return info.ifindex === 0 ? undefined : info.programId;
  }

  update(program: KernelProgram): void {
    this.#link.update(program);
  }

  pin(path: string): void {
    this.#link.pin(path);
  }

  detach(): void {
    this.#link.detach();
  }

  close(): void {
    this.#link.close();
  }
}

class ClsactAttachment implements TcAttachment {
  readonly mechanism = 'clsact';
  readonly ifindex: number;
  readonly direction: TcDirection;
  readonly #priority: number;
  /** In the interface's namespace, wherever this thread goes later. */
  readonly #routes: RouteSocket;

  private constructor(ifindex: number, options: TcAttachOptions) {
    this.ifindex = ifindex;
    this.direction = options.direction;
    this.#priority = options.priority ?? DEFAULT_PRIORITY;
    this.#routes = new RouteSocket(options.namespace);
  }

  /** A filter of ours from an earlier process, at the same priority, is replaced: that is the takeover. */
  static attach(program: KernelProgram, ifindex: number, options: TcAttachOptions): ClsactAttachment {
    const attachment = new ClsactAttachment(ifindex, options);
    try {
      attachment.#routes.addClsact(ifindex);
      attachment.update(program);
      return attachment;
    } catch (error) {
      attachment.close();
      throw error;
    }
  }

  programId(): number | undefined {
    return this.#routes.bpfFilters(this.ifindex, this.direction).find((one) => one.priority === this.#priority)
      ?.programId;
  }

  update(program: KernelProgram): void {
    this.#routes.setBpfFilter(this.ifindex, this.direction, program.fd, program.name, this.#priority);
  }

  pin(_path: string): void {}

  /** The qdisc stays: others may hang filters on it, and an empty one costs a packet nothing. */
  detach(): void {
    this.#routes.deleteBpfFilter(this.ifindex, this.direction, this.#priority);
    this.close();
  }

  close(): void {
    this.#routes.close();
  }
}

function tcxPrograms(ifindex: number, direction: TcDirection): AttachedProgram[] {
  if (!hasFeature('tcx')) return [];
  const programs = new Uint32Array(MAX_ATTACHED);
  const links = new Uint32Array(MAX_ATTACHED);
  const attr = new Attr()
    .u32(0, ifindex)
    .u32(4, ATTACH_TYPES[direction])
    .pointer(16, programs)
    .u32(24, MAX_ATTACHED)
    .pointer(40, links);
  bpf(`list the programs on ${direction} of interface ${ifindex}`, 'PROG_QUERY', attr);
  return Array.from({ length: attr.getU32(24) }, (_, i) => ({
    programId: programs[i]!,
    name: programName(programs[i]!),
    mechanism: 'tcx',
    linkId: links[i]!,
  }));
}

function programName(id: number): string {
  const program = KernelProgram.fromId(id);
  program.close();
  return program.name;
}

function inside<T>(namespace: NamespaceRef | undefined, action: () => T): T {
  return namespace === undefined ? action() : inNamespace(namespace, action);
}
