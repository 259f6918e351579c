/** What there is on this host, as far as it matters for a real server: one plain value, so that judging it asks nothing. */
import { hasSysctl, readSysctl, withRoutes } from '@ipvsd/linux';
import { hasPrograms, readPrograms } from './programs.ts';

export interface SurveyedInterface {
  readonly name: string;
  readonly ifindex: number;
  readonly loopback: boolean;
  readonly up: boolean;
  /** Has a link address: it asks and answers ARP. */
  readonly ethernet: boolean;
  readonly kind: string | undefined;
  readonly mtu: number;
  /** As they count: the larger of the interface's own and that of `all`. */
  readonly arpIgnore: number;
  readonly arpAnnounce: number;
  readonly rpFilter: number;
}

export interface SurveyedRoute {
  readonly to: string;
  readonly family: 'ipv4' | 'ipv6';
  readonly via: string | undefined;
  readonly interface: string | undefined;
}

export interface ProgramsOfVip {
  readonly tunnels: number;
  readonly port: number;
  readonly segmentSize: number;
}

export interface Survey {
  readonly interfaces: readonly SurveyedInterface[];
  /** With prefix length. */
  readonly addresses: readonly { readonly interface: string; readonly address: string; readonly tentative: boolean }[];
  readonly routes: readonly SurveyedRoute[];
  /** Names of interfaces that our programs are on. */
  readonly attached: ReadonlySet<string>;
  /** What our programs know, by virtual address. */
  readonly programs: ReadonlyMap<string, ProgramsOfVip>;
}

export function surveyHost(): Survey {
  return withRoutes(undefined, (routes) => {
    const links = routes.links();
    const nameOf = (ifindex: number | undefined): string | undefined =>
      links.find((link) => link.ifindex === ifindex)?.name;
    return {
      interfaces: links.map(({ name, ifindex, loopback, up, mac, kind, mtu }) => ({
        name,
        ifindex,
        loopback,
        up,
        ethernet: !loopback && mac.length === '00:00:00:00:00:00'.length,
        kind,
        mtu,
        arpIgnore: effective('arp_ignore', name),
        arpAnnounce: effective('arp_announce', name),
        rpFilter: effective('rp_filter', name),
      })),
      addresses: routes.addresses().map(({ ifindex, address, tentative }) => ({
        interface: nameOf(ifindex) ?? '',
        address,
        tentative,
      })),
      routes: routes
        .routes()
        .flatMap(({ to, family, via, ifindex, type }) =>
          type === 'unicast'
            ? [{ to, family: family === 4 ? ('ipv4' as const) : ('ipv6' as const), via, interface: nameOf(ifindex) }]
            : [],
        ),
      attached: new Set(links.filter(({ ifindex }) => hasPrograms(ifindex)).map(({ name }) => name)),
      programs: readPrograms(),
    };
  });
}

function effective(setting: string, name: string): number {
  return Math.max(read(setting, 'all'), read(setting, name));
}

function read(setting: string, name: string): number {
  const path = sysctlOf(name, setting);
  return hasSysctl(path) ? Number(readSysctl(path)) : 0;
}

/** With slashes: an interface's name may have a dot in it. */
export const sysctlOf = (interfaceName: string, setting: string): string => `net/ipv4/conf/${interfaceName}/${setting}`;
