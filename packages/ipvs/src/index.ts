/** The data plane: maps and programs in kernel TypeScript. Written once; compiled for the kernel, run as it is in Node. */
export { compiledPrograms, schedulerModule } from './compiled.ts';
export * from './connection/connection.ts';
export { bucketsFor, directionOf, flowBuckets, numberOf } from './connection/flows.ts';
export { IdleEnd, IdleRule, idleEnds, idleRules } from './connection/idle.ts';
export * from './connection/local-end.ts';
export { Opening } from './connection/opening.ts';
export * from './connection/sweep.ts';
export * from './counters.ts';
export { Defence, defence } from './defence.ts';
export {
  EngineFlow,
  EngineKey,
  EngineServer,
  EngineServerKey,
  engineData,
  engineFlows,
  engineServers,
} from './engine/engine.ts';
export * from './family.ts';
export { FollowedFlow, followed, OUTWARDS } from './followed.ts';
export { OwnAddress, OwnAddressKey, ownAddresses } from './forward/own-address.ts';
export { Peer, PeerKey, peers } from './forward/peer.ts';
export * from './forward/sequence.ts';
export { fragmenting } from './fragment.ts';
export { waiting } from './fragment-order.ts';
export * from './frame/frame.ts';
export * from './helper/index.ts';
export * from './helper/ports.ts';
export { MASQUERADE_KEY_BITS, Masquerade, MasqueradeKey, masquerades } from './masquerade.ts';
export * from './packet/address.ts';
export * from './packet/headers.ts';
export * from './programs/control.ts';
export * from './programs/helpers.ts';
export { clamping, decapsulating } from './programs/real-server.ts';
export * from './programs/schedulers.ts';
export * from './programs/tc.ts';
export { PROTOCOLS } from './protocol/index.ts';
export type { Protocol } from './protocol/protocol.ts';
export * from './protocol/sctp.ts';
export * from './protocol/tcp.ts';
export * from './protocol/udp.ts';
export * from './real-server/vips.ts';
export { SCHEDULER_NAMES, SCHEDULERS } from './scheduler/index.ts';
export { FULL_LOAD, Loads, loads, OpenedCounts, opened, STALE_LOAD } from './scheduler/ll.ts';
export { localities } from './scheduler/locality.ts';
export * from './scheduler/scheduler.ts';
export { SLOTS_PER_BLOCK, schedulerTables, TableBlock, TableKey } from './scheduler/table.ts';
export * from './service/mark.ts';
export * from './service/service.ts';
export * from './service/statistics.ts';
export * from './settings.ts';
export { schedulers } from './stages.ts';
export { TUNNEL_KINDS, TunnelLink, TunnelLinkKey, tunnelLinks } from './tunneled.ts';
