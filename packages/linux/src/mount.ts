/**
 * Mounts, and the one that matters here: a BPF file system of our own, in which maps, programs and links are pinned.
 *
 * Not /sys/fs/bpf, because `ip netns exec` mounts a fresh /sys over it and our pins would be out of sight.
 */

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { systemCall } from './syscall.ts';

export interface Mount {
  readonly source: string;
  readonly target: string;
  /** File system type; not for bind mounts. */
  readonly type?: string;
  readonly bind?: boolean;
  readonly recursive?: boolean;
  /** Changes an existing mount: what is mounted below it appears in other mount namespaces too. */
  readonly shared?: boolean;
  readonly options?: string;
}

/** Where ipvsd pins. */
export const BPF_FOLDER = '/run/ipvsd/bpf';

const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 0x100000;
const MNT_DETACH = 2;

export function mount(wanted: Mount): void {
  const { source, target, type, options } = wanted;
  const flags =
    (wanted.bind ? MS_BIND : 0) |
    (wanted.shared ? MS_SHARED : 0) |
    (wanted.recursive || wanted.shared ? MS_REC : 0) |
    (type === undefined ? 0 : MS_NOSUID | MS_NODEV | MS_NOEXEC);
  const action = wanted.shared ? `share the mount ${target}` : `mount ${type ?? source} on ${target}`;
  systemCall(action, 'mount', text(source), text(target), text(type ?? ''), flags, text(options ?? ''));
}

/** At once, even while it is in use: users keep what they have open. */
export function unmount(target: string): void {
  systemCall(`unmount ${target}`, 'umount2', text(target), MNT_DETACH);
}

/** Type of the file system mounted exactly at `path` (the topmost one), undefined where nothing is. */
export function mountPointType(path: string): string | undefined {
  let type: string | undefined;
  for (const line of readFileSync('/proc/thread-self/mountinfo', 'utf8').split('\n')) {
    // 36 35 98:0 /root /mount/point options [optional fields] - type source superoptions
    const fields = line.split(' ');
    if (fields[4] !== undefined && unescapeOctal(fields[4]) === path) type = fields[fields.indexOf('-') + 1];
  }
  return type;
}

/** Makes sure that a BPF file system is mounted on `folder`, and returns `folder`. Does nothing where there is one. */
export function mountBpfFileSystem(folder: string = BPF_FOLDER): string {
  if (existsSync(folder) && mountPointType(folder) === 'bpf') return folder;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  mount({ source: 'bpf', target: folder, type: 'bpf', options: 'mode=700' });
  return folder;
}

/** Takes every pin with it. Does nothing where nothing is mounted. */
export function unmountBpfFileSystem(folder: string = BPF_FOLDER): void {
  if (existsSync(folder) && mountPointType(folder) === 'bpf') unmount(folder);
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(`${value}\0`);
}

function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
