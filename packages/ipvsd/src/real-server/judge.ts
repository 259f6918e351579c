/**
 * What is wrong with a host as a real server, and what mends it: what `setup` does and what `check` says are one list.
 *
 * Facts from the kernel's documentation of arp_ignore, arp_announce and rp_filter (ip-sysctl): for each the larger value of
 * `all` and the interface counts.
 */
import { type Address, addressKind, type Family, familyOf } from '@ipvsd/director';
import { type Survey, type SurveyedInterface, sysctlOf } from './survey.ts';
import { type Decapsulation, hostPrefix, segmentSizeFor, type Wish } from './wish.ts';

/** A change that `setup` makes, and that `undo` takes back. */
export type Mend =
  | { readonly kind: 'up'; readonly interface: string }
  | { readonly kind: 'sysctl'; readonly name: string; readonly value: number }
  | { readonly kind: 'address'; readonly interface: string; readonly address: string }
  | { readonly kind: 'device'; readonly name: string; readonly tunnel: 'ipip' | 'gre'; readonly local: Address }
  | { readonly kind: 'programs'; readonly interface: string }
  | { readonly kind: 'vip'; readonly wish: Wish; readonly decapsulates: boolean; readonly segmentSize: number };

export interface Finding {
  /** For scripts. */
  readonly name: string;
  /** A hint is for the operator to judge: packets may well arrive. */
  readonly weight: 'wrong' | 'hint';
  readonly sentence: string;
  /** What mends it, as one would type it. */
  readonly command: string;
  /** Set-up does it itself; without one it is the operator's to do. */
  readonly mend?: Mend;
  /** Nothing else is of use before this is mended. */
  readonly first?: true;
}

export const LOOPBACK = 'lo';
const ARP_IGNORE = 1;
const ARP_ANNOUNCE = 2;
const LOOSE = 2;
const STRICT = 1;

export interface Means {
  /** Names the device of the kernel's that opens these tunnels, where this kernel has it. */
  readonly decapsulation: Decapsulation;
}

export function judge(wish: Wish, survey: Survey, { decapsulation }: Means): Finding[] {
  return [
    ...judgeAddress(wish, survey),
    ...(familyOf(wish.vip) === 'ipv4' ? judgeArp(survey) : []),
    ...(wish.method === 'tun' ? judgeTunnel(wish, survey, decapsulation) : []),
    ...(familyOf(wish.vip) === 'ipv4' ? judgeReversePath(wish, survey) : []),
    ...judgeRoute(wish, survey),
  ];
}

/** The real server takes packets to the VIP for its own, and no more than the VIP. */
function judgeAddress(wish: Wish, survey: Survey): Finding[] {
  const { vip } = wish;
  const whole = hostPrefix(vip);
  const found: Finding[] = [];
  const loopback = survey.interfaces.find(({ loopback }) => loopback);
  const lo = loopback?.name ?? LOOPBACK;
  if (loopback?.up !== true) {
    found.push({
      name: 'loopback-down',
      weight: 'wrong',
      sentence: `${lo} is down, so no address on it is this host's.`,
      command: `ip link set ${lo} up`,
      mend: { kind: 'up', interface: lo },
    });
  }
  const there = survey.addresses.filter(({ address }) => address.split('/')[0] === vip);
  for (const { interface: name, address } of there) {
    const arps = survey.interfaces.find((one) => one.name === name)?.ethernet === true;
    if (arps) {
      found.push({
        name: 'vip-announced',
        weight: 'wrong',
        sentence: `${vip} is on ${name}: this host answers ${familyOf(vip) === 'ipv4' ? 'ARP' : 'neighbour solicitations'} for it and takes clients from the director.`,
        command: `ip address delete ${address} dev ${name}`,
        first: true,
      });
    } else if (name === lo && address !== whole) {
      found.push({
        name: 'vip-prefix',
        weight: 'wrong',
        sentence: `${address} on ${lo} makes all of that network local: this host reaches none of its neighbours there.`,
        command: `ip address delete ${address} dev ${lo} && ip address add ${whole} dev ${lo}`,
        first: true,
      });
    }
  }
  if (there.length === 0) {
    found.push({
      name: 'vip-missing',
      weight: 'wrong',
      sentence: `No interface has ${vip}: its packets are not for this host.`,
      command: `ip address add ${whole} dev ${lo}`,
      mend: { kind: 'address', interface: lo, address: whole },
    });
  }
  return found;
}

/** Who asks the segment for the VIP must hear the director only; the kernel would answer for any address of the host. */
function judgeArp({ interfaces }: Survey): Finding[] {
  const arping = interfaces.filter(({ ethernet, up }) => ethernet && up);
  const answering = arping.filter(({ arpIgnore }) => arpIgnore === 0);
  const announcing = arping.filter(({ arpAnnounce }) => arpAnnounce < ARP_ANNOUNCE);
  const found: Finding[] = [];
  if (answering.length > 0) {
    found.push(
      sysctl(
        'arp-answered',
        'all',
        'arp_ignore',
        ARP_IGNORE,
        `${names(answering)}: ARP for the VIP is answered, as for any address of this host.`,
      ),
    );
  }
  if (announcing.length > 0) {
    found.push(
      sysctl(
        'arp-announced',
        'all',
        'arp_announce',
        ARP_ANNOUNCE,
        `${names(announcing)}: ARP requests of this host may name the VIP as their sender, and neighbours believe it.`,
      ),
    );
  }
  return found;
}

function judgeTunnel(wish: Wish, survey: Survey, decapsulation: Decapsulation): Finding[] {
  const found: Finding[] = [];
  const ways = survey.interfaces.filter(({ ethernet, up }) => ethernet && up);
  const again = `ipvsd real-server setup --vip ${wish.vip} --method tun${wish.tunnel === 'ipip' ? '' : ` --tunnel ${wish.tunnel}`}`;
  const known = survey.programs.get(wish.vip);
  if (decapsulation === 'device') {
    const name = deviceOf(wish.tunnel);
    const device = survey.interfaces.find((one) => one.name === name);
    const local = ownAddress(wish, survey);
    if (device === undefined && local !== undefined && wish.tunnel !== 'gue') {
      found.push({
        name: 'no-decapsulation',
        weight: 'wrong',
        sentence: `Nothing takes the outer header of ${wish.tunnel} off.`,
        command: `ip link add ${name} type ${wish.tunnel} local ${local} && ip link set ${name} up`,
        mend: { kind: 'device', name, tunnel: wish.tunnel, local },
      });
    } else if (device?.up === false) {
      found.push({
        name: 'no-decapsulation',
        weight: 'wrong',
        sentence: `${name} is down, so nothing takes the outer header of ${wish.tunnel} off.`,
        command: `ip link set ${name} up`,
        mend: { kind: 'up', interface: name },
      });
    }
  }
  const most = largestSegment(wish, survey, ways);
  const decapsulates = decapsulation === 'program';
  for (const { name } of ways.filter((way) => !survey.attached.has(way.name))) {
    if (!decapsulates && most === 0) continue;
    found.push({
      name: decapsulates ? 'no-decapsulation' : 'mtu',
      weight: 'wrong',
      sentence: decapsulates
        ? `Nothing takes the outer header of ${wish.tunnel} off what arrives on ${name}.`
        : `Clients are not told through ${name} what fits with an outer header.`,
      command: again,
      mend: { kind: 'programs', interface: name },
    });
  }
  const vip = { kind: 'vip', wish, decapsulates, segmentSize: most } as const;
  if (
    decapsulates &&
    (known === undefined || known.tunnels === 0 || (wish.tunnel === 'gue' && known.port !== wish.port))
  ) {
    found.push({
      name: 'no-decapsulation',
      weight: 'wrong',
      sentence: `What comes by ${wish.tunnel}${wish.tunnel === 'gue' ? ` to port ${wish.port}` : ''} for ${wish.vip} is not opened.`,
      command: again,
      mend: vip,
    });
  } else if (most !== 0 && (known === undefined || known.segmentSize === 0 || known.segmentSize > most)) {
    found.push({
      name: 'mtu',
      weight: 'wrong',
      sentence: `Clients of ${wish.vip} are told to send segments of more than ${most} bytes, which do not fit with an outer header.`,
      command: again,
      mend: vip,
    });
  }
  return found;
}

/** 0: clients are told nothing. */
function largestSegment(wish: Wish, survey: Survey, ways: readonly SurveyedInterface[]): number {
  if (wish.segmentSize === 'off' || ways.length === 0) return 0;
  if (wish.segmentSize !== 'auto') return wish.segmentSize;
  return segmentSizeFor(wish, outerFamily(wish, survey), Math.min(...ways.map(({ mtu }) => mtu)));
}

/** In which the director sends; where that is not said, the one with the longer header that it could. */
function outerFamily({ vip, director }: Wish, { addresses }: Survey): Family {
  if (director !== undefined) return familyOf(director);
  const has6 = addresses.some(({ address }) => {
    const [ip = ''] = address.split('/');
    return ip !== vip && ip !== '::1' && familyOf(ip) === 'ipv6' && addressKind(ip) === 'unicast';
  });
  return has6 ? 'ipv6' : 'ipv4';
}

export const deviceOf = (tunnel: Wish['tunnel']): string => `ipvsd-${tunnel}`;

/** This host's own address on the way that replies take: where tunnels lead. */
function ownAddress({ vip }: Wish, { addresses, routes, interfaces }: Survey): Address | undefined {
  const way = routes.find(({ to, family }) => to === 'default' && family === 'ipv4')?.interface;
  const candidates = addresses.filter(
    ({ address, interface: name }) =>
      !address.includes(':') &&
      address.split('/')[0] !== vip &&
      interfaces.some((one) => one.name === name && one.ethernet),
  );
  return (candidates.find((one) => one.interface === way) ?? candidates[0])?.address.split('/')[0];
}

/** What arrives from a client on an interface that does not lead to it is dropped where rp_filter is strict. */
function judgeReversePath(wish: Wish, { interfaces, routes }: Survey): Finding[] {
  const way = routes.find(({ to, family }) => to === 'default' && family === 'ipv4')?.interface;
  return interfaces
    .filter(({ loopback, up, rpFilter }) => !loopback && up && rpFilter === STRICT)
    .filter(({ name }) => name === deviceOf(wish.tunnel) || name !== way)
    .map(({ name }) =>
      sysctl(
        'rp-filter',
        name,
        'rp_filter',
        LOOSE,
        `${name}: packets from clients are dropped there, as replies to them leave ${way === undefined ? 'nowhere' : `through ${way}`} (rp_filter is strict).`,
      ),
    );
}

/** Replies go straight to the client. */
function judgeRoute({ vip, director }: Wish, { routes }: Survey): Finding[] {
  const family = familyOf(vip);
  const defaults = routes.filter((route) => route.to === 'default' && route.family === family);
  if (defaults.length === 0) {
    return [
      {
        name: 'no-default-route',
        weight: 'hint',
        sentence: 'There is no default route: clients beyond the networks that this host has routes to get no answer.',
        command: `ip ${family === 'ipv6' ? '-6 ' : ''}route add default via ROUTER`,
      },
    ];
  }
  return defaults
    .filter(({ via }) => via !== undefined && via === director)
    .map(({ via }) => ({
      name: 'gateway-is-director',
      weight: 'wrong',
      sentence: `Replies leave by ${via}, the director, which does not expect packets from its own virtual address.`,
      command: `ip ${family === 'ipv6' ? '-6 ' : ''}route replace default via ROUTER`,
    }));
}

function sysctl(name: string, interfaceName: string, setting: string, value: number, sentence: string): Finding {
  const path = sysctlOf(interfaceName, setting);
  const dotted = interfaceName.includes('.') ? path : path.replaceAll('/', '.');
  return {
    name,
    weight: 'wrong',
    sentence,
    command: `sysctl -w ${dotted}=${value}`,
    mend: { kind: 'sysctl', name: path, value },
  };
}

const names = (interfaces: readonly SurveyedInterface[]): string => interfaces.map(({ name }) => name).join(', ');
