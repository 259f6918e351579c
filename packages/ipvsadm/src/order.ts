/**
 * The order of a listing: marks, family, protocol, address, port. Marks and IPv4 addresses are compared by a 32-bit
 * subtraction, as the original does, so 192.0.2.1 stands before 10.0.0.1 and the circle 10 < 100 < 192 < 10 exists; what
 * a list looks like then depends on how it is sorted, hence a merge sort of our own, the one of the C library.
 */
import { addressBytes, ipv4Number, type Protocol, type RealServer, type VirtualService } from '@ipvsd/director';

const protocolNumbers: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 };

export function sortServices(services: readonly VirtualService[]): VirtualService[] {
  return mergeSort(services.map(serviceRank), compareRanks).map(({ item }) => item);
}

export function sortServers(servers: readonly RealServer[]): RealServer[] {
  return mergeSort(servers.map(serverRank), compareRanks).map(({ item }) => item);
}

/** What is compared, read once per item. */
interface Rank<T> {
  readonly item: T;
  readonly mark: number;
  readonly ipv6: Uint8Array | undefined;
  readonly protocol: number;
  readonly ipv4: number;
  readonly port: number;
}

function serviceRank(item: VirtualService): Rank<VirtualService> {
  if (item.id.kind === 'fwmark') {
    const ipv6 = item.id.family === 'ipv6' ? new Uint8Array(16) : undefined;
    return { item, mark: item.id.fwmark, ipv6, protocol: 0, ipv4: 0, port: 0 };
  }
  const { family, protocol, address, port } = item.id;
  return { item, mark: 0, ...addressRank(family, address), protocol: protocolNumbers[protocol], port };
}

function serverRank(item: RealServer): Rank<RealServer> {
  return { item, mark: 0, ...addressRank(item.family, item.address), protocol: 0, port: item.port };
}

function addressRank(family: string, address: string) {
  return family === 'ipv6' ? { ipv6: addressBytes(address), ipv4: 0 } : { ipv6: undefined, ipv4: ipv4Number(address) };
}

function compareRanks(a: Rank<unknown>, b: Rank<unknown>): number {
  return (
    subtract(a.mark, b.mark) ||
    Number(a.ipv6 !== undefined) - Number(b.ipv6 !== undefined) ||
    a.protocol - b.protocol ||
    (a.ipv6 && b.ipv6 ? Buffer.compare(a.ipv6, b.ipv6) : subtract(a.ipv4, b.ipv4)) ||
    a.port - b.port
  );
}

/** The difference as a C int keeps it. */
function subtract(a: number, b: number): number {
  return (a - b) | 0;
}

function mergeSort<T>(items: readonly T[], compare: (a: T, b: T) => number): T[] {
  if (items.length < 2) return [...items];
  const middle = Math.floor(items.length / 2);
  const left = mergeSort(items.slice(0, middle), compare);
  const right = mergeSort(items.slice(middle), compare);
  const merged: T[] = [];
  let [i, j] = [0, 0];
  while (i < left.length && j < right.length) {
    merged.push(compare(left[i]!, right[j]!) <= 0 ? left[i++]! : right[j++]!);
  }
  return merged.concat(left.slice(i), right.slice(j));
}
