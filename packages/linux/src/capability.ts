/** What this process may do: the effective capabilities of the calling thread. */

import { readFileSync } from 'node:fs';

const BITS = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_SYS_ADMIN: 21, CAP_PERFMON: 38, CAP_BPF: 39 } as const;
export type Capability = keyof typeof BITS;

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

export function hasCapability(capability: Capability): boolean {
  const status = readFileSync('/proc/thread-self/status', 'utf8');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return (effective & (1n << BigInt(BITS[capability]))) !== 0n;
}

/** CAP_SYS_ADMIN includes what CAP_BPF was split off from. */
export function mayUseBpf(): boolean {
  return (hasCapability('CAP_BPF') || hasCapability('CAP_SYS_ADMIN')) && hasCapability('CAP_NET_ADMIN');
}
