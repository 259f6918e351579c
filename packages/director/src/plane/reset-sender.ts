/**
 * The RSTs of connections that went by silence. The data plane says whom to tell what (ipvs/connection/idle.ts); sending it takes a
 * process, as a timer in the kernel has no packet at hand: `ipvsd run`, or `ipvsd resets` where there is no daemon.
 *
 * Each end must take the segment for its peer's: the client for the virtual service's, the real server for the client's. It goes
 * to the real server the way that the connection's packets went, translated, to its link address, or in a tunnel.
 */
import { ntohs } from '@ipvsd/bpf';
import type { KernelMap } from '@ipvsd/bpf/kernel';
import {
  AF_INET,
  ETHERNET,
  IdleEnd,
  idleEnds,
  METHOD_FULLNAT,
  METHOD_LOCAL,
  METHOD_MASQ,
  METHOD_ROUTE,
  tcpFrame,
} from '@ipvsd/ipvs';
import { parseIp, RawIpSocket } from '@ipvsd/linux';
import { loadAddress } from './codec.ts';
import type { KernelPlane } from './kernel-plane.ts';

/** A segment, and the host that is to get it where that is not its destination's. */
export interface Reset {
  readonly family: 4 | 6;
  readonly packet: Uint8Array;
  readonly hop?: Uint8Array;
}

export class ResetSender {
  readonly #queue: KernelMap;
  readonly #sockets = new Map<4 | 6, RawIpSocket>();
  readonly #complain: (error: Error) => void;

  /** `complain` hears of what could not be sent; the others are. */
  constructor(plane: KernelPlane, complain: (error: Error) => void) {
    this.#queue = plane.store(idleEnds) as KernelMap;
    this.#complain = complain;
  }

  /** Sends what is to be sent by now; answers with how many connections that was about. */
  turn(): number {
    let taken = 0;
    for (let end = this.#queue.pop(); end !== null; end = this.#queue.pop()) {
      for (const reset of resetsOf(IdleEnd.on(end))) this.#send(reset);
      taken++;
    }
    return taken;
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }

  #send({ family, packet, hop }: Reset): void {
    try {
      this.#socket(family).send(packet, hop);
    } catch (error) {
      this.#complain(error as Error);
    }
  }

  #socket(family: 4 | 6): RawIpSocket {
    const known = this.#sockets.get(family);
    if (known !== undefined) return known;
    const made = new RawIpSocket(family);
    this.#sockets.set(family, made);
    return made;
  }
}

/** What the ends of a connection are told. */
export function resetsOf(end: ReturnType<typeof IdleEnd.on>): Reset[] {
  const family = end.family === AF_INET ? 4 : 6;
  const addressOf = (each: object): string => loadAddress(each, end.family);
  const [client, virtual] = [addressOf(end.client), addressOf(end.virtual)];
  const real = loadAddress(end.real, end.realFamily);
  const clientPort = ntohs(end.clientPort);
  const virtualPort = ntohs(end.virtualPort);
  const both = end.method === METHOD_FULLNAT;
  const translated = end.method === METHOD_MASQ || both;
  const toClient = segment({
    source: virtual,
    sourcePort: virtualPort,
    destination: client,
    destinationPort: clientPort,
    sequence: end.clientNext,
    acknowledgement: end.serverNext,
  });
  const toServer = segment({
    source: both ? loadAddress(end.local, end.realFamily) : client,
    sourcePort: both ? ntohs(end.localPort) : clientPort,
    destination: translated ? real : virtual,
    destinationPort: translated ? ntohs(end.realPort) : virtualPort,
    sequence: end.serverNext,
    acknowledgement: end.clientNext,
  });
  const told: Reset[] = [{ family, packet: toClient }];
  if (translated || end.method === METHOD_LOCAL) {
    told.push({ family: end.realFamily === AF_INET ? 4 : 6, packet: toServer });
  } else if (end.method === METHOD_ROUTE) told.push({ family, packet: toServer, hop: parseIp(real) });
  return told;
}

const segment = (init: Omit<Parameters<typeof tcpFrame>[0], 'flags'>): Uint8Array =>
  tcpFrame({ ...init, flags: 'RA', window: 0 }).slice(ETHERNET);
