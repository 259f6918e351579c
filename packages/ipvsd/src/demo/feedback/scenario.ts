/** The cluster and its work, the same on both stages. */

export interface DemoServer {
  readonly address: string;
  readonly weight: number;
  /** Requests that it works on at once. */
  readonly slots: number;
}

export const VIP = '172.16.45.10';
export const PORT = 80;

/** The first is the largest machine: four times the others', and its weight says so. */
export const SERVERS: readonly DemoServer[] = [
  { address: '192.168.45.2', weight: 4, slots: 4 },
  { address: '192.168.45.3', weight: 1, slots: 1 },
  { address: '192.168.45.4', weight: 1, slots: 1 },
];

/** 96 requests of 5 ms a second: half of what one small real server can do alone is left free by both. */
export const CLIENTS = { count: 48, paceMs: 500, requestsPerConnection: 4, workMs: 5 };

/** What the largest is busy with besides: as many jobs at once, sent to it directly, that keep all its slots in use. */
export const BATCH = { count: 16, workMs: 100 };

export const AGENT_PORT = 3334;

/** The configuration of `ipvsd run`; with feedback it has one line more. */
export function configuration(feedback: boolean, checks: boolean): string {
  const lines = [
    'services:',
    `  - address: ${VIP}`,
    `    port: ${PORT}`,
    '    scheduler: wlc',
    ...(feedback ? [FEEDBACK_LINE] : []),
    ...(checks ? ['    checks: [{ type: tcp, every: 2 }]'] : []),
    '    realServers:',
    ...SERVERS.map(({ address, weight }) => `      - { address: ${address}, port: ${PORT}, weight: ${weight} }`),
  ];
  return `${lines.join('\n')}\n`;
}

export const FEEDBACK_LINE = `    load: { from: "http:${AGENT_PORT}" }`;
