/** Random tables, holding everything a command can put there, for the property tests of this package and its users. */
import fc from 'fast-check';
import { addressKind, formatAddress } from '../address.ts';
import { builtInSchedulers } from '../environment.ts';
import {
  type ForwardingMethod,
  fullMask,
  mayCross,
  noFigures,
  plainTunnel,
  type RealServer,
  realServerKey,
  type ServiceId,
  serviceKey,
  type Tunnel,
  type VirtualService,
} from '../model.ts';
import { emptyTable, type ServiceTable } from '../service-table.ts';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
/** Few values make equal neighbours likely, which is where mistakes live. */
const smallByte = fc.constantFrom(0, 1, 2, 10, 100, 192, 255);

const ipv4 = fc.oneof(
  bytes(4),
  fc.array(smallByte, { minLength: 4, maxLength: 4 }).map((all) => Uint8Array.from(all)),
);
const ipv6 = fc.oneof(
  bytes(16),
  fc.array(smallByte, { minLength: 16, maxLength: 16 }).map((all) => Uint8Array.from(all)),
);
const addressOf = { ipv4: ipv4.map(formatAddress), ipv6: ipv6.map(formatAddress) };
const unicastOf = {
  ipv4: addressOf.ipv4.filter((address) => addressKind(address) === 'unicast'),
  ipv6: addressOf.ipv6.filter((address) => addressKind(address) === 'unicast'),
};
const family = fc.constantFrom('ipv4' as const, 'ipv6' as const);
const port = fc.oneof(fc.constantFrom(0, 80, 443), fc.nat(65535));

export const serviceIds: fc.Arbitrary<ServiceId> = family.chain((family) =>
  fc.oneof(
    fc.record({
      kind: fc.constant('address' as const),
      family: fc.constant(family),
      protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
      address: addressOf[family],
      port,
    }),
    fc.record({
      kind: fc.constant('fwmark' as const),
      family: fc.constant(family),
      fwmark: fc.integer({ min: 1, max: 0xffffffff }),
    }),
  ),
);

const tunnels: fc.Arbitrary<Tunnel> = fc.oneof(
  fc.constant(plainTunnel),
  fc.record({
    type: fc.constant('gue' as const),
    port: fc.integer({ min: 1, max: 65535 }),
    checksum: fc.constantFrom('none' as const, 'full' as const, 'remote' as const),
  }),
  fc.record({
    type: fc.constant('gre' as const),
    port: fc.constant(0),
    checksum: fc.constantFrom('none' as const, 'full' as const),
  }),
);

const methods: readonly ForwardingMethod[] = ['masq', 'tunnel', 'route', 'fullnat'];

function realServers(id: ServiceId): fc.Arbitrary<RealServer> {
  const numbers = fc.record({
    forwarding: fc.constantFrom(...methods),
    weight: fc.nat(0x7fffffff),
    thresholds: fc.tuple(fc.nat(0x7fffffff), fc.nat(0x7fffffff)),
    port,
    tunnel: tunnels,
    otherFamily: fc.boolean(),
    ipv4: unicastOf.ipv4,
    ipv6: unicastOf.ipv6,
  });
  return numbers.map(({ forwarding, weight, thresholds: [a, b], port, tunnel, otherFamily, ...addresses }) => {
    const other = id.family === 'ipv4' ? 'ipv6' : 'ipv4';
    const family = mayCross(forwarding, id.family) && otherFamily ? other : id.family;
    const keepsPort = id.kind === 'address' && (forwarding === 'tunnel' || forwarding === 'route');
    return {
      address: addresses[family],
      port: keepsPort ? id.port : port,
      family,
      forwarding,
      weight,
      upperThreshold: Math.max(a, b),
      lowerThreshold: Math.min(a, b),
      tunnel: forwarding === 'tunnel' ? tunnel : plainTunnel,
      activeConnections: 0,
      inactiveConnections: 0,
      persistentConnections: 0,
      stats: noFigures,
      rates: noFigures,
    };
  });
}

export const virtualServices: fc.Arbitrary<VirtualService> = serviceIds
  .chain((id) => {
    const mayBeOnePacket = id.kind === 'fwmark' || id.protocol === 'udp';
    const persistence = fc.record({
      timeoutSeconds: fc.integer({ min: 1, max: 2678400 }),
      netmask: id.family === 'ipv4' ? fc.integer({ min: 0, max: fullMask.ipv4 }) : fc.integer({ min: 1, max: 128 }),
    });
    return fc.record({
      id: fc.constant(id),
      scheduler: fc.constantFrom(...builtInSchedulers),
      schedulerFlags: fc.nat(7),
      persistence: id.kind === 'address' && id.port === 0 ? persistence : fc.option(persistence),
      persistenceEngine: fc.option(fc.constant('sip')),
      onePacket: mayBeOnePacket ? fc.boolean() : fc.constant(false),
      realServers: fc.uniqueArray(realServers(id), { selector: realServerKey, maxLength: 8 }),
      localAddresses: fc.uniqueArray(
        mayCross('fullnat', id.family) ? fc.oneof(unicastOf.ipv4, unicastOf.ipv6) : unicastOf[id.family],
        { maxLength: 3 },
      ),
      stats: fc.constant(noFigures),
      rates: fc.constant(noFigures),
    });
  })
  .map((service) => ({
    ...service,
    // FULLNAT and one-packet scheduling exclude each other.
    onePacket: service.onePacket && service.realServers.every(({ forwarding }) => forwarding !== 'fullnat'),
  }));

export const serviceTables: fc.Arbitrary<ServiceTable> = fc
  .record({
    services: fc.uniqueArray(virtualServices, { selector: ({ id }) => serviceKey(id), maxLength: 12 }),
    timeouts: fc.record({
      tcp: fc.integer({ min: 1, max: 2678400 }),
      tcpFin: fc.integer({ min: 1, max: 2678400 }),
      udp: fc.integer({ min: 1, max: 2678400 }),
    }),
  })
  .map(({ services, timeouts }) => ({
    ...emptyTable(),
    services: new Map(services.map((service) => [serviceKey(service.id), service])),
    timeouts,
  }));
