/**
 * IRC with real programs: ngircd outside, irssi on a masqueraded host and on another outside, which send each other files and chat
 * directly (DCC).
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { buildNetworks, type Networks, waitForPort } from './testing/networks.ts';
import { ours } from './testing/ours.ts';

const NGIRCD = '/usr/sbin/ngircd';
const IRSSI = '/usr/bin/irssi';
const missing = [NGIRCD, IRSSI].filter((file) => !existsSync(file));
const HOOK_MS = 60_000;
const SERVER = '172.16.45.2';
let folder: string;

async function serveIrc(host: Host): Promise<void> {
  const conf = join(folder, 'ngircd.conf');
  const limits = '[Limits]\nMaxConnectionsIP = 0\n';
  const options = '[Options]\nDNS = no\nIdent = no\nPAM = no\n';
  writeFileSync(conf, `[Global]\nName = irc.example\nInfo = test\nListen = 0.0.0.0\nPorts = 6667\n${limits}${options}`);
  host.start(NGIRCD, ['--nodaemon', '--config', conf], { stdio: 'ignore' });
  await waitForPort(host, 6667);
}

/** What irssi does by itself: it says when it is connected, takes files, answers chats, and writes down what it hears there. */
const SCRIPT = `
use Irssi;
sub note { my ($name, $text) = @_; open(my $file, '>>', Irssi::get_irssi_dir() . "/$name"); print $file "$text\\n"; close $file; }
Irssi::signal_add('event connected', sub { note('connected', $_[0]->{nick}); });
Irssi::signal_add('dcc request', sub {
  my ($dcc) = @_;
  $dcc->{server}->command("DCC CHAT $dcc->{nick}") if $dcc->{type} eq 'CHAT';
});
Irssi::signal_add('dcc connected', sub {
  my ($dcc) = @_;
  $dcc->{server}->command("MSG =$dcc->{nick} hello from $dcc->{mynick}") if $dcc->{type} eq 'CHAT';
});
Irssi::signal_add('dcc chat message', sub { note('heard', "$_[0]->{nick}: $_[1]"); });
Irssi::timeout_add(100, sub {
  my $orders = Irssi::get_irssi_dir() . '/orders';
  my ($server) = Irssi::servers();
  return unless $server && open(my $file, '<', $orders);
  my @lines = <$file>;
  unlink $orders;
  for (@lines) { chomp; $server->command($_); }
}, undef);
`;

/** irssi on a host, in a terminal of its own, with a folder for all that it keeps. */
class Irc {
  readonly nick: string;
  readonly home: string;

  constructor(host: Host, nick: string) {
    this.nick = nick;
    this.home = join(folder, nick);
    mkdirSync(join(this.home, 'scripts', 'autorun'), { recursive: true });
    writeFileSync(join(this.home, 'scripts', 'autorun', 'test.pl'), SCRIPT);
    const settings = `settings = { "irc/dcc" = { dcc_autoget = "yes"; dcc_download_path = "${this.home}"; }; };\n`;
    writeFileSync(join(this.home, 'config'), settings);
    const line = `${IRSSI} --home=${this.home} --connect=${SERVER} --port=6667 --nick=${nick}`;
    host.start('script', ['-qec', line, '/dev/null'], {
      stdio: ['pipe', 'ignore', 'inherit'],
      env: { ...process.env, TERM: 'xterm' },
    });
  }

  tell(order: string): void {
    const file = join(this.home, 'orders');
    writeFileSync(`${file}.new`, `${order}\n`);
    renameSync(`${file}.new`, file);
  }

  /** The file in its folder, once it is as long as this. */
  async file(name: string, length = 1): Promise<Buffer> {
    const path = join(this.home, name);
    for (let i = 0; i < 150; i++) {
      if (existsSync(path) && readFileSync(path).length >= length) return readFileSync(path);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${this.nick} has no ${name} of ${length} bytes`);
  }
}

function describeIrc(name: string, body: () => void): void {
  if (missing.length === 0) describeKernel(name, body);
  else describe.skip(`${name} (skipped: there is no ${missing.join(' and no ')})`, body);
}

describeIrc('hosts that talk to each other past an IRC server', () => {
  let cluster: Cluster;
  let networks: Networks;
  /** Behind the director, both of them, and outside. */
  let alice: Irc;
  let carol: Irc;
  let bob: Irc;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ipvsd-irc-'));
    cluster = new Cluster(uniqueName('ipvsd-irc'));
    networks = buildNetworks(cluster, true);
    const { clients, director, reals } = networks;
    ours(director, 'ipvsd', 'set', 'irc_ports', '6667');
    ours(director, 'ipvsd', 'masquerade', 'add', '--from', '192.168.45.0/24', '--to', 'eth0');
    await serveIrc(clients[0]);
    bob = new Irc(clients[1], 'bob');
    alice = new Irc(reals[0], 'alice');
    carol = new Irc(reals[1], 'carol');
    for (const each of [alice, bob, carol]) await each.file('connected');
  }, HOOK_MS);

  afterAll(() => {
    cluster?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  test.each([
    ['from a masqueraded host to one outside', () => [alice, bob] as const],
    ['from outside to a masqueraded host', () => [bob, alice] as const],
  ])(
    'a file goes %s',
    async (_what, who) => {
      const [from, to] = who();
      const name = uniqueName('file');
      const bytes = Buffer.alloc(500_000, name);
      writeFileSync(join(from.home, `of ${name}`), bytes);
      from.tell(`DCC SEND ${to.nick} "${join(from.home, `of ${name}`)}"`);
      expect((await to.file(`of ${name}`, bytes.length)).equals(bytes)).toBe(true);
    },
    40_000,
  );

  test('two files at once, of which each is its own', async () => {
    const files = [alice, carol].map((from) => ({ from, name: uniqueName('file') }));
    for (const { from, name } of files) {
      writeFileSync(join(from.home, name), Buffer.alloc(300_000, name));
      from.tell(`DCC SEND bob ${join(from.home, name)}`);
    }
    for (const { name } of files) {
      expect((await bob.file(name, 300_000)).equals(Buffer.alloc(300_000, name))).toBe(true);
    }
  }, 40_000);

  test('a masqueraded host chats with one outside, both ways', async () => {
    alice.tell('DCC CHAT bob');
    expect((await alice.file('heard')).toString()).toBe('bob: hello from bob\n');
    expect((await bob.file('heard')).toString()).toBe('alice: hello from alice\n');
  }, 40_000);
});
