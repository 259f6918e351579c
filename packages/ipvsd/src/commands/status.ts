/** `ipvsd status`: where the director is attached, how full its table is, and why packets were passed by or dropped. */
import { KernelPlane } from '@ipvsd/director';
import { Count, Population, population, REASON_LIST, reasons, Settings, settings } from '@ipvsd/ipvs';
import { withRoutes } from '@ipvsd/linux';
import { openDirector } from '../open-director.ts';

const KEY = new Uint8Array(4);

export interface Status {
  readonly interfaces: readonly string[];
  readonly connections: { readonly alive: number; readonly maximum: number };
  readonly reasons: Readonly<Record<string, number>>;
}

export function status(json: boolean): void {
  openDirector();
  const plane = KernelPlane.open();
  if (plane === undefined) {
    process.stdout.write(json ? 'null\n' : 'No director in this network namespace\n');
    return;
  }
  const found = read(plane);
  process.stdout.write(json ? `${JSON.stringify(found)}\n` : describe(found));
}

function read(plane: KernelPlane): Status {
  const attached = plane.attachments();
  const interfaces = withRoutes(undefined, (routes) =>
    routes
      .links()
      .filter(({ ifindex }) => attached.has(ifindex))
      .map(({ name }) => name),
  );
  const counts = REASON_LIST.map(({ name }, index) => {
    const perCpu = plane.store(reasons).lookupPerCpu(new Uint8Array(Uint32Array.of(index).buffer));
    return [name, perCpu.reduce((sum, bytes) => sum + Number(Count.on(bytes).packets), 0)] as const;
  });
  return {
    interfaces,
    connections: {
      alive: Population.on(plane.store(population).lookup(KEY)!).alive,
      maximum: Settings.on(plane.store(settings).lookup(KEY)!).maxConnections,
    },
    reasons: Object.fromEntries(counts.filter(([, count]) => count > 0)),
  };
}

function describe({ interfaces, connections, reasons }: Status): string {
  const lines = [
    `Attached to ${interfaces.join(', ') || 'no interface'}`,
    `Connections ${connections.alive} of at most ${connections.maximum}`,
  ];
  for (const [name, count] of Object.entries(reasons)) {
    const { verdict, sentence } = REASON_LIST.find((reason) => reason.name === name)!;
    lines.push(`${verdict === 'pass' ? 'Passed' : 'Dropped'} ${count} ${name}: ${sentence}`);
  }
  return `${lines.join('\n')}\n`;
}
