import { expect, test } from 'vitest';
import { formatAgentLine, mergeAgentWords, parseAgentLine, parseAgentWords, reportOf } from './agent-check.ts';

test('words come in any order and case, and the last of a kind wins', () => {
  expect(parseAgentLine('UP 75% maxconn:30\n').report).toEqual({ state: 'up', weightPercent: 75, maxConnections: 30 });
  expect(parseAgentLine('50%,weight:20% 10%').report).toEqual({ weightPercent: 10 });
  expect(parseAgentLine('weight:128\tready').report).toEqual({ weight: 128, state: 'ready' });
});

test('the line ends at CR, LF or NUL, and a reason follows #', () => {
  expect(parseAgentLine('down #disk full\r\nup').report).toEqual({ state: 'down', detail: 'disk full' });
  expect(parseAgentLine('drain\0up').report).toEqual({ state: 'drain' });
});

test('down is stronger than ready', () => {
  expect(parseAgentLine('ready stopped').report.state).toBe('down');
  expect(parseAgentLine('up maint').report.state).toBe('maint');
});

test('what a line does not mention stays as it was', () => {
  const lines = ['ready up 75% maxconn:30', 'drain', 'up weight:40', 'down #disk full', '', 'up', 'ready'];
  let words = {};
  const reports = lines.map((line) => {
    words = mergeAgentWords(words, parseAgentWords(line).words);
    return reportOf(words);
  });
  expect(reports).toEqual([
    { state: 'ready', weightPercent: 75, maxConnections: 30 },
    { state: 'drain', weightPercent: 75, maxConnections: 30 },
    { state: 'drain', weight: 40, maxConnections: 30 },
    { state: 'down', weight: 40, maxConnections: 30, detail: 'disk full' },
    { state: 'down', weight: 40, maxConnections: 30, detail: 'disk full' },
    { state: 'drain', weight: 40, maxConnections: 30 },
    { state: 'ready', weight: 40, maxConnections: 30 },
  ]);
});

test('a word nobody knows is told, and the rest applies', () => {
  expect(parseAgentLine('99% quick 8x')).toEqual({ report: { weightPercent: 99 }, unknown: 'quick' });
  expect(parseAgentLine('')).toEqual({ report: {}, unknown: undefined });
});

test('an answer of our own agent is idle percent, and never 0 for being busy', () => {
  expect(formatAgentLine({ load: 0.25, state: 'up' })).toBe('up 75%\n');
  expect(formatAgentLine({ load: 4 })).toBe('1%\n');
  expect(formatAgentLine({ state: 'down', detail: 'disk full' })).toBe('down #disk full\n');
});
