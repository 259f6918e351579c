/**
 * By load: a real server's weight is the number of connections that it is made for, and the next one goes where the greatest
 * part of that is free. One that is full gets none while another has room.
 *
 *     ipvsd scheduler add examples/schedulers/spare.ts
 *     ipvsadm -A -t 192.0.2.10:80 -s spare
 *     ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.2 -m -w 200
 */
import { eachServer, NONE, scheduler, u32 } from 'ipvsd/scheduler';

export default scheduler('spare', (service) => {
  let chosen: u32 = NONE;
  let least: u32 = NONE;
  eachServer(service, (server, number) => {
    // The part that is taken, in thousandths.
    const taken = u32((server.active * 1000) / server.weight);
    if (taken < least) {
      least = taken;
      chosen = number;
    }
    return 0;
  });
  return chosen;
});
