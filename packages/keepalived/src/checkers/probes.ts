/** From a check to the probe that carries it out. */
import type { Check } from '../model/configuration.ts';
import { dnsProbe } from './dns.ts';
import { fileProbe } from './file.ts';
import { httpProbe } from './http.ts';
import { miscProbe } from './misc.ts';
import { pingProbe } from './ping.ts';
import type { Probe } from './probe.ts';
import { smtpProbe } from './smtp.ts';
import { tcpProbe } from './tcp.ts';
import { udpProbe } from './udp.ts';

/** Undefined for BFD_CHECK, whose session has its own life. */
export function probeFor(check: Check): Probe | undefined {
  switch (check.kind) {
    case 'TCP_CHECK':
      return tcpProbe(check);
    case 'HTTP_GET':
    case 'SSL_GET':
      return httpProbe(check);
    case 'SMTP_CHECK':
      return smtpProbe(check);
    case 'DNS_CHECK':
      return dnsProbe(check);
    case 'UDP_CHECK':
      return udpProbe(check);
    case 'PING_CHECK':
      return pingProbe(check);
    case 'MISC_CHECK':
      return miscProbe(check);
    case 'FILE_CHECK':
      return fileProbe(check);
    case 'BFD_CHECK':
      return undefined;
  }
}
