/** `npm run conformance [-- --golden FOLDER] [--plane kernel|node] [--topic NAME]... [--only TEXT] [--json]`. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { count, type Excuses, emptySummary, formatResult } from './report.ts';
import { run } from './run.ts';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      golden: { type: 'string', default: here('../golden') },
      plane: { type: 'string', default: 'node' },
      topic: { type: 'string', multiple: true },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  if (values.plane !== 'node' && values.plane !== 'kernel') {
    throw new Error(`Cannot play on plane "${values.plane}": must be kernel or node`);
  }
  const summary = emptySummary();
  const results = run({
    folder: values.golden,
    plane: values.plane,
    excuses: JSON.parse(readFileSync(here('../excused.json'), 'utf8')) as Excuses,
    services: readFileSync(servicesFile(), 'utf8'),
    ...(values.topic && { topics: values.topic }),
    ...(values.only !== undefined && { only: values.only }),
  });
  for await (const result of results) {
    count(summary, result);
    if (!values.json || result.differences.length > 0) console.log(formatResult(result));
  }
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
