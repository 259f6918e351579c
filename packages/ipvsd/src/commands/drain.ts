/**
 * `ipvsd drain` and `undrain`. Weight 0 in every service, then wait for the active connections to end, then removal. A
 * running daemon is told, or it would put the weight back; without one the table is changed directly.
 */
import { type Director, type RealServer, type ServiceId, serverSettingsOf } from '@ipvsd/director';
import { askDaemon, type ControlRequest } from '../daemon/control.ts';

export interface DrainTarget {
  readonly address: string;
  readonly port: number | undefined;
}

export interface DrainOptions {
  readonly deadlineSeconds: number;
  /** Leave it in the table with weight 0. */
  readonly keep?: boolean;
  /** Clients that persistence binds to it may go elsewhere at once. */
  readonly releasePersistence?: boolean;
  readonly weight?: number;
}

export interface DrainTools {
  readonly director: Director;
  readonly controlPath: string;
  readonly write: (text: string) => void;
  readonly now?: () => number;
  readonly sleep?: (ms: number) => Promise<void>;
}

const POLL_MS = 500;

interface Found {
  readonly service: ServiceId;
  readonly server: RealServer;
}

export async function drain(target: DrainTarget, options: DrainOptions, tools: DrainTools): Promise<void> {
  const { director, write, now = () => performance.now(), sleep = wait } = tools;
  if (find(target, director).length === 0) throw new Error(`Cannot drain ${nameOf(target)}: no virtual service has it`);
  const daemon = await tell(target, 'draining', tools);
  if (!daemon) setWeight(target, 0, director);
  if (options.releasePersistence)
    director.execute({ kind: 'setSysctl', name: 'expire_quiescent_template', value: '1' });
  const end = now() + options.deadlineSeconds * 1000;
  let last = -1;
  for (;;) {
    const active = find(target, director).reduce((sum, { server }) => sum + server.activeConnections, 0);
    if (active !== last) write(`${active} active connections on ${nameOf(target)}\n`);
    last = active;
    if (active === 0) break;
    if (now() >= end) {
      write(`The deadline has passed with ${active} active connections\n`);
      break;
    }
    await sleep(Math.min(POLL_MS, Math.max(1, end - now())));
  }
  if (options.keep) {
    write(`${nameOf(target)} stays with weight 0\n`);
    return;
  }
  if (daemon) await tell(target, 'drained', tools);
  else
    for (const { service, server } of find(target, director))
      director.execute({ kind: 'deleteServer', service, server: idOf(server) });
  write(`${nameOf(target)} is out of the table (ipvsd undrain ${nameOf(target)} calls it back)\n`);
}

export async function undrain(
  target: DrainTarget,
  options: Pick<DrainOptions, 'weight'>,
  tools: DrainTools,
): Promise<void> {
  const { director, write } = tools;
  const told = await tell(target, 'no', tools);
  if (told) {
    write(`${nameOf(target)} is back in ${told.length} virtual services\n`);
    return;
  }
  const found = find(target, director);
  if (found.length === 0)
    throw new Error(`Cannot undrain ${nameOf(target)}: no daemon runs, and the table does not have it`);
  if (options.weight === undefined)
    throw new Error(`Cannot undrain ${nameOf(target)}: no daemon knows its weight, say --weight`);
  setWeight(target, options.weight, director);
  write(`${nameOf(target)} has weight ${options.weight} in ${found.length} virtual services\n`);
}

type Told = { service: string; server: string }[];

/** Undefined without a daemon, or where the daemon does not have it: then it is the table's alone. */
async function tell(
  { address, port }: DrainTarget,
  drain: 'no' | 'draining' | 'drained',
  tools: DrainTools,
): Promise<Told | undefined> {
  const request: ControlRequest = { op: 'drain', address, drain, ...(port !== undefined && { port }) };
  const found = await askDaemon<Told>(tools.controlPath, request);
  return found && found.length > 0 ? found : undefined;
}

function find({ address, port }: DrainTarget, director: Director): Found[] {
  return [...director.table().services.values()].flatMap(({ id, realServers }) =>
    realServers
      .filter((server) => server.address === address && (port === undefined || server.port === port))
      .map((server) => ({ service: id, server })),
  );
}

function setWeight(target: DrainTarget, weight: number, director: Director): void {
  for (const { service, server } of find(target, director)) {
    const settings = { ...serverSettingsOf(server), weight };
    director.execute({ kind: 'editServer', service, server: idOf(server), settings });
  }
}

function idOf({ address, port }: RealServer) {
  return { address, port };
}

function nameOf({ address, port }: DrainTarget): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
