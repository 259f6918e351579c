/** Which registers certainly hold a number below 2^32 in all 64 bits, so that comparing them whole or by halves is the same. */
import type { Instruction, Operand } from '../ir.ts';
import type { Body } from './body.ts';
import { unsigned } from './evaluate.ts';
import { definedBy, isRegister } from './instruction.ts';
import { factsOf, inside } from './ranges.ts';

export function zeroExtended(body: Body): (operand: Operand) => boolean {
  const facts = factsOf(body);
  const is = new Array<boolean>(body.registerCount).fill(true);
  for (const param of body.source.params) is[param] = false;
  const known = (operand: Operand): boolean =>
    isRegister(operand) ? is[operand.reg]! : unsigned(operand.imm) < 2n ** 32n;
  const certain = (one: Instruction): boolean => {
    const dst = definedBy(one);
    if (dst !== undefined && inside(facts.range({ reg: dst }), { min: 0, max: 0xffff_ffff })) return true;
    switch (one.op) {
      case 'move':
        return known({ reg: one.src });
      case 'swap':
        return one.bits !== 64;
      case 'binary':
        if (one.width === 32) return true;
        if (one.kind === 'and') return known(one.a) || known(one.b);
        if (one.kind === 'or' || one.kind === 'xor') return known(one.a) && known(one.b);
        return (one.kind === 'div' || one.kind === 'mod' || one.kind === 'shr') && known(one.a);
      default:
        return false;
    }
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const { instructions } of body.blocks) {
      for (const one of instructions) {
        const dst = definedBy(one);
        if (dst === undefined || !is[dst] || certain(one)) continue;
        is[dst] = false;
        changed = true;
      }
    }
  }
  return known;
}
