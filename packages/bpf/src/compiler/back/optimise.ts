/** The order of the passes. Each leaves work for the others, so they take turns until jumps stop moving. */

import type { Body } from './body.ts';
import { shareCommon } from './common.ts';
import { cleanControlFlow } from './control-flow.ts';
import { dropDeadCode } from './dead-code.ts';
import { dropUndemanded } from './demand.ts';
import { threadJumps } from './jump-threading.ts';
import { propagate } from './propagate.ts';
import { dropDeadStores } from './slot-liveness.ts';
import { splitWebs } from './webs.ts';

const MAX_ROUNDS = 12;

export function optimise(body: Body): void {
  cleanControlFlow(body);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    splitWebs(body);
    propagate(body);
    shareCommon(body);
    dropUndemanded(body);
    dropDeadCode(body);
    cleanControlFlow(body);
    // Two rounds at least: what one pass leaves, the pass before it may finish.
    if (!threadJumps(body) && round > 1) break;
    cleanControlFlow(body);
  }
  // The last copies may have carried a constant past a test. What it makes of a division we know, but not the verifier.
  propagate(body);
  cleanControlFlow(body);
  dropDeadStores(body);
  dropDeadCode(body);
}
