/** `ipvsd explain`: why a real server has its weight, and which real server a client has and why. */
import {
  addressBytes,
  type ConnectionEntry,
  type Director,
  type EndPoint,
  type EstimatedLoad,
  familyOf,
  ipv4FromNumber,
  type RealServer,
  type VirtualService,
} from '@ipvsd/director';
import { askDaemon } from '../daemon/control.ts';

export interface ExplainTools {
  readonly director: Pick<Director, 'table' | 'connections' | 'loads' | 'choice'>;
  readonly controlPath: string;
  readonly write: (text: string) => void;
}

export async function explainWeight(
  virtual: EndPoint,
  real: EndPoint,
  { controlPath, write }: ExplainTools,
): Promise<void> {
  const { address, port } = real;
  const text = await askDaemon<string>(controlPath, { op: 'explain-weight', service: virtual, address, port });
  if (text === undefined)
    throw new Error('Cannot explain the weight: no daemon runs in this network namespace (ipvsd run)');
  write(`${text}\n`);
}

/** The connection it has; else the template that binds it; else the numbers its scheduler would choose by. */
export function explainClient(client: EndPoint, virtual: EndPoint, { director, write }: ExplainTools): void {
  const service = [...director.table().services.values()].find(
    ({ id }) => id.kind === 'address' && id.address === virtual.address && (id.port === virtual.port || id.port === 0),
  );
  let template: ConnectionEntry | undefined;
  for (const entry of director.connections()) {
    if (entry.client.port === 0) {
      if (entry.virtual.address === virtual.address && service && binds(entry, client, virtual, service))
        template = entry;
    } else if (isAt(entry.client, client) && isAt(entry.virtual, virtual)) {
      const { real, state, expiresSeconds } = entry;
      write(`${nameOf(real)}: it has a connection, ${state}, for another ${expiresSeconds} s\n`);
      return;
    }
  }
  if (template) {
    const { real, expiresSeconds } = template;
    write(`${nameOf(real)}: persistence binds this client to it for another ${expiresSeconds} s\n`);
  } else if (service === undefined) throw new Error(`Cannot explain: there is no virtual service ${nameOf(virtual)}`);
  else {
    const loads = service.scheduler === 'll' ? director.loads(service.id) : undefined;
    const choice = director.choice(service.id, client, virtual);
    write(loads === undefined ? explainScheduler(service, choice) : explainLoads(service, loads));
  }
}

/** A template is of a client's whole network, and of its service's port or of all. */
function binds(
  { client: bound, virtual: at }: ConnectionEntry,
  { address }: EndPoint,
  { port }: EndPoint,
  { persistence }: VirtualService,
): boolean {
  if (persistence === null || familyOf(bound.address) !== familyOf(address)) return false;
  if (at.port !== port && at.port !== 0 && at.port !== ANY_PORT) return false;
  const [one, other] = [addressBytes(bound.address), addressBytes(address)];
  const { netmask } = persistence;
  const mask =
    one.length === 4
      ? addressBytes(ipv4FromNumber(netmask))
      : Uint8Array.from(one, (_, i) => 0xff00 >> Math.min(8, Math.max(0, netmask - 8 * i)));
  return one.every((byte, i) => ((byte ^ other[i]!) & mask[i]!) === 0);
}

/** What templates of services for all ports are listed with. */
const ANY_PORT = 65_535;

function explainLoads({ realServers }: VirtualService, loads: readonly EstimatedLoad[]): string {
  const known = realServers.map((server, place) => ({ server, load: loads[place]! }));
  const [next] = known.filter(({ server }) => server.weight > 0).toSorted((a, b) => a.load.estimate - b.load.estimate);
  const lines = known.map(({ server, load: { reported, since, estimate } }) => {
    const said =
      reported === undefined
        ? `has not reported, ${since} active connections`
        : `reported ${reported.toFixed(2)}, ${since} connections opened since`;
    const taken = server.weight === 0 ? 'takes no new connections' : `counts as ${estimate.toFixed(2)}`;
    return `  ${nameOf(server)} ${said}: ${taken}\n`;
  });
  const head = next
    ? `${nameOf(next.server)}: no connection and no persistence; ll takes the least load\n`
    : 'No connection and no persistence; no real server takes new connections\n';
  return head + lines.join('');
}

function explainScheduler({ scheduler, realServers }: VirtualService, choice: RealServer | undefined): string {
  // Where nobody reports a load, ll is wlc.
  const cost = COSTS[scheduler === 'll' ? 'wlc' : scheduler];
  const lines = realServers.map((server) => {
    const { weight, activeConnections, inactiveConnections } = server;
    const why = weight === 0 ? ', takes no new connections' : cost ? `, costs ${cost(server).toFixed(1)}` : '';
    return `  ${nameOf(server)} weight ${weight}, ${activeConnections} active, ${inactiveConnections} inactive${why}\n`;
  });
  const candidates = cost ? realServers.filter(({ weight }) => weight > 0).toSorted((a, b) => cost(a) - cost(b)) : [];
  // The scheduler itself knows best: ties, thresholds, whose turn it is.
  const next = choice ?? candidates[0];
  const why = cost ? 'takes the least cost' : scheduler === 'twos' ? 'drew it this time' : 'would choose it now';
  const head = next
    ? `${nameOf(next)}: no connection and no persistence; ${scheduler} ${why}\n`
    : `No connection and no persistence; ${scheduler} would choose among\n`;
  return head + lines.join('');
}

/** Classic overhead, 256 for an active connection and 1 for an inactive one, by what the scheduler makes of it. */
const overhead = (server: RealServer): number => server.activeConnections * 256 + server.inactiveConnections;
const COSTS: Readonly<Record<string, (server: RealServer) => number>> = {
  lc: overhead,
  wlc: (server) => overhead(server) / server.weight,
  sed: (server) => (server.activeConnections + 1) / server.weight,
  nq: (server) => (server.activeConnections === 0 ? 0 : (server.activeConnections + 1) / server.weight),
};

function isAt(one: EndPoint, other: EndPoint): boolean {
  return one.address === other.address && one.port === other.port;
}

function nameOf({ address, port }: EndPoint): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
