/** What the current network namespace says of itself: interfaces and the addresses that are its own. */
import { withRoutes } from '@ipvsd/linux';
import { createEnvironment, type Environment } from '../environment.ts';

export function hostEnvironment(): Environment {
  return withRoutes(undefined, (routes) =>
    createEnvironment({
      interfaces: new Map(routes.links().map(({ name, mtu }) => [name, mtu])),
      localAddresses: routes.addresses().map(({ address }) => address.replace(/\/\d+$/, '')),
    }),
  );
}
