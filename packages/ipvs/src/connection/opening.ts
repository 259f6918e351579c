/** What the first packet of a connection says, and the answers to it that are no numbers of connections. */
import { be16, percpuArray, struct, u8, u32, type ViewOf } from '@ipvsd/bpf';
import { Address6 } from '../packet/address.ts';
import { Service } from '../service/service.ts';

export const Opening = struct('opening', {
  client: Address6,
  virtual: Address6,
  clientPort: be16,
  virtualPort: be16,
  protocol: u8,
  family: u8,
  /** Number of the persistence engine that the template is of; 0: none. */
  engine: u8,
  reserved: u8,
  mark: u32,
});
export type Opening = ViewOf<typeof Opening>;

/**
 * Each CPU's own, as a packet is handled from end to end by one: the packet's, and the key of its template. Not on the stack:
 * it is small, and the verifier would follow every way in which they can be filled.
 */
export const openings = percpuArray('openings', Opening, { maxEntries: 2 });
export const OF_PACKET = 0;
export const OF_ITS_TEMPLATE = 1;

/** What is to become of it, from stage to stage. */
export const Plan = struct('plan', {
  /** As it was when the packet came. */
  service: Service,
  /** Number of its valid template, or NONE. */
  template: u32,
  /** Number of its real server, or NONE. */
  chosen: u32,
});
export type Plan = ViewOf<typeof Plan>;

const plans = percpuArray('plans', Plan, { maxEntries: 1 });

/** This CPU's plan; null never happens, but the verifier asks. */
export const planOf = (): Plan | null => plans.at(0);

/** No real server may have it. */
export const NO_SERVER = 0xffff_fff1;
/** There is no room for the entry. */
export const TABLE_FULL = 0xffff_fff2;
/** FULLNAT: the service has no local address; all local ports towards the real server are taken. */
export const NO_LOCAL_ADDRESS = 0xffff_fff3;
export const NO_LOCAL_PORT = 0xffff_fff4;
/** Greater numbers are answers. */
export const LAST_CONNECTION = 0xffff_ffef;
