/** How an address and port are written: as numbers, or by the names that were looked up for them beforehand. */
import { type Address, familyOf } from '@ipvsd/director';
import type { NamedProtocol, Names } from './services-names.ts';

export type Label = (address: Address, port: number, protocol: NamedProtocol) => string;

export const numericLabel: Label = (address, port) => `${bracketed(address, address)}:${port}`;

/** Looks up all addresses at once, so that one slow name server costs its delay once. */
export async function namedLabel(names: Names, addresses: Iterable<Address>): Promise<Label> {
  const unique = [...new Set(addresses)];
  const found = await Promise.all(unique.map((address) => names.hostName(address)));
  const hosts = new Map(unique.map((address, index) => [address, found[index] ?? address]));
  return (address, port, protocol) => {
    const host = bracketed(hosts.get(address) ?? address, address);
    return `${host}:${names.serviceName(port, protocol) ?? port}`;
  };
}

function bracketed(text: string, address: Address): string {
  return familyOf(address) === 'ipv6' ? `[${text}]` : text;
}
