/**
 * Every reason to pass or drop a packet that is not plain forwarding: a counter with a name and a sentence.
 *
 * The sentences are the operator's documentation (docs/counters.md is made from them); the order is the counter's number.
 */
import { percpuArray, struct, TC_ACT_SHOT, TC_ACT_UNSPEC, u64 } from '@ipvsd/bpf';

export interface Reason {
  readonly name: string;
  readonly verdict: 'pass' | 'drop';
  readonly sentence: string;
}

const reason = (verdict: Reason['verdict'], name: string, sentence: string): Reason => ({ name, verdict, sentence });

export const REASONS = {
  truncated: reason('pass', 'truncated', 'The packet ends inside its headers; the host judges it.'),
  malformed: reason('pass', 'malformed', 'The IP header says what no IP header may say; the host judges it.'),
  fragment: reason(
    'pass',
    'fragment',
    'A fragment whose first one is of no connection, or which cannot wait for it; the host judges it.',
  ),
  noService: reason(
    'pass',
    'noService',
    'A first packet to a port where no virtual service listens; the host answers.',
  ),
  notFirst: reason(
    'pass',
    'notFirst',
    'A packet to a virtual service that neither belongs to a connection nor may open one; the host answers.',
  ),
  ignored: reason(
    'pass',
    'ignored',
    'A first packet that a virtual service is not for: from port 20 (active FTP), or to another port of an FTP service.',
  ),
  backupOnly: reason(
    'pass',
    'backupOnly',
    'backup_only is set and a backup daemon runs: this director balances nothing.',
  ),
  tunneled: reason('pass', 'tunneled', 'The packet came in a tunnel, and ignore_tunneled is set: the host has it.'),
  bypassed: reason(
    'pass',
    'bypassed',
    'A packet of a connection that goes past the real servers to its own destination (cache_bypass).',
  ),
  local: reason('pass', 'local', 'A packet of a connection whose real server is the director itself.'),
  reply: reason(
    'pass',
    'reply',
    'A reply of a connection that is not translated (DR, TUN): its state is followed and the host forwards it.',
  ),
  noCallId: reason(
    'drop',
    'noCallId',
    'A first packet to a service with the persistence engine sip that is no SIP message with a Call-ID over UDP.',
  ),
  defence: reason('drop', 'defence', 'A first packet dropped while memory for connections is short (drop_packet).'),
  tooLong: reason(
    'drop',
    'tooLong',
    'The packet does not fit on its way. Where it may not be fragmented, its sender is told what fits.',
  ),
  noServer: reason(
    'drop',
    'noServer',
    'A virtual service has no real server that takes the packet; the client hears ICMP port unreachable.',
  ),
  tableFull: reason(
    'drop',
    'tableFull',
    'A new connection found the connection table full; established ones are never evicted for it.',
  ),
  noLocalAddress: reason(
    'drop',
    'noLocalAddress',
    'A first packet for a real server behind FULLNAT, and its virtual service has no local address (ipvsadm -P adds one).',
  ),
  noLocalPort: reason(
    'drop',
    'noLocalPort',
    'A first packet found no free local port towards its destination (FULLNAT, masquerading): more local addresses, a wider local_port_range or shorter timeouts help.',
  ),
  portless: reason(
    'drop',
    'portless',
    'AH or ESP of a connection under FULLNAT: without ports its replies could not be told from others.',
  ),
  untranslated: reason(
    'drop',
    'untranslated',
    'A packet between a client of IPv6 and a real server of IPv4 says what the other family cannot say: an ICMP error that it does not have, or the first fragment of a UDP datagram without a checksum.',
  ),
  untold: reason(
    'pass',
    'untold',
    "A packet under FULLNAT went on without its client's address (TOA, UOA, PROXY protocol): it or the way has no room, it is a fragment, or a large one that is cut later.",
  ),
  acknowledged: reason(
    'drop',
    'acknowledged',
    "An empty datagram by which a real server's module says that it was told of its client (UOA); the client has not asked for it.",
  ),
  unmasqueraded: reason(
    'drop',
    'unmasqueraded',
    'A packet of a masqueraded host to the outside that neither belongs to a connection nor may open one: nobody out there could answer it.',
  ),
  serverGone: reason(
    'drop',
    'serverGone',
    'A packet of a connection whose real server was removed, and expire_nodest_conn is 0.',
  ),
  timeToLive: reason(
    'drop',
    'timeToLive',
    'The packet may travel no further, its time to live or hop limit is 1; its sender is told.',
  ),
  noRoute: reason(
    'drop',
    'noRoute',
    'The kernel knows no route to the real server or to the client, or forwarding is off.',
  ),
  replyOutlived: reason(
    'pass',
    'replyOutlived',
    'A reply that may travel no further, its time to live or hop limit is 1; the host tells the real server.',
  ),
  replyTooLong: reason(
    'pass',
    'replyTooLong',
    'A reply that does not fit on the way to its client and may not be fragmented; the host tells the real server what fits.',
  ),
  fragmented: reason(
    'pass',
    'fragmented',
    'A translated request that does not fit on the way to its real server; the host sends it in fragments.',
  ),
  badChecksum: reason('drop', 'badChecksum', 'An ICMP error about a connection has a wrong checksum.'),
  tunnelError: reason(
    'drop',
    'tunnelError',
    'An ICMP error about a packet of ours in a tunnel; the client is told what became of its packet.',
  ),
  orphan: reason(
    'drop',
    'orphan',
    'A packet from a real server whose connection is gone; nat_icmp_send is set, so the real server is told.',
  ),
  fragmentWaits: reason(
    'drop',
    'fragmentWaits',
    'A fragment that has overtaken others: it is kept until they have come, and then comes in once more.',
  ),
  unread: reason(
    'pass',
    'unread',
    'What a helper would have to change is cut off by the end of its packet or not as its protocol has it; the packet goes on as it is.',
  ),
  unexpected: reason(
    'pass',
    'unexpected',
    'A connection that a helper read of could not be entered: the table is full, or its ports are in use; the packet goes on as it is.',
  ),
  corrupt: reason(
    'drop',
    'corrupt',
    'A table leads to an entry that does not exist: a defect of ours, please report it.',
  ),
} as const satisfies Record<string, Reason>;

export const REASON_LIST: readonly Reason[] = Object.values(REASONS);

export const Count = struct('count', { packets: u64 });
export const reasons = percpuArray('reasons', Count, { maxEntries: 64 });

/** Count a packet under `reason` and give its verdict. */
export function because(reason: Reason): number {
  const count = reasons.at(REASON_LIST.indexOf(reason));
  if (count !== null) count.packets = u64(count.packets + 1n);
  return reason.verdict === 'pass' ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}
