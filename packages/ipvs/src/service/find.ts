/** Which virtual service a first packet asks for: firewall mark, address and port, FTP's data, all ports (spec section 3). */
import { htons, ntohs, rawBe16, stack } from '@ipvsd/bpf';
import type { Opening } from '../connection/opening.ts';
import { IPPROTO_TCP } from '../packet/headers.ts';
import { type Service, ServiceKey, services } from './service.ts';

const FTP = htons(21);
const FTP_DATA = 20;
/** Ports that any program may listen on, such as an FTP server's for passive data. */
const UNPRIVILEGED = 1024;

/** @subprog */
export function findService(opening: Opening): Service | null {
  const key = stack(ServiceKey, { family: opening.family });
  if (opening.mark !== 0) {
    key.mark = opening.mark;
    const marked = services.lookup(key);
    if (marked !== null) return marked;
    key.mark = 0;
  }
  key.address.a = opening.virtual.a;
  key.address.b = opening.virtual.b;
  key.address.c = opening.virtual.c;
  key.address.d = opening.virtual.d;
  key.protocol = opening.protocol;
  key.port = opening.virtualPort;
  const exact = services.lookup(key);
  if (exact !== null) return exact;
  if (opening.protocol === IPPROTO_TCP) {
    const port = ntohs(opening.virtualPort);
    if (port === FTP_DATA || port >= UNPRIVILEGED) {
      key.port = FTP;
      const ftp = services.lookup(key);
      if (ftp !== null) return ftp;
    }
  }
  key.port = rawBe16(0);
  return services.lookup(key);
}
