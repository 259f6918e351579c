/** A whole module's IR as text: its maps, then the functions of each program. */
import { irText, printable } from './back/ir-text.ts';
import type { IrModule } from './ir.ts';

export function printIr(module: IrModule): string {
  const maps = module.maps.map(
    ({ name, type, keyType, valueType, maxEntries }) =>
      `map ${name}: ${type} ${keyType ?? '-'} -> ${valueType ?? '-'}, ${maxEntries} entries`,
  );
  const programs = module.programs.map(({ name, type, functions }) =>
    [`program ${name}: ${type}`, ...functions.map((one) => irText(printable(one)))].join('\n'),
  );
  return [...(maps.length === 0 ? [] : [maps.join('\n')]), ...programs].join('\n\n');
}
