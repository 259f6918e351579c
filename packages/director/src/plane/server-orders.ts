/**
 * Orders about real servers, gathered where the data plane finds them and carried out together: one call for hundreds.
 */
import { bytesOf, htons, type View } from '@ipvsd/bpf';
import {
  MAX_ORDERS,
  Orders,
  orders,
  RETIRE,
  type ServerOrder,
  ServerOrders as ServerOrdersContext,
  type Service as StoredService,
  server as serverProgram,
} from '@ipvsd/ipvs';
import type { RealServer } from '../model.ts';
import { FAMILY_NUMBERS, methodNumber, storeAddress, tunnelNumbers } from './codec.ts';
import type { Plane } from './plane.ts';

export class ServerOrders {
  readonly #plane: Plane;
  #list: View<(typeof Orders)['fields']>['of'] | undefined;
  #count = 0;

  constructor(plane: Plane) {
    this.#plane = plane;
  }

  /** PLACE, EDIT or REVIVE the real server of that number. */
  give(kind: number, number: number, service: StoredService, server: RealServer): void {
    const order = this.#next(kind, number);
    const { type, flags } = tunnelNumbers(server.tunnel);
    order.service = service.index;
    order.owner = service.sequence;
    storeAddress(order.address, server.address);
    order.port = htons(server.port);
    order.family = FAMILY_NUMBERS[server.family];
    order.method = methodNumber(server.forwarding);
    order.tunnelType = type;
    order.tunnelFlags = flags;
    order.tunnelPort = htons(server.tunnel.port);
    order.weight = server.weight;
    order.upper = server.upperThreshold;
    order.lower = server.lowerThreshold;
  }

  retire(number: number): void {
    this.#next(RETIRE, number);
  }

  /** All that were given are carried out when it returns. */
  flush(): void {
    if (this.#count === 0) return;
    const context = ServerOrdersContext.create({ count: this.#count });
    this.#count = 0;
    this.#list = undefined;
    const refused = this.#plane.call(serverProgram, context);
    if (refused !== 0)
      throw new Error(`Cannot change real servers: the data plane refused the ${refused}. of its orders`);
  }

  #next(kind: number, number: number): ServerOrder {
    if (this.#count === MAX_ORDERS) this.flush();
    // Another command may have brought other memory.
    this.#list ??= Orders.on(this.#plane.store(orders).memory()).of;
    const order = this.#list.at(this.#count++);
    bytesOf(order).fill(0);
    order.kind = kind;
    order.number = number;
    return order;
  }
}
