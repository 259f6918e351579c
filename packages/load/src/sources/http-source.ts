/** Asks for JSON over HTTP: our own agent's, or any object with a number in it. */
import { isIPv6 } from 'node:net';
import type { LoadReport, Source } from '../report.ts';

export interface HttpSourceOptions {
  readonly port: number;
  readonly path?: string;
  readonly timeoutMs: number;
  /** Where the number is, with dots between names: `system.load`. */
  readonly field?: string;
  /** What counts as fully used. */
  readonly full?: number;
}

const STATES = new Set(['ready', 'drain', 'maint', 'up', 'down']);

export function httpSource({ port, path = '/', timeoutMs, field = 'load', full = 1 }: HttpSourceOptions): Source {
  return {
    async ask(address) {
      const body: unknown = JSON.parse(await getText(address, port, path, timeoutMs));
      return readReport(body, field, full);
    },
  };
}

export function readReport(body: unknown, field: string, full: number): LoadReport {
  const value = field.split('.').reduce<unknown>((at, name) => (isObject(at) ? at[name] : undefined), body);
  const state = isObject(body) ? body['state'] : undefined;
  const said =
    typeof state === 'string' && STATES.has(state) ? { state: state as NonNullable<LoadReport['state']> } : {};
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    if (said.state === undefined) throw new Error(`there is no number "${field}" in the answer`);
    return said;
  }
  const detail = isObject(body) && typeof body['detail'] === 'string' ? { detail: body['detail'] } : {};
  return { load: Math.max(0, value / full), ...said, ...detail };
}

/** Shared with Prometheus, which is HTTP too. */
export async function getText(address: string, port: number, path: string, timeoutMs: number): Promise<string> {
  const host = isIPv6(address) ? `[${address}]` : address;
  const response = await fetch(`http://${host}:${port}${path}`, { signal: AbortSignal.timeout(timeoutMs) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.text();
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
