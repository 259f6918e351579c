/** `ipvsd explain`: why a real server has its weight, and which real server a client has and why. */
import type { ConnectionEntry, Director, EndPoint, RealServer, VirtualService } from '@ipvsd/director';
import { askDaemon } from '../daemon/control.ts';

export interface ExplainTools {
  readonly director: Pick<Director, 'table' | 'connections'>;
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
  let template: ConnectionEntry | undefined;
  for (const entry of director.connections()) {
    if (!isAt(entry.virtual, virtual) || entry.client.address !== client.address) continue;
    if (entry.client.port === client.port) {
      const { real, state, expiresSeconds } = entry;
      write(`${nameOf(real)}: it has a connection, ${state}, for another ${expiresSeconds} s\n`);
      return;
    }
    if (entry.client.port === 0) template = entry;
  }
  const service = [...director.table().services.values()].find(
    ({ id }) => id.kind === 'address' && isAt({ address: id.address, port: id.port }, virtual),
  );
  if (template) {
    const { real, expiresSeconds } = template;
    write(`${nameOf(real)}: persistence binds this client to it for another ${expiresSeconds} s\n`);
  } else if (service === undefined) throw new Error(`Cannot explain: there is no virtual service ${nameOf(virtual)}`);
  else write(explainScheduler(service));
}

function explainScheduler({ scheduler, realServers }: VirtualService): string {
  const cost = COSTS[scheduler];
  const lines = realServers.map((server) => {
    const { weight, activeConnections, inactiveConnections } = server;
    const why = weight === 0 ? ', takes no new connections' : cost ? `, costs ${cost(server).toFixed(1)}` : '';
    return `  ${nameOf(server)} weight ${weight}, ${activeConnections} active, ${inactiveConnections} inactive${why}\n`;
  });
  const candidates = cost ? realServers.filter(({ weight }) => weight > 0).toSorted((a, b) => cost(a) - cost(b)) : [];
  const [next] = candidates;
  const head = next
    ? `${nameOf(next)}: no connection and no persistence; ${scheduler} takes the least cost\n`
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
