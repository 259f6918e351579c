/** A source by its short name, as the command line has it: `agent:3333`, `http:8080/load`, `prometheus:9100`, `snmp`. */
import type { Source } from '../report.ts';
import { agentSource } from './agent-source.ts';
import { httpSource } from './http-source.ts';
import { prometheusSource } from './prometheus-source.ts';
import { snmpSource } from './snmp-source.ts';

export const sourceNames = ['agent', 'idle-agent', 'http', 'prometheus', 'snmp'] as const;
export type SourceName = (typeof sourceNames)[number];

const DEFAULT_PORTS: Readonly<Record<SourceName, number>> = {
  agent: 3333,
  'idle-agent': 3333,
  http: 3334,
  prometheus: 9100,
  snmp: 161,
};

export function sourceFrom(text: string, timeoutMs = 2000): Source {
  const [, name, portText, path] = /^([a-z-]+)(?::([0-9]{1,5}))?(\/.*)?$/.exec(text) ?? [];
  if (!isSourceName(name)) {
    throw new Error(
      `Cannot use load source "${text}": must be ${sourceNames.join(', ')}, with :PORT and for HTTP /PATH`,
    );
  }
  const port = portText === undefined ? DEFAULT_PORTS[name] : Number(portText);
  if (port < 1 || port > 65_535) throw new Error(`Cannot use load source "${text}": port must be 1..65535`);
  switch (name) {
    case 'agent':
      return agentSource({ port, timeoutMs });
    case 'idle-agent':
      return agentSource({ port, timeoutMs, percentIsIdle: true });
    case 'http':
      return httpSource({ port, timeoutMs, ...(path !== undefined && { path }) });
    case 'prometheus':
      return prometheusSource({ port, timeoutMs, ...(path !== undefined && { path }) });
    case 'snmp':
      return snmpSource({ port, timeoutMs });
  }
}

/** Whether `sourceFrom` takes it. */
export function isLoadSource(text: string): boolean {
  try {
    sourceFrom(text);
    return true;
  } catch {
    return false;
  }
}

function isSourceName(name: string | undefined): name is SourceName {
  return sourceNames.some((known) => known === name);
}
