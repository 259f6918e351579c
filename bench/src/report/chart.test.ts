import { expect, test } from 'vitest';
import { renderChart } from './chart.ts';

const bar = (label: string, ratio: number, own = false) => ({
  label,
  ratio,
  low: ratio - 0.02,
  high: ratio + 0.02,
  own,
});

test('each bar is as long as its ratio', () => {
  const svg = renderChart({
    title: 'Speed',
    note: 'a note',
    panels: [{ title: 'New connections', bars: [bar('routing', 1), bar('half', 0.5, true)] }],
  });
  const widths = [...svg.matchAll(/<rect class="bar( own)?"[^>]* width="([\d.]+)"/g)].map((m) => Number(m[2]));
  expect(widths[0]! / widths[1]!).toBeCloseTo(2, 1);
  expect(svg).toContain('>0.50</text>');
  expect(svg.match(/class="bar own"/g)).toHaveLength(1);
});

test('a system that one panel lacks keeps its row and says so', () => {
  const svg = renderChart({
    title: 'Speed',
    note: '',
    panels: [
      { title: 'A', bars: [bar('routing', 1), bar('dr', 1)] },
      { title: 'B', bars: [bar('routing', 1)] },
    ],
  });
  expect(svg.match(/not measured/g)).toHaveLength(1);
});

test('names are escaped, and what comes out is one well-formed element', () => {
  const svg = renderChart({ title: 'a < b & "c"', note: '', panels: [{ title: 'x', bars: [bar('<i>', 1)] }] });
  expect(svg).toContain('a &lt; b &amp; &quot;c&quot;');
  expect(svg).not.toContain('<i>');
  expect(svg.match(/<g /g)!.length).toBe(svg.match(/<\/g>/g)!.length);
  expect(svg).not.toMatch(/NaN|undefined/);
});
