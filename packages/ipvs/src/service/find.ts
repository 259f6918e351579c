/** Which virtual service a first packet asks for: firewall mark, then address and port (spec section 3). */
import { type be16, rawBe16, stack, type u8, type u32 } from '@ipvsd/bpf';
import type { Address6 } from '../packet/address.ts';
import { type Service, ServiceKey, services } from './service.ts';

export function findService(family: u8, protocol: u8, mark: u32, address: Address6, port: be16): Service | null {
  const key = stack(ServiceKey, { family });
  if (mark !== 0) {
    key.mark = mark;
    const marked = services.lookup(key);
    if (marked !== null) return marked;
    key.mark = 0;
  }
  key.address.a = address.a;
  key.address.b = address.b;
  key.address.c = address.c;
  key.address.d = address.d;
  key.protocol = protocol;
  key.port = port;
  const exact = services.lookup(key);
  if (exact !== null) return exact;
  key.port = rawBe16(0);
  return services.lookup(key);
}
