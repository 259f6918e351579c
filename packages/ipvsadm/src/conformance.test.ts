import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createEnvironment, MemoryDirector } from '@ipvsd/director';
import { describe, expect, test } from 'vitest';
import { type Excuse, formatScenarioResult, playConformance } from './conformance.ts';
import { directorStage, recordedNames, type World } from './conformance-stage.ts';

const { GOLDEN } = process.env;
const folder = GOLDEN ?? fileURLToPath(new URL('../golden', import.meta.url));
const excusedFile = new URL('../golden/excused.json', import.meta.url);
const excused = JSON.parse(readFileSync(excusedFile, 'utf8')) as Excuse[];

describe('every recorded command line of ipvsadm 1.31 gives what it gave on the kernel', async () => {
  const names = recordedNames();
  const stage = ({ interfaces }: World) =>
    directorStage(new MemoryDirector({ environment: createEnvironment({ interfaces }) }), names);
  for await (const result of playConformance({ folder, stage, excused })) {
    test(`${result.scenario} (${result.steps} steps)`, () => {
      const unexplained = result.differences.filter(({ excuse }) => excuse === undefined);
      expect(unexplained, formatScenarioResult(result)).toEqual([]);
    });
  }
});
