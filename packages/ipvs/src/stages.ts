/**
 * Where a packet goes on by tail call: each stage is a program with a stack of its own, verified by itself.
 *
 * `schedulers` has one program for each scheduler, at its number: one can be added or exchanged with no other touched.
 */
import { programTable } from '@ipvsd/bpf';

export const FIRST_PACKET = 0;
export const CONNECT = 1;

export const stages = programTable('stages', { maxEntries: 8 });
export const schedulers = programTable('schedulers', { maxEntries: 64 });
