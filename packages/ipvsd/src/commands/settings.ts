/** `ipvsd set` and `ipvsd settings`: what the kernel's ip_vs has under /proc/sys/net/ipv4/vs, and what is ours beside it. */
import { describeSysctls, type SysctlDescription } from '@ipvsd/director';
import { openDirector } from '../open-director.ts';

export interface Setting extends SysctlDescription {
  readonly value: string;
}

export function set(name: string, words: readonly string[]): void {
  openDirector().execute({ kind: 'setSysctl', name, value: words.join(' ') });
}

export function settings(json: boolean): void {
  const values = openDirector().sysctls();
  const found = describeSysctls().map((sysctl) => ({ ...sysctl, value: values.get(sysctl.name) ?? sysctl.initial }));
  process.stdout.write(json ? `${JSON.stringify(found.map(toJson))}\n` : formatSettings(found));
}

const toJson = ({ initial, ...setting }: Setting) => ({ ...setting, default: initial });

/** A line for each: name, value, the default where it is another, and what it is for. */
export function formatSettings(all: readonly Setting[]): string {
  const rows = all.map(({ name, value, initial }) => [name, shown(value), value === initial ? '' : shown(initial)]);
  const widths = HEAD.map((word, column) => Math.max(word.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[], sentence: string): string =>
    `${cells.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')}  ${sentence}`;
  return [line(HEAD, 'What it is for'), ...all.map((setting, i) => line(rows[i]!, words(setting))), ''].join('\n');
}

const HEAD = ['Setting', 'Value', 'Default'];

const shown = (value: string): string => value.replaceAll('\t', ' ');

function words({ sentence, readOnly, hasEffect, ours }: Setting): string {
  const notes = [
    ...(ours ? ['ours'] : []),
    ...(readOnly ? ['read-only'] : []),
    ...(hasEffect ? [] : ['kept, without effect so far']),
  ];
  return notes.length === 0 ? sentence : `${sentence} (${notes.join('; ')})`;
}
