/**
 * The picture of a run: for each load one panel of bars, a bar for each system, plain routing as the line at 1.00.
 *
 * Plain SVG with its own light and dark colours, so that it can be shown by a README on either.
 */

export interface Bar {
  readonly label: string;
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  /** Ours stand out. */
  readonly own: boolean;
}

export interface Panel {
  readonly title: string;
  readonly bars: readonly Bar[];
}

export interface Chart {
  readonly title: string;
  readonly note: string;
  readonly panels: readonly Panel[];
}

const WIDTH = 960;
const MARGIN = 24;
const HEAD = 74;
const ROW = 22;
const BAR = 14;
const LABELS = 196;
const FIGURES = 46;
const GAP = 28;
const TITLE = 34;
const FOOT = 34;

export function renderChart({ title, note, panels }: Chart): string {
  const labels = [...new Set(panels.flatMap(({ bars }) => bars.map(({ label }) => label)))];
  const columns = 2;
  const wide = (WIDTH - 2 * MARGIN - GAP) / columns;
  const tall = TITLE + labels.length * ROW + 22;
  const lines = Math.ceil(panels.length / columns);
  const height = HEAD + lines * tall + FOOT;
  const scale = Math.max(1.2, ...panels.flatMap(({ bars }) => bars.map(({ high }) => high))) * 1.02;
  const drawn = panels.map((panel, i) => {
    const x = MARGIN + (i % columns) * (wide + GAP);
    const y = HEAD + Math.floor(i / columns) * tall;
    return `<g transform="translate(${round(x)} ${round(y)})">${renderPanel(panel, labels, wide, scale)}</g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${markup(title)}">
<style>${STYLE}</style>
<rect class="page" width="${WIDTH}" height="${height}" rx="8"/>
<text class="title" x="${MARGIN}" y="34">${markup(title)}</text>
<text class="note" x="${MARGIN}" y="56">${markup(note)}</text>
${drawn.join('\n')}
</svg>
`;
}

const STYLE = [
  'text{font:12px system-ui,"Segoe UI",Helvetica,Arial,sans-serif;fill:#24292f}',
  '.page{fill:#fff}.title{font-size:18px;font-weight:600}.note,.tick{fill:#57606a}.tick{font-size:10px}',
  '.panel{font-size:13px;font-weight:600}.own{font-weight:600}.figure{paint-order:stroke;stroke:#fff;stroke-width:4px}',
  '.bar{fill:#afb8c1}.bar.own{fill:#0969da}.base{stroke:#cf222e;stroke-dasharray:3 3}.range{stroke:#24292f}.axis{stroke:#d0d7de}',
  '@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.note,.tick{fill:#8d96a0}.figure{stroke:#0d1117}',
  '.bar{fill:#484f58}.bar.own{fill:#2f81f7}.base{stroke:#ff7b72}.range{stroke:#e6edf3}.axis{stroke:#30363d}}',
].join('');

function renderPanel({ title, bars }: Panel, labels: readonly string[], width: number, scale: number): string {
  const length = width - LABELS - FIGURES;
  const x = (ratio: number): number => LABELS + (ratio / scale) * length;
  const bottom = TITLE + labels.length * ROW;
  const rows = labels.map((label, i) => {
    const bar = bars.find((candidate) => candidate.label === label);
    return renderRow(label, bar, TITLE + i * ROW, x);
  });
  const ticks = [0, 0.5, 1].map(
    (at) => `<text class="tick" x="${round(x(at))}" y="${bottom + 14}" text-anchor="middle">${at.toFixed(1)}</text>`,
  );
  return [
    `<text class="panel" x="0" y="18">${markup(title)}</text>`,
    `<line class="axis" x1="${LABELS}" y1="${TITLE - 4}" x2="${LABELS}" y2="${bottom}"/>`,
    `<line class="base" x1="${round(x(1))}" y1="${TITLE - 4}" x2="${round(x(1))}" y2="${bottom}"/>`,
    ...rows,
    ...ticks,
  ].join('');
}

function renderRow(label: string, bar: Bar | undefined, y: number, x: (ratio: number) => number): string {
  const own = bar?.own === true ? ' own' : '';
  const middle = y + ROW / 2;
  const name = `<text class="label${own}" x="${LABELS - 8}" y="${middle + 4}" text-anchor="end">${markup(label)}</text>`;
  if (bar === undefined) return `${name}<text class="note" x="${LABELS + 6}" y="${middle + 4}">not measured</text>`;
  const end = x(bar.ratio);
  const figureAt = Math.max(end, x(bar.high)) + 6;
  return [
    name,
    `<rect class="bar${own}" x="${LABELS}" y="${middle - BAR / 2}" width="${round(Math.max(1, end - LABELS))}" height="${BAR}" rx="2"/>`,
    `<line class="range" x1="${round(x(bar.low))}" y1="${middle}" x2="${round(x(bar.high))}" y2="${middle}"/>`,
    `<text class="figure${own}" x="${round(figureAt)}" y="${middle + 4}">${bar.ratio.toFixed(2)}</text>`,
  ].join('');
}

const round = (value: number): string => String(Math.round(value * 10) / 10);
const markup = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
