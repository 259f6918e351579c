/** The command: `npm run conformance [-- --golden FOLDER] [--plane kernel|node] [--topic NAME]... [--only TEXT] [--json]`. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { count, type Excuses, emptySummary, formatResult } from './report.ts';
import { run, runOnBoth } from './run.ts';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      golden: { type: 'string', default: here('../golden') },
      plane: { type: 'string' },
      topic: { type: 'string', multiple: true },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const { plane } = values;
  if (plane !== undefined && plane !== 'node' && plane !== 'kernel') {
    throw new Error(`Cannot play on plane "${plane}": must be kernel or node, or not be given for both`);
  }
  const summary = emptySummary();
  const options = {
    folder: values.golden,
    excuses: JSON.parse(readFileSync(here('../excused.json'), 'utf8')) as Excuses,
    services: readFileSync(servicesFile(), 'utf8'),
    ...(values.topic && { topics: values.topic }),
    ...(values.only !== undefined && { only: values.only }),
  };
  const results = plane === undefined ? runOnBoth(options) : run({ ...options, plane });
  for await (const result of results) {
    count(summary, result);
    console.log(formatResult(result));
  }
  if (summary.total === 0) throw new Error('Cannot play anything: no scenario has that name');
  for (const [topic, { agree, total }] of Object.entries(summary.topics)) console.log(`${topic}: ${agree} of ${total}`);
  console.log(`${summary.agree} of ${summary.total} agree${summary.excused > 0 ? `, ${summary.excused} excused` : ''}`);
  if (values.json) console.log(JSON.stringify(summary));
  return summary.agree + summary.excused === summary.total ? 0 : 1;
}

function servicesFile(): string {
  const own = here('../golden/services');
  return existsSync(own) ? own : '/etc/services';
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  },
);
