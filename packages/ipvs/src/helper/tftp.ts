/**
 * TFTP (RFC 1350): the client asks on port 69, and the real server answers from another port, which it chooses for the transfer.
 * So a packet from any of its ports to the client's is expected, and seems to come from the same port of the virtual service.
 */
import { be16, htons, rawBe16, struct } from '@ipvsd/bpf';
import { expect } from '../connection/expected.ts';
import { TABLE_FULL } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { IPPROTO_UDP } from '../packet/headers.ts';
import { expectedOf } from './expectation.ts';
import type { Helper } from './helper.ts';

const Opcode = struct('tftp_opcode', { opcode: be16 });
const READ = htons(1);
const WRITE = htons(2);

export const tftp: Helper = {
  name: 'tftp',
  number: 2,
  protocol: IPPROTO_UDP,
  helps: 'TFTP, such as 69',
  ports: [],
  request(skb, _family, control, c) {
    const packet = skb.header(Opcode, control.payload & 0xfff);
    if (packet === null || (packet.opcode !== READ && packet.opcode !== WRITE)) {
      because(REASONS.unread);
      return;
    }
    const opening = expectedOf(c);
    if (opening === null) return;
    opening.clientPort = c.clientPort;
    opening.virtualPort = rawBe16(0);
    if (expect(control.connection, rawBe16(0)) >= TABLE_FULL) because(REASONS.unexpected);
  },
  reply() {},
};
