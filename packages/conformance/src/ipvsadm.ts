/**
 * Recorded command lines of ipvsadm, each scenario against an empty director: in Node, or the kernel's of a network namespace made
 * for it.
 */
import { createEnvironment, type Director, KernelDirector, KernelPlane, MapDirector, NodePlane } from '@ipvsd/director';
import type { Names } from '@ipvsd/ipvsadm';
import { directorStage, playConformance, type Stage, type World } from '@ipvsd/ipvsadm/conformance';
import { createNamespace, deleteNamespace, inNamespace, withRoutes } from '@ipvsd/linux';
import type { Result } from './report.ts';

const TOPIC = 'ipvsadm';
const MAX_CONNECTIONS = 1024;
/** The recordings' interface beside the loopback, where a scenario has one. */
const INTERFACE = 'or0';
const ADDRESSES = ['10.3.0.1/24', '2001:db8:3::1/64'];

export async function* playIpvsadm(
  folder: string,
  plane: 'node' | 'kernel',
  names: Names,
  wanted: (name: string) => boolean,
): AsyncGenerator<Result> {
  const stage = (world: World): Stage => (plane === 'node' ? nodeStage(world, names) : kernelStage(world, names));
  for await (const { scenario, differences } of playConformance({ folder, stage, only: wanted })) {
    yield {
      topic: TOPIC,
      scenario,
      differences: differences.map(({ step, command, what, expected, actual }) => ({
        event: step,
        what: `${what} of "${command}"`,
        expected,
        actual,
      })),
    };
  }
}

function nodeStage({ interfaces }: World, names: Names): Stage {
  const plane = new NodePlane({
    now: () => 10n ** 12n,
    random: () => 0,
    maxEntries: { connections: MAX_CONNECTIONS, free_slots: MAX_CONNECTIONS },
  });
  const localAddresses = ADDRESSES.map((prefix) => prefix.replace(/\/.*/, ''));
  const director = new MapDirector(plane, { environment: createEnvironment({ interfaces, localAddresses }) });
  director.writeSettings(undefined, MAX_CONNECTIONS);
  return directorStage(director, names);
}

let scenarios = 0;

function kernelStage({ interfaces }: World, names: Names): Stage {
  const namespace = `ipvsd-ipvsadm-${process.pid}-${scenarios++}`;
  createNamespace(namespace);
  const remove = (): void => {
    inNamespace(namespace, () => KernelPlane.open()?.detach());
    deleteNamespace(namespace);
  };
  try {
    withRoutes(namespace, (routes) => {
      routes.setUp('lo');
      if (!interfaces.has(INTERFACE)) return;
      // A pair with both ends here: not every machine has dummies.
      routes.addVeth(INTERFACE, 'far');
      for (const address of ADDRESSES) routes.addAddress(INTERFACE, address, { nodad: true });
      for (const name of [INTERFACE, 'far']) routes.setUp(name);
    });
    const director = inside(namespace, new KernelDirector({ maxConnections: MAX_CONNECTIONS }));
    return { ...directorStage(director, names), close: remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** The same director, each call made in the namespace. */
function inside(namespace: string, director: Director): Director {
  return new Proxy(director, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) =>
        inNamespace(namespace, () => {
          const answer = value.apply(target, args) as unknown;
          // A generator would go on reading outside.
          return name === 'connections' ? [...(answer as Iterable<unknown>)] : answer;
        });
    },
  });
}
