/** UDP: one state, kept alive by packets of either direction. Its connections never count as active. */
import { IPPROTO_UDP } from '../packet/headers.ts';
import type { Protocol } from './protocol.ts';

export const UDP_STATES = ['UDP'] as const;
/** Follows `ipvsadm --set`. */
export const UDP_TIMEOUTS = [300] as const;

export const udp: Protocol = {
  number: IPPROTO_UDP,
  name: 'udp',
  states: UDP_STATES,
  timeouts: UDP_TIMEOUTS,
  slot: 32,
  established: 16,
  activeStates: 0,
  event: () => 0,
  mayOpen: () => true,
  isFirst: () => false,
  next: () => 0,
};
