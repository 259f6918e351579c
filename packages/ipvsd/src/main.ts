/** The command `ipvsd`: each subcommand is a file in commands/, loaded when it is called. */
import { Command, InvalidArgumentError } from 'commander';
import { orExplain } from './explain.ts';

const port = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65_535) throw new InvalidArgumentError('must be 1 to 65535');
  return value;
};

const seconds = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('must be more than 0');
  return value;
};

/** An option that may be given more than once. */
const more = (text: string, before: readonly string[] = []): string[] => [...before, text];

const byDestination = (command: Command): Command =>
  command
    .option('-t, --tcp-service <destination>', 'TCP to an address or network, and port: 192.0.2.0/24:80', more)
    .option('-u, --udp-service <destination>', 'UDP to it', more)
    .option('--sctp-service <destination>', 'SCTP to it', more)
    .option('--network <network>', 'any protocol and port', more);

export async function run(argv: readonly string[]): Promise<void> {
  const program = new Command('ipvsd')
    .description('Linux Virtual Server in TypeScript, its packet path in eBPF')
    .showHelpAfterError('(ipvsd --help lists the commands)');
  program
    .command('attach')
    .description('hand the packets of interfaces to the director, making it where there is none')
    .argument('[interface...]', 'all but the loopback unless named')
    .action((names: string[]) => orExplain(async () => (await import('./commands/attach.ts')).attach(names)));
  program
    .command('detach')
    .description('take interfaces from the director; without names: all, and everything it holds')
    .argument('[interface...]')
    .action((names: string[]) => orExplain(async () => (await import('./commands/attach.ts')).detach(names)));
  program
    .command('status')
    .description('what the director of this network namespace is doing')
    .option('--json', 'as one JSON object')
    .action((options: { json?: true }) =>
      orExplain(async () => (await import('./commands/status.ts')).status(options.json === true)),
    );
  program
    .command('settings')
    .description('the settings of /proc/sys/net/ipv4/vs: value, default, and what each is for')
    .option('--json', 'as one JSON array')
    .action((options: { json?: true }) =>
      orExplain(async () => (await import('./commands/settings.ts')).settings(options.json === true)),
    );
  program
    .command('set')
    .description('change one of the settings')
    .argument('<name>', 'as `ipvsd settings` lists it')
    .argument('<value...>')
    .action((name: string, value: string[]) =>
      orExplain(async () => (await import('./commands/settings.ts')).set(name, value)),
    );
  const mark = program.command('mark').description('rules that give packets a firewall mark by where they go');
  byDestination(mark.command('add'))
    .description('give packets to these destinations a mark')
    .requiredOption('--mark <number>', 'the firewall mark, as in ipvsadm -f')
    .action((options) => orExplain(async () => (await import('./commands/mark.ts')).add(options)));
  byDestination(mark.command('delete'))
    .description('take out rules: those named, or all of a mark')
    .option('--mark <number>')
    .option('--all', 'all rules')
    .action((options) => orExplain(async () => (await import('./commands/mark.ts')).remove(options)));
  mark
    .command('list')
    .option('--json', 'as one JSON array')
    .action((options: { json?: true }) =>
      orExplain(async () => (await import('./commands/mark.ts')).list(options.json === true)),
    );
  mark
    .command('import')
    .description('take over MARK rules of iptables-save, ip6tables-save or nft list ruleset')
    .argument('[file]', 'standard input unless named')
    .option('--run', 'read what these tools print, those that are installed')
    .option('--replace', 'in place of all rules that are there')
    .option('--dry-run', 'only say what would be imported')
    .action((file: string | undefined, options) =>
      orExplain(async () => (await import('./commands/mark.ts')).importMarks(file, options)),
    );
  const scheduler = program.command('scheduler').description('schedulers of your own, in kernel TypeScript');
  scheduler
    .command('add')
    .description('compile a scheduler and put it into the director, in place of the one of its name')
    .argument('<file>', 'a TypeScript file that imports ipvsd/scheduler')
    .action((file: string) => orExplain(async () => (await import('./commands/scheduler.ts')).add(file)));
  scheduler
    .command('list')
    .description('those that were added, and who uses them')
    .option('--json', 'as one JSON array')
    .action((options: { json?: true }) =>
      orExplain(async () => (await import('./commands/scheduler.ts')).list(options.json === true)),
    );
  scheduler
    .command('remove')
    .description('take out one that no virtual service uses')
    .argument('<name>')
    .action((name: string) => orExplain(async () => (await import('./commands/scheduler.ts')).remove(name)));
  program
    .command('proc')
    .description('the files that ip_vs has under /proc/net, in its format')
    .argument('[name]', 'ip_vs, ip_vs_conn, ip_vs_conn_sync, ip_vs_stats, ip_vs_stats_percpu, ip_vs_app', 'ip_vs')
    .option('--keep <folder>', 'write all of them there, again and again')
    .option('--interval <seconds>', 'how often with --keep', seconds, 2)
    .action((name: string, options) => orExplain(async () => (await import('./commands/proc.ts')).proc(name, options)));
  program
    .command('completion')
    .description('shell completion for ipvsadm')
    .argument('<shell>', 'bash, zsh or fish')
    .action((shell: string) => orExplain(async () => (await import('./commands/completion.ts')).completion(shell)));
  program
    .command('demo')
    .description('a whole cluster in network namespaces: client, director, two real servers, and load')
    .option('--keep', 'leave the cluster up, and say how to enter it')
    .option('--remove <cluster>', 'remove a cluster that was kept')
    .option('--node', 'run the data plane in Node on a simulated network')
    .option('--json', 'end with one JSON object')
    .action((options) => orExplain(async () => (await import('./demo/demo.ts')).demo(options)));
  program
    .command('demo-server', { hidden: true })
    .requiredOption('--port <port>', 'where to listen', port)
    .requiredOption('--name <name>', 'what to say')
    .action(({ port, name }) => orExplain(async () => (await import('./demo/http-server.ts')).serve(port, name)));
  program
    .command('demo-load', { hidden: true })
    .argument('<url>')
    .requiredOption('--requests <n>', 'how many in all', Number)
    .requiredOption('--concurrency <n>', 'how many at once', Number)
    .action((url: string, { requests, concurrency }) =>
      orExplain(async () => (await import('./demo/load.ts')).printLoad(url, requests, concurrency)),
    );
  await program.parseAsync([...argv]);
}
