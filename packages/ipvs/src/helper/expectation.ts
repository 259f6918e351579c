/** What a helper fills in to have a connection expected. */
import { assign } from '@ipvsd/bpf';
import type { Connection } from '../connection/connection.ts';
import { OF_PACKET, type Opening, openings } from '../connection/opening.ts';

/** From the same client to the same virtual service by the same protocol; ports are the helper's to say. */
export function expectedOf(c: Connection): Opening | null {
  const opening = openings.at(OF_PACKET);
  if (opening === null) return null;
  assign(opening.client, c.client);
  assign(opening.virtual, c.virtual);
  opening.protocol = c.protocol;
  opening.family = c.family;
  opening.mark = c.mark;
  return opening;
}
