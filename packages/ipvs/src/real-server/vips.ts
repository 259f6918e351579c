/** What the programs on a real server know: its virtual addresses, and how their packets come. Written by `ipvsd real-server`. */
import { be16, hashMap, struct, u8, u32 } from '@ipvsd/bpf';
import { Address6 } from '../packet/address.ts';

export const VipKey = struct('vip_key', { address: Address6, family: u32 });

/** Kinds of tunnels that are taken, as bits. */
export const TAKES_IPIP = 1;
export const TAKES_GRE = 2;
export const TAKES_GUE = 4;

export const Vip = struct('vip', {
  /** None: packets come as they are (DR). */
  tunnels: u8,
  reserved: u8,
  /** GUE: where it is sent to. */
  port: be16,
  /** The largest segment that clients are told to send; 0: what the connection's own end says. */
  segmentSize: u32,
});

export const vips = hashMap('rs_vips', VipKey, Vip, { maxEntries: 1024 });
