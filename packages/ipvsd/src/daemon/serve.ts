/**
 * The daemon as a process: one per network namespace, configured by a file, told by signals, asked through a socket. The
 * director is handed in, so tests bring one of memory.
 */
import { type Director, realServerKey } from '@ipvsd/director';
import {
  type Configuration,
  Daemon,
  formatDiagnostic,
  isNativeFile,
  type LoadedConfiguration,
  type Log,
  lineFinder,
  loadConfigurationFile,
  NodeSockets,
  startTimers,
  verdictOf,
} from '@ipvsd/keepalived';
import { notifySystemd, reloadingLines, tryLockFile, watchRoutes, withRoutes } from '@ipvsd/linux';
import { sourceFrom } from '@ipvsd/load';
import { type ControlRequest, serveControl } from './control.ts';
import { LoadFeedback } from './load-feedback.ts';
import type { DaemonPaths } from './run-folder.ts';

export interface ServeOptions {
  readonly file: string;
  readonly director: Director;
  readonly paths: DaemonPaths;
  readonly log: Log;
  readonly configId?: string;
  /** For virtual servers that say nothing of load: whom to ask on each real server. */
  readonly load?: string;
  /** For those that say nothing of it: how long the weight of a returning real server rises. */
  readonly slowStartMs?: number;
  /** Refuse a configuration with errors, which keepalived and we run without what is wrong in it. */
  readonly strict?: boolean;
}

export interface Serving {
  readonly daemon: Daemon;
  /** False where the new configuration is refused and the old one goes on. */
  reload(): boolean;
  stop(options?: { readonly leave?: boolean }): Promise<void>;
}

const FEEDBACK_PERIOD_MS = 1000;

export async function serve(options: ServeOptions): Promise<Serving> {
  const { file, director, paths, log } = options;
  const lock = tryLockFile(paths.lock);
  if (lock === null) throw new Error('Cannot run: a daemon runs in this network namespace already');
  const first = load(options);
  // keepalived.conf has always been run with what is wrong in it left out; our own never was.
  const strict = options.strict || isNativeFile(file);
  if (!mayUse(first, strict)) {
    lock.release();
    throw new Error(
      `Cannot run: ${file} ${strict ? 'has errors' : 'is refused, as keepalived would'} (ipvsd check ${file} says where)`,
    );
  }
  const timers = startTimers();
  const sockets = new NodeSockets();
  const addresses = watchAddresses(() => daemon.resume());
  const daemon = new Daemon({ director, sockets, timers, log, hasAddress: (address) => addresses.has(address) });
  const now = (): number => performance.now();
  const feedback = new LoadFeedback({ daemon, director, log, openSource: sourceFrom, now });
  const feedbackTimer = setInterval(() => void feedback.turn(), FEEDBACK_PERIOD_MS);
  let reloadCheck = false;
  const configure = (configuration: Configuration): void => {
    reloadCheck = configuration.global.reloadCheck;
    daemon.configure(withDefaults(configuration, options));
    feedback.follow();
  };
  /** What keeps the process alive, or another daemon out. */
  const letGo = (): void => {
    clearInterval(feedbackTimer);
    addresses.close();
    timers.stop();
    sockets.close();
    lock.release();
  };
  try {
    configure(first.configuration);
  } catch (error) {
    // A director that cannot be opened says so, and nothing of us is left waiting.
    letGo();
    throw error;
  }
  const reload = (): boolean => {
    notifySystemd(reloadingLines());
    const loaded = load(options);
    const usable = mayUse(loaded, strict || reloadCheck);
    if (usable) configure(loaded.configuration);
    log.info(usable ? `Reloaded ${file}` : `Did not reload ${file}: the configuration before it goes on`);
    notifySystemd(['READY=1', statusLine(daemon)]);
    return usable;
  };
  const control = await serveControl(paths.control, (request) => answer(request, daemon, reload, feedback));
  notifySystemd(['READY=1', statusLine(daemon)]);
  log.info(`Running with ${file}: ${describeSize(daemon)}`);
  return {
    daemon,
    reload,
    async stop({ leave = false } = {}) {
      notifySystemd(['STOPPING=1']);
      daemon.stop({ leave });
      await new Promise((done) => control.close(done));
      letGo();
    },
  };
}

function load({ file, log, configId }: ServeOptions): LoadedConfiguration {
  const loaded = loadConfigurationFile(file, configId === undefined ? {} : { configId });
  const lineOf = lineFinder(loaded.sources);
  for (const diagnostic of loaded.diagnostics) {
    if (diagnostic.severity === 'finding') continue;
    const level = diagnostic.severity === 'fatal' || diagnostic.severity === 'error' ? 'error' : 'warn';
    log[level](formatDiagnostic(diagnostic, lineOf).split('\n', 1)[0] ?? '');
  }
  return loaded;
}

/** What keepalived runs after dropping lines we run too; only what it would not start with is refused. */
function mayUse({ diagnostics }: LoadedConfiguration, strict = false): boolean {
  const verdict = verdictOf(diagnostics);
  return verdict !== 'refused' && (verdict === 'good' || !strict);
}

/** What the command line says for virtual servers that say nothing themselves. */
function withDefaults(configuration: Configuration, { load: source, slowStartMs }: ServeOptions): Configuration {
  const load = source === undefined ? undefined : { source, everyMs: FEEDBACK_PERIOD_MS, settings: {} };
  const virtualServers = configuration.virtualServers.map((server) => ({
    ...server,
    load: server.load ?? load,
    slowStartMs: server.slowStartMs ?? slowStartMs,
  }));
  return { ...configuration, virtualServers };
}

/** The addresses of this host, kept by what the kernel tells. */
function watchAddresses(changed: () => void): { has(address: string): boolean; close(): void } {
  const read = () =>
    new Set(withRoutes(undefined, (routes) => routes.addresses().map(({ address }) => address.split('/', 1)[0] ?? '')));
  let known = read();
  const watcher = watchRoutes((event) => {
    if (event.kind === 'link' || event.kind === 'link-gone') return;
    known = read();
    changed();
  });
  return { has: (address) => known.has(address), close: () => watcher.close() };
}

function answer(request: ControlRequest, daemon: Daemon, reload: () => boolean, feedback: LoadFeedback): unknown {
  switch (request.op) {
    case 'status':
      return status(daemon);
    case 'reload':
      return reload();
    case 'plan': {
      const { configuration, diagnostics } = loadConfigurationFile(request.file ?? '');
      return { commands: daemon.plan(configuration), verdict: verdictOf(diagnostics) };
    }
    case 'drain': {
      const found = daemon.setDrain(request.address ?? '', request.port, request.drain ?? 'draining');
      return found.map(({ service, server }) => ({ service: service.name, server: server.name }));
    }
    case 'explain-weight':
      return explainWeight(request, daemon, feedback);
  }
}

function status(daemon: Daemon) {
  return daemon.servers().map(({ service, server, alive, weight, drain, load, checks }) => ({
    service: service.name,
    server: server.name,
    alive,
    drain,
    weight: load.weight ?? weight,
    configuredWeight: server.settings.weight,
    checks,
  }));
}

function explainWeight(request: ControlRequest, daemon: Daemon, feedback: LoadFeedback): string {
  const { service: wanted, address, port } = request;
  const found = daemon
    .servers()
    .find(
      ({ service, server }) =>
        server.address === address &&
        (port === undefined || server.port === port) &&
        service.services.some(
          (id) => id.kind === 'address' && id.address === wanted?.address && id.port === wanted.port,
        ),
    );
  if (found === undefined) throw new Error('Cannot explain: there is no such real server of that virtual service');
  const { service, server, alive, weight, drain, failed, returnedMs } = found;
  if (!alive) return `weight 0: ${failed.length} of its ${server.checks.length} checks fail`;
  if (drain !== 'no') return `weight 0: it is ${drain}`;
  const rising =
    returnedMs === undefined
      ? ''
      : `\nit has come back and its weight still rises: the whole ${(service.slowStartMs ?? 0) / 1000} s after that`;
  const byLoad = feedback.explain(service, realServerKey(server));
  if (byLoad !== undefined) return byLoad + rising;
  const because =
    weight === server.settings.weight ? 'as configured' : `configured ${server.settings.weight}, moved by its checks`;
  return `weight ${weight}: ${because}; nobody asks for its load (ipvsd run --load)${rising}`;
}

function statusLine(daemon: Daemon): string {
  return `STATUS=${describeSize(daemon)}`;
}

function describeSize(daemon: Daemon): string {
  return `${daemon.services().length} virtual services, ${daemon.servers().length} real servers, ${daemon.checkCount} checks`;
}
