/** The command `ipvsd`: each subcommand is a file in commands/, loaded when it is called. */
import { parseAddress } from '@ipvsd/director';
import { Command, InvalidArgumentError } from 'commander';
import { readEndPoint } from './end-point.ts';
import { orExplain } from './explain.ts';

const port = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65_535) throw new InvalidArgumentError('must be 1 to 65535');
  return value;
};

const endPoint = (text: string) => {
  const found = readEndPoint(text);
  if (found === undefined) throw new InvalidArgumentError('must be ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT');
  return found;
};

const withPort = (text: string) => {
  const { address, port } = endPoint(text);
  if (port === undefined) throw new InvalidArgumentError('needs a port');
  return { address, port };
};

const deadline = (text: string): number => {
  const value = Number(text);
  if (!(value >= 0)) throw new InvalidArgumentError('must be a number of seconds');
  return value;
};

const CONFIGURATION = '/etc/keepalived/keepalived.conf';

const seconds = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('must be more than 0');
  return value;
};

/** An option that may be given more than once. */
const more = (text: string, before: readonly string[] = []): string[] => [...before, text];

const address = (text: string): string => {
  const found = parseAddress(text);
  if (found === undefined) throw new InvalidArgumentError('must be an IPv4 or IPv6 address');
  return found;
};

const moreAddresses = (text: string, before: readonly string[] = []): string[] => [...before, address(text)];

const oneOf =
  (...words: readonly string[]) =>
  (text: string): string => {
    if (!words.includes(text)) throw new InvalidArgumentError(`must be ${words.join(', ')}`);
    return text;
  };

const segmentSize = (text: string): string | number => {
  if (text === 'auto' || text === 'off') return text;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 88 || value > 65_495) {
    throw new InvalidArgumentError('must be auto, off, or 88 to 65495 bytes');
  }
  return value;
};

const asRealServer = (command: Command): Command =>
  command
    .option('--vip <address>', 'a virtual address; may be given more than once', moreAddresses)
    .option('--method <method>', 'how packets come: dr or tun', oneOf('dr', 'tun'))
    .option('--tunnel <type>', 'ipip, gre or gue, as in ipvsadm --tun-type', oneOf('ipip', 'gre', 'gue'), 'ipip')
    .option('--tun-port <port>', 'where gue comes to', port, 6080)
    .option(
      '--mss <bytes>',
      'the largest segment that clients are told to send: auto, off, or bytes',
      segmentSize,
      'auto',
    )
    .option(
      '--decapsulate <means>',
      "with a device of the kernel's, with our program, or auto: with what the kernel has",
      oneOf('auto', 'device', 'program'),
      'auto',
    )
    .option('--director <address>', "the director's own address: replies must not leave by it", address);

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
  const masquerade = program
    .command('masquerade')
    .description('hosts behind the director reach the outside through it, with its address');
  masquerade
    .command('add')
    .description('masquerade a network; another interface takes the place of the one it had')
    .requiredOption('--from <network>', 'whose packets, as 192.168.45.0/24')
    .requiredOption('--to <interface>', 'those that leave by this interface, with its address')
    .action(({ from, to }: { from: string; to: string }) =>
      orExplain(async () => (await import('./commands/masquerade.ts')).add(from, to)),
    );
  masquerade
    .command('list')
    .description('the networks that are masqueraded')
    .option('--json', 'as one JSON array')
    .action((options: { json?: true }) =>
      orExplain(async () => (await import('./commands/masquerade.ts')).list(options.json === true)),
    );
  masquerade
    .command('remove')
    .description('stop masquerading a network; connections that live go on')
    .requiredOption('--from <network>', 'as it was added')
    .action(({ from }: { from: string }) =>
      orExplain(async () => (await import('./commands/masquerade.ts')).remove(from)),
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
  const realServer = program.command('real-server').description('this host as a real server for DR or TUN');
  asRealServer(realServer.command('setup'))
    .description('give this host the virtual address, so that it answers its packets and nobody else asks it for them')
    .action((options) => orExplain(async () => (await import('./commands/real-server.ts')).setUpRealServer(options)));
  asRealServer(realServer.command('check'))
    .description('what is wrong with it, and the command that mends each; by what it was set up for unless told')
    .option('--json', 'as one JSON array')
    .action((options) => orExplain(async () => (await import('./commands/real-server.ts')).checkRealServer(options)));
  realServer
    .command('undo')
    .description('make everything that setup changed as it was before')
    .option('--vip <address>', 'only for this virtual address', moreAddresses)
    .action((options) => orExplain(async () => (await import('./commands/real-server.ts')).undoRealServer(options)));
  program
    .command('completion')
    .description('shell completion for ipvsadm')
    .argument('<shell>', 'bash, zsh or fish')
    .action((shell: string) => orExplain(async () => (await import('./commands/completion.ts')).completion(shell)));
  program
    .command('demo')
    .description('a whole cluster in network namespaces: client, director, two real servers, and load')
    .option('--method <method>', 'how requests are forwarded: nat, dr, tun or fullnat')
    .option('--keep', 'leave the cluster up, and say how to enter it')
    .option('--remove <cluster>', 'remove a cluster that was kept')
    .option('--feedback', 'another cluster: a real server that is busy with something else, and load feedback')
    .option('--node', 'run the data plane in Node on a simulated network')
    .option('--json', 'end with one JSON object')
    .action((options) =>
      orExplain(async () => {
        if (options.feedback !== true) return (await import('./demo/demo.ts')).demo(options);
        if (options.keep !== undefined || options.remove !== undefined) {
          throw new Error('Cannot keep the cluster of --feedback: it ends with its clients');
        }
        return (await import('./demo/feedback/feedback.ts')).feedbackDemo(options);
      }),
    );
  program
    .command('demo-server', { hidden: true })
    .option('--port <port>', 'where to listen', port, 80)
    .option('--ftp', 'FTP instead of HTTP')
    .requiredOption('--name <name>', 'what to say')
    .action(({ port, name, ftp }) =>
      orExplain(async () =>
        ftp === true
          ? (await import('./demo/ftp-server.ts')).serveFtp(name)
          : (await import('./demo/http-server.ts')).serve(port, name),
      ),
    );
  program
    .command('demo-load', { hidden: true })
    .argument('<url>')
    .requiredOption('--requests <n>', 'how many in all', Number)
    .requiredOption('--concurrency <n>', 'how many at once', Number)
    .action((url: string, { requests, concurrency }) =>
      orExplain(async () => (await import('./demo/load.ts')).printLoad(url, requests, concurrency)),
    );
  program
    .command('demo-work-server', { hidden: true })
    .requiredOption('--port <port>', 'where to listen', port)
    .requiredOption('--slots <n>', 'requests at once', Number)
    .requiredOption('--load-file <path>', 'where to write the load')
    .action((options) => orExplain(async () => (await import('./demo/feedback/work-server.ts')).serveWork(options)));
  program
    .command('demo-clients', { hidden: true })
    .argument('<url>')
    .requiredOption('--count <n>', 'how many', Number)
    .requiredOption('--pace <milliseconds>', 'between two requests', Number)
    .requiredOption('--requests-per-connection <n>', 'then a new one', Number)
    .action((url: string, { count, pace, requestsPerConnection }) =>
      orExplain(async () =>
        (await import('./demo/feedback/clients.ts')).runClients({ url, count, paceMs: pace, requestsPerConnection }),
      ),
    );
  program
    .command('demo-ftp-load', { hidden: true })
    .argument('<host>')
    .requiredOption('--client <address>', 'where from', moreAddresses)
    .requiredOption('--sessions <n>', 'how many in all', Number)
    .action((host: string, { client, sessions }) =>
      orExplain(async () => (await import('./demo/ftp-load.ts')).printFtpLoad(host, client, sessions)),
    );
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  addDaemonCommands(program);
  await program.parseAsync([...argv]);
}

/** What needs the daemon, its configuration or its neighbours on the real servers. */
function addDaemonCommands(program: Command): void {
  program
    .command('run')
    .description('the daemon: health checks and notifications by keepalived.conf or our own YAML, in the foreground')
    .option('-f, --file <file>', 'keepalived.conf, or .yaml and .json of our own', CONFIGURATION)
    .option('-i, --config-id <id>', 'what @id lines are compared with; the host name unless given')
    .option('--load <source>', 'ask real servers for their load: agent[:PORT], http[:PORT][/PATH], prometheus, snmp')
    .option('--log <format>', 'json, text, or auto: text on a terminal', 'auto')
    .option('--leave', 'leave the virtual services as they are at the end')
    .option('--slow-start <seconds>', 'a real server that comes back has its whole weight after this', deadline)
    .option('--strict', 'refuse a configuration with errors, which keepalived would run without what is wrong in it')
    .action((options) =>
      orExplain(async () => {
        const { openDirector } = await import('./open-director.ts');
        await (await import('./commands/run.ts')).run(options, openDirector);
      }),
    );
  program
    .command('resets')
    .description(
      'tell both ends of connections that go by silence (ipvsadm --reset-at-expiry); `ipvsd run` does so too',
    )
    .action(() =>
      orExplain(async () => {
        (await import('./open-director.ts')).openDirector();
        await (await import('./commands/resets.ts')).resets();
      }),
    );
  program
    .command('check')
    .description(
      "keepalived's verdict on a configuration, with every error's place, and what keepalived does not look for",
    )
    .argument('[file]', 'keepalived.conf, or .yaml and .json of our own', CONFIGURATION)
    .option('-i, --config-id <id>', 'what @id lines are compared with')
    .option('--strict', 'findings and warnings count too: exit status 6')
    .option('--json', 'as one JSON object')
    .option('--outline', 'also what the configuration means')
    .action((file: string, options) =>
      orExplain(async () => {
        const { check } = await import('./commands/check.ts');
        process.exitCode = check(file, options, (text) => process.stdout.write(text));
      }),
    );
  program
    .command('schema')
    .description('the JSON Schema of our own configuration')
    .action(() =>
      orExplain(async () => {
        const { configurationJsonSchema } = await import('@ipvsd/keepalived');
        process.stdout.write(`${JSON.stringify(configurationJsonSchema(), null, 2)}\n`);
      }),
    );
  program
    .command('plan')
    .description('what a reload with this configuration would change, and how many connections it touches')
    .requiredOption('-f, --file <file>')
    .action(({ file }: { file: string }) =>
      orExplain(async () => (await import('./commands/plan.ts')).plan(file, await tools())),
    );
  program
    .command('drain')
    .description('weight 0 for a real server in every service, wait for its connections, then take it out')
    .argument('<real-server>', 'ADDRESS or ADDRESS:PORT', endPoint)
    .option('--deadline <seconds>', 'take it out then, whatever is left', deadline, 300)
    .option('--keep', 'leave it in the table with weight 0')
    .option('--release-persistence', 'clients bound to it by persistence may go elsewhere at once (for all services)')
    .action((target, { deadline, ...options }) =>
      orExplain(async () =>
        (await import('./commands/drain.ts')).drain(target, { deadlineSeconds: deadline, ...options }, await tools()),
      ),
    );
  program
    .command('undrain')
    .argument('<real-server>', 'ADDRESS or ADDRESS:PORT', endPoint)
    .description('call a drained real server back')
    .option('--weight <n>', 'where no daemon knows its weight', Number)
    .action((target, options) =>
      orExplain(async () => (await import('./commands/drain.ts')).undrain(target, options, await tools())),
    );
  const explain = program.command('explain').description('why things are as they are');
  explain
    .command('weight')
    .description('why a real server has its weight')
    .argument('<virtual>', 'VIP:PORT', withPort)
    .argument('<real>', 'RIP:PORT', withPort)
    .action((virtual, real) =>
      orExplain(async () => (await import('./commands/explain.ts')).explainWeight(virtual, real, await tools())),
    );
  explain
    .command('client', { isDefault: true })
    .description('which real server a client has or would get')
    .argument('<client>', 'ADDRESS:PORT', withPort)
    .argument('<virtual>', 'VIP:PORT', withPort)
    .action((client, virtual) =>
      orExplain(async () => (await import('./commands/explain.ts')).explainClient(client, virtual, await tools())),
    );
  program
    .command('agent')
    .description('on a real server: answer agent-check and JSON over HTTP with its load')
    .option('--host <address>', 'where to listen', '::')
    .option('--port <port>', 'for agent-check', port, 3333)
    .option('--http-port <port>', 'for JSON', port, 3334)
    .option('--command <command>', 'prints a load in percent, or an agent-check line')
    .option('--drain-file <path>', 'answer drain while this file is there')
    .action((options) => orExplain(async () => (await import('./commands/agent.ts')).agent(options)));
}

async function tools() {
  const { openDirector } = await import('./open-director.ts');
  const { daemonPaths } = await import('./daemon/run-folder.ts');
  const write = (text: string): void => {
    process.stdout.write(text);
  };
  return { director: openDirector(), controlPath: daemonPaths().control, write };
}
