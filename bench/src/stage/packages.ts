/** Debian packages that a bench needs: looked for by a file of theirs, installed where they are missing and we may. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const FILES = {
  iproute2: 'ip',
  nftables: 'nft',
  haproxy: 'haproxy',
  'nginx-light': 'nginx',
  'libnginx-mod-stream': '/usr/lib/nginx/modules/ngx_stream_module.so',
  clang: 'clang',
} as const;
export type Package = keyof typeof FILES;

const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export function isInstalled(name: Package): boolean {
  const file = FILES[name];
  return file.startsWith('/') ? existsSync(file) : FOLDERS.some((folder) => existsSync(`${folder}/${file}`));
}

/** Says so and goes on where that fails: what needs them is then left out with its reason. */
export function installPackages(wanted: readonly Package[], say: (text: string) => void): void {
  const missing = wanted.filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  say(`installing ${missing.join(', ')}\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const run = (...args: string[]): void => {
    execFileSync('apt-get', args, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  };
  try {
    run('update', '-qq');
    run('install', '-y', '-qq', '--no-install-recommends', ...missing);
  } catch (error) {
    say(`not installed: ${(error as Error).message}\n`);
  }
}
