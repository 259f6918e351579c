/**
 * By client network: clients of 10.1.0.0/16 go to the real server that was added first, while it takes connections; all
 * others, and these where it does not, by weighted least connection.
 *
 *     ipvsd scheduler add examples/schedulers/office.ts
 *     ipvsadm -E -t 192.0.2.10:80 -s office
 */
import { isClientOf, NONE, network, oldest, scheduler, weightedLeastConnections } from 'ipvsd/scheduler';

const OFFICE = network('10.1.0.0/16');

export default scheduler('office', (service, asking, state) => {
  const first = isClientOf(asking, OFFICE) ? oldest(service) : NONE;
  return first !== NONE ? first : weightedLeastConnections(service, asking, state);
});
