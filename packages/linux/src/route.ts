/**
 * Links, addresses, routes, neighbours and tc filters of one network namespace, through rtnetlink.
 *
 * Interfaces are named as the operator names them. Everything is synchronous, and every refusal is a sentence that names
 * the interface and carries the kernel's own explanation.
 */

import { closeSync } from 'node:fs';
import { AF_INET, AF_INET6, formatIp, formatMac, parseIp, parseMac, parsePrefix } from './address.ts';
import { errnoNumber } from './errno.ts';
import { type NamespaceRef, openNamespace } from './namespace.ts';
import {
  attribute,
  NetlinkError,
  NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  pack,
  parseAttributes,
  textOf,
  u32Of,
} from './netlink.ts';

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  /** Empty where the kind has none. */
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  /** The cable is in: for a veth, the other end is up too. */
  readonly running: boolean;
  readonly loopback: boolean;
  /** `veth`, `bridge` ...; undefined for hardware and loopback. */
  readonly kind: string | undefined;
  /** ifindex of the other end (or lower device), which may be in another namespace. */
  readonly peer: number | undefined;
  /** The other end is in another network namespace. */
  readonly peerElsewhere: boolean;
  /** ifindex of the bridge that it is a port of. */
  readonly master: number | undefined;
}

export interface InterfaceAddress {
  readonly ifindex: number;
  /** `10.0.0.1/24`. */
  readonly address: string;
  readonly family: 4 | 6;
  readonly scope: 'global' | 'site' | 'link' | 'host';
  /** IPv6 duplicate address detection has not finished; the address cannot be used yet. */
  readonly tentative: boolean;
}

export interface Route {
  /** `10.0.0.0/24`, or `default`. */
  readonly to: string;
  readonly family: 4 | 6;
  readonly via?: string;
  readonly ifindex?: number;
  readonly source?: string;
  readonly metric?: number;
  readonly table: number;
  readonly type: RouteType;
}

export interface RouteChange {
  /** `10.0.0.0/24`, `2001:db8::/64`, or `default`. */
  readonly to: string;
  readonly via?: string;
  readonly dev?: string;
  readonly source?: string;
  readonly metric?: number;
  readonly table?: number;
  readonly type?: RouteType;
  /** Which default is meant, where neither `via` nor `source` tells. */
  readonly family?: 4 | 6;
}

export interface TunnelEnds {
  readonly local: string;
  readonly remote?: string;
  readonly ttl?: number;
}

export type TcDirection = 'ingress' | 'egress';

export interface BpfFilter {
  readonly programId: number;
  readonly name: string;
  readonly priority: number;
  readonly handle: number;
}

const ROUTE_TYPES = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
} as const;
export type RouteType = keyof typeof ROUTE_TYPES;

/** Message types of rtnetlink. */
export const RTM = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  newAddress: 20,
  deleteAddress: 21,
  getAddress: 22,
  newRoute: 24,
  deleteRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  deleteNeighbour: 29,
  newQdisc: 36,
  deleteQdisc: 37,
  newFilter: 44,
  deleteFilter: 45,
  getFilter: 46,
} as const;

const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  master: 10,
  linkInfo: 18,
  netNsFd: 28,
  linkNetNsId: 37,
  infoKind: 1,
  infoData: 2,
} as const;
const VETH_INFO_PEER = 1;
const IFA = { address: 1, local: 2, broadcast: 4, flags: 8 } as const;
const RTA = { dst: 1, oif: 4, gateway: 5, priority: 6, source: 7, table: 15, via: 18 } as const;
const NDA = { dst: 1, lladdr: 2 } as const;
const TCA = { kind: 1, options: 2 } as const;
const TCA_BPF = { fd: 6, name: 7, flags: 8, id: 11 } as const;

const IFF_UP = 1;
const IFF_LOOPBACK = 8;
const IFF_RUNNING = 0x40;
const IFA_F_NODAD = 2;
const IFA_F_TENTATIVE = 0x40;
const TABLE_MAIN = 254;
const PROTOCOL_STATIC = 4;
const SCOPES = { 0: 'global', 200: 'site', 253: 'link', 254: 'host' } as const;
const SCOPE_UNIVERSE = 0;
const SCOPE_LINK = 253;
const SCOPE_HOST = 254;
const NUD_PERMANENT = 0x80;
/** Both directions of an interface hang below this qdisc. */
const CLSACT_HANDLE = 0xffff0000;
const CLSACT_PARENT = 0xfffffff1;
const FILTER_PARENT: Readonly<Record<TcDirection, number>> = { ingress: 0xfffffff2, egress: 0xfffffff3 };
/** ETH_P_ALL in network order, as `tcm_info` wants it. */
const ALL_PROTOCOLS = 0x0300;
const BPF_DIRECT_ACTION = 1;

/** A conversation with the kernel about one network namespace: the current one, or the one named. */
export class RouteSocket {
  readonly #netlink: NetlinkSocket;

  constructor(namespace?: NamespaceRef) {
    this.#netlink = new NetlinkSocket(namespace);
  }

  close(): void {
    this.#netlink.close();
  }

  links(): Link[] {
    return this.#netlink
      .request('list links', RTM.getLink, NLM_F_DUMP, linkHeader())
      .map(({ payload }) => parseLink(payload));
  }

  /** The interface of that name or index, undefined where there is none. */
  findLink(nameOrIndex: string | number): Link | undefined {
    const [header, ...attributes] =
      typeof nameOrIndex === 'number' ? [linkHeader(nameOrIndex)] : [linkHeader(), attribute(IFLA.name, nameOrIndex)];
    try {
      const answers = this.#netlink.request(
        `find interface ${nameOrIndex}`,
        RTM.getLink,
        0,
        pack(header!, ...attributes),
      );
      return answers[0] === undefined ? undefined : parseLink(answers[0].payload);
    } catch (error) {
      if (error instanceof NetlinkError && error.code === 'ENODEV') return undefined;
      throw error;
    }
  }

  link(nameOrIndex: string | number): Link {
    const found = this.findLink(nameOrIndex);
    if (found === undefined)
      throw new Error(`Cannot find interface "${nameOrIndex}": there is none in this network namespace`);
    return found;
  }

  /** Two interfaces joined by a cable; `peerNamespace` is where the second one goes. */
  addVeth(name: string, peerName: string, peerNamespace?: NamespaceRef): void {
    withNamespace(peerNamespace, (inPeer) =>
      this.#addLink(name, 'veth', attribute(VETH_INFO_PEER, linkHeader(), attribute(IFLA.name, peerName), ...inPeer)),
    );
  }

  addBridge(name: string): void {
    this.#addLink(name, 'bridge');
  }

  addDummy(name: string): void {
    this.#addLink(name, 'dummy');
  }

  /** IPv4 in IPv4. */
  addIpip(name: string, ends: TunnelEnds): void {
    this.#addLink(name, 'ipip', ...tunnelAttributes(ends, { local: 2, remote: 3, ttl: 4 }));
  }

  addGre(name: string, ends: TunnelEnds): void {
    this.#addLink(name, 'gre', ...tunnelAttributes(ends, { local: 6, remote: 7, ttl: 8 }));
  }

  deleteLink(name: string): void {
    this.#netlink.request(`delete interface ${name}`, RTM.deleteLink, 0, linkHeader(this.link(name).ifindex));
  }

  setUp(name: string): void {
    this.#setLink(`set ${name} up`, name, [], IFF_UP);
  }

  setDown(name: string): void {
    this.#setLink(`set ${name} down`, name, [], 0);
  }

  rename(name: string, to: string): void {
    this.#setLink(`rename ${name} to ${to}`, name, [attribute(IFLA.name, to)]);
  }

  setMac(name: string, mac: string): void {
    this.#setLink(`set the hardware address of ${name} to ${mac}`, name, [attribute(IFLA.address, parseMac(mac))]);
  }

  setMtu(name: string, mtu: number): void {
    this.#setLink(`set the MTU of ${name} to ${mtu}`, name, [attribute(IFLA.mtu, mtu)]);
  }

  /** Makes it a port of a bridge; null takes it out. */
  setMaster(name: string, master: string | null): void {
    const ifindex = master === null ? 0 : this.link(master).ifindex;
    this.#setLink(`make ${name} a port of ${master ?? 'nothing'}`, name, [attribute(IFLA.master, ifindex)]);
  }

  moveToNamespace(name: string, namespace: NamespaceRef): void {
    withNamespace(namespace, (inThere) => this.#setLink(`move ${name} to namespace ${namespace}`, name, inThere));
  }

  addresses(name?: string): InterfaceAddress[] {
    const ifindex = name === undefined ? undefined : this.link(name).ifindex;
    return this.#netlink
      .request('list addresses', RTM.getAddress, NLM_F_DUMP, addressHeader(0, 0, 0, 0))
      .map(({ payload }) => parseAddress(payload))
      .filter((address) => ifindex === undefined || address.ifindex === ifindex);
  }

  /** `nodad`: an IPv6 address that is usable at once, without asking the network whether another host has it. */
  addAddress(name: string, address: string, options: { readonly nodad?: boolean } = {}): void {
    this.#address(
      `add address ${address} to ${name}`,
      RTM.newAddress,
      NLM_F_CREATE | NLM_F_EXCL,
      name,
      address,
      options.nodad,
    );
  }

  deleteAddress(name: string, address: string): void {
    this.#address(`delete address ${address} from ${name}`, RTM.deleteAddress, 0, name, address, false);
  }

  /** Routes of the main table, or of `table`. */
  routes(table: number = TABLE_MAIN): Route[] {
    return this.#netlink
      .request('list routes', RTM.getRoute, NLM_F_DUMP, routeHeader(0, 0, 0, 0, 0))
      .flatMap(({ payload }) => parseRoute(payload))
      .filter((route) => route.table === table);
  }

  addRoute(route: RouteChange): void {
    this.#route(`add route ${describeRoute(route)}`, RTM.newRoute, NLM_F_CREATE | NLM_F_EXCL, route);
  }

  /** Adds the route, or takes the place of the one to the same destination. */
  replaceRoute(route: RouteChange): void {
    this.#route(`replace route ${describeRoute(route)}`, RTM.newRoute, NLM_F_CREATE | NLM_F_REPLACE, route);
  }

  deleteRoute(route: RouteChange): void {
    this.#route(`delete route ${describeRoute(route)}`, RTM.deleteRoute, 0, route);
  }

  /** A permanent neighbour entry: the kernel will not ask the network for this address. */
  addNeighbour(name: string, ip: string, mac: string): void {
    const action = `add neighbour ${ip} at ${mac} on ${name}`;
    const body = this.#neighbour(name, ip, attribute(NDA.lladdr, parseMac(mac)));
    this.#netlink.request(action, RTM.newNeighbour, NLM_F_CREATE | NLM_F_REPLACE, body);
  }

  deleteNeighbour(name: string, ip: string): void {
    this.#netlink.request(`delete neighbour ${ip} on ${name}`, RTM.deleteNeighbour, 0, this.#neighbour(name, ip));
  }

  /** The place where tc filters of both directions hang. Does nothing where it is there already. */
  addClsact(ifindex: number): void {
    try {
      this.#netlink.request(
        `add qdisc clsact to interface ${ifindex}`,
        RTM.newQdisc,
        NLM_F_CREATE | NLM_F_EXCL,
        pack(tcHeader(ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0), attribute(TCA.kind, 'clsact')),
      );
    } catch (error) {
      if (!(error instanceof NetlinkError && error.errno === errnoNumber('EEXIST'))) throw error;
    }
  }

  /** Takes every filter of both directions with it, other people's too. */
  deleteClsact(ifindex: number): void {
    this.#netlink.request(
      `delete qdisc clsact of interface ${ifindex}`,
      RTM.deleteQdisc,
      0,
      pack(tcHeader(ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0), attribute(TCA.kind, 'clsact')),
    );
  }

  /** Sets the program at (direction, priority, handle); one that is there is replaced without a packet in between. */
  setBpfFilter(
    ifindex: number,
    direction: TcDirection,
    programFd: number,
    name: string,
    priority: number,
    handle = 1,
  ): void {
    const options = attribute(
      TCA.options,
      attribute(TCA_BPF.fd, programFd),
      attribute(TCA_BPF.name, name),
      attribute(TCA_BPF.flags, BPF_DIRECT_ACTION),
    );
    this.#netlink.request(
      `set tc filter ${name} on ${direction} of interface ${ifindex}`,
      RTM.newFilter,
      NLM_F_CREATE | NLM_F_REPLACE,
      pack(filterHeader(ifindex, direction, priority, handle), attribute(TCA.kind, 'bpf'), options),
    );
  }

  deleteBpfFilter(ifindex: number, direction: TcDirection, priority: number, handle = 1): void {
    this.#netlink.request(
      `delete tc filter on ${direction} of interface ${ifindex}`,
      RTM.deleteFilter,
      0,
      pack(filterHeader(ifindex, direction, priority, handle), attribute(TCA.kind, 'bpf')),
    );
  }

  /** BPF filters of one direction, in the order in which they see a packet. */
  bpfFilters(ifindex: number, direction: TcDirection): BpfFilter[] {
    const header = tcHeader(ifindex, 0, FILTER_PARENT[direction], 0);
    return this.#netlink
      .request(`list tc filters on ${direction} of interface ${ifindex}`, RTM.getFilter, NLM_F_DUMP, header)
      .flatMap(({ payload }) => parseFilter(payload));
  }

  #addLink(name: string, kind: string, ...data: readonly Uint8Array[]): void {
    const info = [attribute(IFLA.infoKind, kind), ...(data.length === 0 ? [] : [attribute(IFLA.infoData, ...data)])];
    const body = pack(linkHeader(), attribute(IFLA.name, name), attribute(IFLA.linkInfo, ...info));
    this.#netlink.request(`add ${kind} interface ${name}`, RTM.newLink, NLM_F_CREATE | NLM_F_EXCL, body);
  }

  #setLink(action: string, name: string, attributes: readonly Uint8Array[], up?: number): void {
    const header = linkHeader(this.link(name).ifindex, up ?? 0, up === undefined ? 0 : IFF_UP);
    this.#netlink.request(action, RTM.newLink, 0, pack(header, ...attributes));
  }

  #address(action: string, type: number, flags: number, name: string, address: string, nodad = false): void {
    const prefix = parsePrefix(address);
    const scope = isLinkLocal(prefix.address) ? SCOPE_LINK : isLoopback(prefix.address) ? SCOPE_HOST : SCOPE_UNIVERSE;
    const body = pack(
      addressHeader(prefix.family, prefix.length, scope, this.link(name).ifindex),
      attribute(IFA.local, prefix.address),
      attribute(IFA.address, prefix.address),
      ...(nodad ? [attribute(IFA.flags, IFA_F_NODAD)] : []),
    );
    this.#netlink.request(action, type, flags, body);
  }

  #route(action: string, type: number, flags: number, route: RouteChange): void {
    const prefix = route.to === 'default' ? undefined : parsePrefix(route.to);
    const hint = route.via ?? route.source;
    const family = prefix?.family ?? (hint === undefined ? familyNumber(route.family ?? 4) : ipFamily(parseIp(hint)));
    const via = route.via === undefined ? undefined : parseIp(route.via);
    const kind = ROUTE_TYPES[route.type ?? 'unicast'];
    const nowhere = kind >= ROUTE_TYPES.blackhole;
    const scope =
      kind === ROUTE_TYPES.local
        ? SCOPE_HOST
        : via === undefined && !nowhere && family === AF_INET
          ? SCOPE_LINK
          : SCOPE_UNIVERSE;
    const attributes = [attribute(RTA.table, route.table ?? TABLE_MAIN)];
    if (prefix !== undefined) attributes.push(attribute(RTA.dst, prefix.address));
    if (via !== undefined) {
      // IPv4 through an IPv6 next hop (RFC 5549) has an attribute of its own that names the family.
      if (ipFamily(via) === family) attributes.push(attribute(RTA.gateway, via));
      else attributes.push(attribute(RTA.via, pack([2, ipFamily(via)], via)));
    }
    if (route.dev !== undefined) attributes.push(attribute(RTA.oif, this.link(route.dev).ifindex));
    if (route.source !== undefined) attributes.push(attribute(RTA.source, parseIp(route.source)));
    if (route.metric !== undefined) attributes.push(attribute(RTA.priority, route.metric));
    this.#netlink.request(
      action,
      type,
      flags,
      pack(routeHeader(family, prefix?.length ?? 0, PROTOCOL_STATIC, scope, kind), ...attributes),
    );
  }

  #neighbour(name: string, ip: string, ...more: readonly Uint8Array[]): Uint8Array {
    const address = parseIp(ip);
    const header = pack(
      [1, ipFamily(address)],
      [1, 0],
      [2, 0],
      [4, this.link(name).ifindex],
      [2, NUD_PERMANENT],
      [1, 0],
      [1, 0],
    );
    return pack(header, attribute(NDA.dst, address), ...more);
  }
}

/** Opens a conversation, hands it to `action` and closes it. */
export function withRoutes<T>(namespace: NamespaceRef | undefined, action: (routes: RouteSocket) => T): T {
  const socket = new RouteSocket(namespace);
  try {
    return action(socket);
  } finally {
    socket.close();
  }
}

/** Gives `action` the attribute that names a namespace by an open file descriptor; none where it is undefined. */
function withNamespace(namespace: NamespaceRef | undefined, action: (attributes: readonly Uint8Array[]) => void): void {
  if (namespace === undefined) {
    action([]);
    return;
  }
  const fd = openNamespace(namespace);
  try {
    action([attribute(IFLA.netNsFd, fd)]);
  } finally {
    closeSync(fd);
  }
}

function linkHeader(ifindex = 0, flags = 0, change = 0): Uint8Array {
  return pack([1, 0], [1, 0], [2, 0], [4, ifindex], [4, flags], [4, change]);
}

function addressHeader(family: number, length: number, scope: number, ifindex: number): Uint8Array {
  return pack([1, family], [1, length], [1, 0], [1, scope], [4, ifindex]);
}

function routeHeader(family: number, length: number, protocol: number, scope: number, type: number): Uint8Array {
  return pack([1, family], [1, length], [1, 0], [1, 0], [1, 0], [1, protocol], [1, scope], [1, type], [4, 0]);
}

function tcHeader(ifindex: number, handle: number, parent: number, info: number): Uint8Array {
  return pack([1, 0], [1, 0], [2, 0], [4, ifindex], [4, handle], [4, parent], [4, info]);
}

function filterHeader(ifindex: number, direction: TcDirection, priority: number, handle: number): Uint8Array {
  return tcHeader(ifindex, handle, FILTER_PARENT[direction], ((priority << 16) | ALL_PROTOCOLS) >>> 0);
}

function tunnelAttributes(ends: TunnelEnds, types: { local: number; remote: number; ttl: number }): Uint8Array[] {
  const attributes = [attribute(types.local, parseIp(ends.local))];
  if (ends.remote !== undefined) attributes.push(attribute(types.remote, parseIp(ends.remote)));
  if (ends.ttl !== undefined) attributes.push(attribute(types.ttl, Uint8Array.of(ends.ttl)));
  return attributes;
}

export function parseLink(payload: Uint8Array): Link {
  const view = new DataView(payload.buffer, payload.byteOffset);
  const attributes = parseAttributes(payload, 16);
  const info = parseAttributes(attributes.get(IFLA.linkInfo) ?? new Uint8Array());
  const flags = view.getUint32(8, true);
  return {
    ifindex: view.getInt32(4, true),
    name: textOf(attributes.get(IFLA.name)) ?? '',
    mac: formatMac(attributes.get(IFLA.address) ?? new Uint8Array()),
    mtu: u32Of(attributes.get(IFLA.mtu)) ?? 0,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    kind: textOf(info.get(IFLA.infoKind)),
    peer: u32Of(attributes.get(IFLA.link)),
    peerElsewhere: attributes.has(IFLA.linkNetNsId),
    master: u32Of(attributes.get(IFLA.master)),
  };
}

export function parseAddress(payload: Uint8Array): InterfaceAddress {
  const view = new DataView(payload.buffer, payload.byteOffset);
  const attributes = parseAttributes(payload, 8);
  const address = attributes.get(IFA.local) ?? attributes.get(IFA.address) ?? new Uint8Array(4);
  const flags = u32Of(attributes.get(IFA.flags)) ?? view.getUint8(2);
  return {
    ifindex: view.getUint32(4, true),
    address: `${formatIp(address)}/${view.getUint8(1)}`,
    family: address.length === 4 ? 4 : 6,
    scope: SCOPES[view.getUint8(3) as keyof typeof SCOPES] ?? 'global',
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
  };
}

/** None for families other than IP: a dump of all families includes MPLS and multicast. */
function parseRoute(payload: Uint8Array): Route[] {
  const view = new DataView(payload.buffer, payload.byteOffset);
  const family = view.getUint8(0);
  const type = typeName(view.getUint8(7));
  if ((family !== AF_INET && family !== AF_INET6) || type === undefined) return [];
  const attributes = parseAttributes(payload, 12);
  const to = attributes.get(RTA.dst);
  const via = attributes.get(RTA.gateway) ?? attributes.get(RTA.via)?.subarray(2);
  const source = attributes.get(RTA.source);
  const ifindex = u32Of(attributes.get(RTA.oif));
  const metric = u32Of(attributes.get(RTA.priority));
  return [
    {
      to: to === undefined ? 'default' : `${formatIp(to)}/${view.getUint8(1)}`,
      family: family === AF_INET ? 4 : 6,
      ...(via === undefined ? {} : { via: formatIp(via) }),
      ...(ifindex === undefined ? {} : { ifindex }),
      ...(source === undefined ? {} : { source: formatIp(source) }),
      ...(metric === undefined ? {} : { metric }),
      table: u32Of(attributes.get(RTA.table)) ?? view.getUint8(4),
      type,
    },
  ];
}

/** None for filters of other kinds, and for the header that each priority has beside its filters. */
function parseFilter(payload: Uint8Array): BpfFilter[] {
  const view = new DataView(payload.buffer, payload.byteOffset);
  const attributes = parseAttributes(payload, 20);
  const options = parseAttributes(attributes.get(TCA.options) ?? new Uint8Array());
  const programId = u32Of(options.get(TCA_BPF.id));
  if (textOf(attributes.get(TCA.kind)) !== 'bpf' || programId === undefined) return [];
  return [
    {
      programId,
      name: textOf(options.get(TCA_BPF.name)) ?? '',
      priority: view.getUint32(16, true) >>> 16,
      handle: view.getUint32(8, true),
    },
  ];
}

function typeName(type: number): RouteType | undefined {
  return (Object.keys(ROUTE_TYPES) as RouteType[]).find((name) => ROUTE_TYPES[name] === type);
}

function describeRoute(route: RouteChange): string {
  const via = route.via === undefined ? '' : ` via ${route.via}`;
  return `${route.to}${via}${route.dev === undefined ? '' : ` dev ${route.dev}`}`;
}

function ipFamily(address: Uint8Array): number {
  return address.length === 4 ? AF_INET : AF_INET6;
}

function familyNumber(family: 4 | 6): number {
  return family === 4 ? AF_INET : AF_INET6;
}

function isLinkLocal(address: Uint8Array): boolean {
  return address.length === 16
    ? address[0] === 0xfe && (address[1]! & 0xc0) === 0x80
    : address[0] === 169 && address[1] === 254;
}

function isLoopback(address: Uint8Array): boolean {
  return address.length === 4 ? address[0] === 127 : address.every((byte, i) => byte === (i === 15 ? 1 : 0));
}
