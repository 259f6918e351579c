// docs/counters.md from the reasons in packages/ipvs/src/counters.ts. With --check: only say whether it is up to date.
import { readFileSync, writeFileSync } from 'node:fs';
import { REASON_LIST } from '../packages/ipvs/dist/counters.js';

const FILE = 'docs/counters.md';
const rows = REASON_LIST.map(({ name, verdict, sentence }) => `| \`${name}\` | ${verdict} | ${sentence} |`);
const text = `# Counters

Every packet that a director passes by or drops for a reason is counted under its name. \`ipvsd status\` shows those that are not zero.

| name | the packet is | because |
|---|---|---|
${rows.join('\n').replaceAll('| pass |', '| passed to the host |').replaceAll('| drop |', '| dropped |')}
`;

if (!process.argv.includes('--check')) writeFileSync(FILE, text);
else if (readFileSync(FILE, 'utf8') !== text) {
  console.error(`${FILE} is not what counters.ts says: run node scripts/counters.mjs`);
  process.exit(1);
}
