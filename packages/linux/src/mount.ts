/**
 * Mounts, and the one that matters here: a BPF file system of our own, in which maps, programs and links are pinned.
 *
 * Not /sys/fs/bpf, because `ip netns exec` mounts a fresh /sys over it and our pins would be out of sight. What a process
 * under `ip netns exec` mounts is seen by nobody else either, so there the mount is made in init's view, not in our own.
 */

import { closeSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs';
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
const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;
const OWN_MOUNTS = '/proc/thread-self/ns/mnt';

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

interface MountPoint {
  readonly type: string | undefined;
  /** `major:minor`: the same for every sight of one file system. */
  readonly device: string | undefined;
}

/** Type of the file system mounted exactly at `path` (the topmost one), undefined where nothing is. */
export function mountPointType(path: string): string | undefined {
  return findMountPoint(path, 'thread-self')?.type;
}

/**
 * Makes sure that a BPF file system is mounted on `folder` where every process sees it, and returns the path at which this
 * process reaches it: `folder`, or a way through init's root where our own view is cut off. `init` is the process whose view
 * of mounts counts.
 */
export function mountBpfFileSystem(folder: string = BPF_FOLDER, init: number = oldestAncestor()): string {
  const found = findBpfFileSystem(folder, init);
  if (found !== undefined) return found;
  if (hasPrivateView(init)) inMountsOf(init, () => mountBpf(folder));
  else mountBpf(folder);
  return findBpfFileSystem(folder, init) ?? folder;
}

/** The path at which this process reaches the BPF file system on `folder`, undefined where none is mounted. */
export function findBpfFileSystem(folder: string = BPF_FOLDER, init: number = oldestAncestor()): string | undefined {
  const here = findMountPoint(folder, 'thread-self');
  if (!hasPrivateView(init)) return here?.type === 'bpf' ? folder : undefined;
  const there = findMountPoint(folder, init);
  if (there?.type !== 'bpf') return undefined;
  return here?.type === 'bpf' && here.device === there.device ? folder : `/proc/${init}/root${folder}`;
}

/** Takes every pin with it. Does nothing where nothing is mounted. */
export function unmountBpfFileSystem(folder: string = BPF_FOLDER): void {
  if (mountPointType(folder) === 'bpf') unmount(folder);
}

function mountBpf(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  mount({ source: 'bpf', target: folder, type: 'bpf', options: 'mode=700' });
}

function findMountPoint(path: string, pid: 'thread-self' | number): MountPoint | undefined {
  let found: MountPoint | undefined;
  for (const line of readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n')) {
    // 36 35 98:0 /root /mount/point options [optional fields] - type source superoptions
    const fields = line.split(' ');
    if (fields[4] === undefined || unescapeOctal(fields[4]) !== path) continue;
    found = { device: fields[2], type: fields[fields.indexOf('-') + 1] };
  }
  return found;
}

/**
 * Whether this is the same system as init's but with mounts of our own, as under `ip netns exec` or `unshare --mount`. A
 * container has another root; its own view is the one that counts there.
 */
function hasPrivateView(init: number): boolean {
  const root = statSync('/');
  const initRoot = statSync(`/proc/${init}/root/`);
  const sameRoot = root.dev === initRoot.dev && root.ino === initRoot.ino;
  return sameRoot && statSync(OWN_MOUNTS).ino !== statSync(`/proc/${init}/ns/mnt`).ino;
}

/** Init, or where a sandbox hides it the process nearest to it whose view we may see. */
function oldestAncestor(): number {
  let oldest = process.pid;
  for (let pid = process.pid; pid > 0; pid = parentOf(pid)) {
    if (isReachable(pid)) oldest = pid;
  }
  return oldest;
}

/** 0 for init, and for a process that is gone by now. */
function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function isReachable(pid: number): boolean {
  try {
    statSync(`/proc/${pid}/ns/mnt`);
    return statSync(`/proc/${pid}/root/`).isDirectory();
  } catch {
    return false;
  }
}

/** The kernel lets only a thread with a working directory of its own change its view of mounts. */
function inMountsOf(pid: number, action: () => void): void {
  const folder = process.cwd();
  const own = openSync(OWN_MOUNTS, 'r');
  const theirs = openSync(`/proc/${pid}/ns/mnt`, 'r');
  try {
    systemCall('have a working directory per thread', 'unshare', CLONE_FS);
    systemCall(`enter the mount namespace of process ${pid}`, 'setns', theirs, CLONE_NEWNS);
    try {
      action();
    } finally {
      systemCall('return to the own mount namespace', 'setns', own, CLONE_NEWNS);
      systemCall(`return to ${folder}`, 'chdir', text(folder));
    }
  } finally {
    closeSync(theirs);
    closeSync(own);
  }
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(`${value}\0`);
}

function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
