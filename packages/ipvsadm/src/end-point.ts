/** `host[:port]` of a virtual service or a real server. */
import { type Address, ipv4FromNumber, parseAddress } from '@ipvsd/director';
import { readIPv4, readNumber } from './numbers.ts';
import type { NamedProtocol, Names } from './services-names.ts';

export interface EndPointText {
  readonly address: Address;
  readonly port: number | undefined;
}

/**
 * `[v6]:port`, a bare IPv6 address without port, or IPv4 or a host name with what follows the last colon as its port.
 * A word of digits alone is refused, or a forgotten address would become 0.0.0.N. What stands in brackets and is not
 * IPv6 loses its port: so does the original, and rules saved without -n by it come back just as they did.
 */
export async function readEndPoint(
  text: string,
  protocol: NamedProtocol,
  names: Names,
): Promise<EndPointText | undefined> {
  if (/^[0-9]*$/.test(text)) return undefined;
  const bracketed = /^\[([^\]]*)\]:(.*)$/s.exec(text);
  if (text.startsWith('[') && !bracketed) return undefined;
  const host = bracketed ? bracketed[1]! : text;

  const ipv6 = host.includes(':') ? parseAddress(host) : undefined;
  if (ipv6) return withPort(ipv6, bracketed?.[2], protocol, names);

  const colon = host.lastIndexOf(':');
  const address = await readHost(colon < 0 ? host : host.slice(0, colon), names);
  return address ? withPort(address, colon < 0 ? undefined : host.slice(colon + 1), protocol, names) : undefined;
}

/** An IPv4 address in any notation of inet_aton, or the first one of a host. */
export async function readHost(text: string, names: Names): Promise<Address | undefined> {
  const number = readIPv4(text);
  return number === undefined ? names.hostAddress(text) : ipv4FromNumber(number);
}

function withPort(address: Address, text: string | undefined, protocol: NamedProtocol, names: Names) {
  if (text === undefined) return { address, port: undefined };
  const port = readNumber(text, 0, 65535) ?? names.servicePort(text, protocol);
  return port === undefined ? undefined : { address, port };
}
