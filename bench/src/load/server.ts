/**
 * A real server that costs next to nothing: answers requests of a fixed size on one port, and sends without end on another.
 *
 * Runs as a process of its own until its parent is gone.
 */
import {
  BULK_PORT,
  CHUNK_BYTES,
  Fixed,
  REQUEST_BYTES,
  REQUEST_PORT,
  RESPONSE_BYTES,
  requestMemory,
  responseMemory,
} from './protocol.ts';
import { ALONE, LINK, listen, MORE, Ring } from './ring.ts';

const REQUESTS = 0;
const BULK = 1;
const CLOSE = 2;
const ACCEPT_REQUESTS = 3;
const ACCEPT_BULK = 4;
const FILES = 8192;
const LOOK_MS = 500;

const tagOf = (kind: number, slot: number): number => kind * 65_536 + slot;

export function serve(): void {
  const parent = process.ppid;
  const ring = new Ring({ entries: 4096, files: FILES });
  const [request, response, chunk] = [requestMemory(), responseMemory(), new Fixed(CHUNK_BYTES)];
  const ports = { [ACCEPT_REQUESTS]: listen(REQUEST_PORT), [ACCEPT_BULK]: listen(BULK_PORT) };

  const answer = (tag: number, result: number, flags: number): void => {
    const kind = tag >> 16;
    const slot = tag & 65_535;
    if (kind === CLOSE) return;
    if (kind === ACCEPT_REQUESTS || kind === ACCEPT_BULK) {
      if ((flags & MORE) === 0) ring.accept(ports[kind], tagOf(kind, 0));
      if (result < 0) return;
      const next = tagOf(kind === ACCEPT_REQUESTS ? REQUESTS : BULK, result);
      ring.receive(result, request.address, REQUEST_BYTES, true, LINK, next);
      respond(next, result, kind === ACCEPT_BULK);
      return;
    }
    if (result === (kind === BULK ? CHUNK_BYTES : REQUEST_BYTES)) respond(tag, slot, kind === BULK);
    else ring.closeSocket(slot, ALONE, tagOf(CLOSE, slot));
  };
  const respond = (tag: number, slot: number, bulk: boolean): void => {
    if (bulk) {
      ring.send(slot, chunk.address, CHUNK_BYTES, ALONE, tag);
      return;
    }
    ring.send(slot, response.address, RESPONSE_BYTES, LINK, tag);
    ring.receive(slot, request.address, REQUEST_BYTES, true, ALONE, tag);
  };

  ring.accept(ports[ACCEPT_REQUESTS], tagOf(ACCEPT_REQUESTS, 0));
  ring.accept(ports[ACCEPT_BULK], tagOf(ACCEPT_BULK, 0));
  process.stdout.write('listening\n');
  while (process.ppid === parent) {
    ring.enter(LOOK_MS);
    ring.answers(answer);
  }
  process.exit(0);
}

serve();
