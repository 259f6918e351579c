import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ServiceHealth } from '../health/service-health.ts';
import { loadKeepalivedText, loadNativeText } from './load.ts';
import { outline } from './outline.ts';

const folder = fileURLToPath(new URL('../../cases', import.meta.url));
const cases = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8').split('\n--- ', 1)[0] ?? '');
const words = [...new Set(cases.join('\n').split(/\s+/))];
const parameters = { seed: Number(process.env['SEED'] ?? Date.now() % 2 ** 31), numRuns: 500 };

/** A case with some of its words dropped, doubled, or exchanged for others that the language knows. */
const broken = fc
  .tuple(fc.constantFrom(...cases), fc.array(fc.tuple(fc.nat(), fc.nat(), fc.constantFrom(...words)), { maxLength: 8 }))
  .map(([text, changes]) => {
    const parts = text.split(/(\s+)/);
    for (const [at, kind, word] of changes) {
      const index = at % parts.length;
      parts.splice(
        index,
        kind % 3 === 0 ? 1 : 0,
        ...(kind % 3 === 1 ? [parts[index] ?? ''] : kind % 3 === 2 ? [word, ' '] : []),
      );
    }
    return parts.join('');
  });

test(`a file with words dropped, doubled and exchanged is understood or complained of (seed ${parameters.seed})`, () => {
  fc.assert(
    fc.property(broken, (text) => {
      const { configuration, diagnostics } = loadKeepalivedText(text);
      const shown = outline(configuration);
      for (const wrong of ['undefined', 'NaN']) expect(shown).not.toContain(wrong);
      for (const { message } of diagnostics) expect(message).not.toContain('undefined');
      for (const server of configuration.virtualServers) new ServiceHealth(server).placed();
    }),
    parameters,
  );
});

test(`whatever YAML it is given, our own reader answers (seed ${parameters.seed})`, () => {
  const yaml = fc.oneof(fc.string({ unit: 'binary' }), fc.json(), broken);
  fc.assert(
    fc.property(yaml, (text) => void loadNativeText('ipvsd.yaml', text)),
    parameters,
  );
});
