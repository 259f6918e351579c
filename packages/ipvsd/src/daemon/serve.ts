/**
 * The daemon as a process: one per network namespace, configured by a file, told by signals, asked through a socket. The
 * director is handed in, so tests bring one of memory.
 */
import { type Director, realServerKey, serviceKey } from '@ipvsd/director';
import {
  type Configuration,
  Daemon,
  formatDiagnostic,
  type LoadedConfiguration,
  type Log,
  lineFinder,
  loadConfigurationFile,
  NodeSockets,
  startTimers,
  type VirtualServer,
  verdictOf,
} from '@ipvsd/keepalived';
import { notifySystemd, reloadingLines, tryLockFile, watchRoutes, withRoutes } from '@ipvsd/linux';
import { describeReason, Feedback, type Source } from '@ipvsd/load';
import { type ControlRequest, serveControl } from './control.ts';
import type { DaemonPaths } from './run-folder.ts';

export interface ServeOptions {
  readonly file: string;
  readonly director: Director;
  readonly paths: DaemonPaths;
  readonly log: Log;
  readonly configId?: string;
  /** Asks real servers for their load; absent: weights are what the configuration says. */
  readonly loadSource?: Source;
  /** Start and reload although the configuration has errors, as keepalived does. */
  readonly despiteErrors?: boolean;
}

export interface Serving {
  readonly daemon: Daemon;
  /** False where the new configuration is refused and the old one goes on. */
  reload(): boolean;
  stop(options?: { readonly leave?: boolean }): Promise<void>;
}

const FEEDBACK_PERIOD_MS = 1000;

export async function serve(options: ServeOptions): Promise<Serving> {
  const { file, director, paths, log, loadSource } = options;
  const lock = tryLockFile(paths.lock);
  if (lock === null) throw new Error('Cannot run: a daemon runs in this network namespace already');
  const first = load(options);
  if (!mayUse(first, options)) {
    lock.release();
    throw new Error(
      `Cannot run: ${file} has errors (ipvsd check ${file} lists them; --despite-errors runs all the same)`,
    );
  }
  const timers = startTimers();
  const sockets = new NodeSockets();
  const addresses = watchAddresses(() => daemon.resume());
  const daemon = new Daemon({ director, sockets, timers, log, hasAddress: (address) => addresses.has(address) });
  const feedback = loadSource && startFeedback(loadSource, daemon, log);
  const configure = (configuration: Configuration): void => {
    daemon.configure(configuration);
    feedback?.follow();
  };
  /** What keeps the process alive, or another daemon out. */
  const letGo = (): void => {
    feedback?.stop();
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
    const usable = mayUse(loaded, options);
    if (usable) configure(loaded.configuration);
    else log.error(`${file} has errors: the configuration before it goes on`);
    log.info(usable ? `Reloaded ${file}` : `Did not reload ${file}`);
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

/** A file keepalived would run with after dropping lines is run only when the operator says so. */
function mayUse({ diagnostics }: LoadedConfiguration, { despiteErrors = false }: ServeOptions): boolean {
  const verdict = verdictOf(diagnostics);
  return verdict !== 'refused' && (verdict !== 'errors' || despiteErrors);
}

interface RunningFeedback {
  follow(): void;
  explain(service: VirtualServer, server: string): string | undefined;
  stop(): void;
}

function startFeedback(source: Source, daemon: Daemon, log: Log): RunningFeedback {
  const keyOf = ({ services: [id] }: VirtualServer): string => (id ? serviceKey(id) : '');
  const feedback = new Feedback({
    source,
    now: () => performance.now(),
    complain: (address, error) => log.warn(`Cannot ask ${address} for its load: ${error.message}`),
    apply: (key, weights) => {
      const service = daemon.services().find((candidate) => keyOf(candidate) === key);
      if (service) daemon.setLoadWeights(service, weights);
    },
  });
  const timer = setInterval(() => void feedback.turn(), FEEDBACK_PERIOD_MS);
  return {
    follow: () =>
      feedback.setServices(
        daemon.services().map((service) => ({
          key: keyOf(service),
          servers: service.realServers.map((server) => ({
            key: realServerKey(server),
            address: server.address,
            configuredWeight: server.settings.weight,
          })),
        })),
      ),
    explain: (service, server) => {
      const reason = feedback.explain(keyOf(service), server);
      return reason && describeReason(reason);
    },
    stop: () => clearInterval(timer),
  };
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

function answer(
  request: ControlRequest,
  daemon: Daemon,
  reload: () => boolean,
  feedback: RunningFeedback | undefined,
): unknown {
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
  return daemon.servers().map(({ service, server, alive, weight, drain, loadWeight, checks }) => ({
    service: service.name,
    server: server.name,
    alive,
    drain,
    weight: loadWeight ?? weight,
    configuredWeight: server.settings.weight,
    checks,
  }));
}

function explainWeight(request: ControlRequest, daemon: Daemon, feedback: RunningFeedback | undefined): string {
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
  const { service, server, alive, weight, drain, failed } = found;
  if (!alive) return `weight 0: ${failed.length} of its ${server.checks.length} checks fail`;
  if (drain !== 'no') return `weight 0: it is ${drain}`;
  const byLoad = feedback?.explain(service, realServerKey(server));
  if (byLoad !== undefined) return byLoad;
  const because =
    weight === server.settings.weight ? 'as configured' : `configured ${server.settings.weight}, moved by its checks`;
  return `weight ${weight}: ${because}; nobody asks for its load (ipvsd run --load)`;
}

function statusLine(daemon: Daemon): string {
  return `STATUS=${describeSize(daemon)}`;
}

function describeSize(daemon: Daemon): string {
  return `${daemon.services().length} virtual services, ${daemon.servers().length} real servers, ${daemon.checkCount} checks`;
}
