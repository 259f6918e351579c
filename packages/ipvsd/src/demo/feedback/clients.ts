/**
 * Clients that keep their pace: a request each so many milliseconds, on a connection that lasts for some requests. Prints a line for
 * each answer, when it came (by the host's clock) and how many milliseconds it took; `failed` where none came.
 */
import { Agent, get } from 'node:http';
import { setTimeout } from 'node:timers/promises';

export interface ClientsOptions {
  readonly url: string;
  readonly count: number;
  readonly paceMs: number;
  readonly requestsPerConnection: number;
}

const TIMEOUT_MS = 30_000;

export async function runClients({ url, count, paceMs, requestsPerConnection }: ClientsOptions): Promise<void> {
  const client = async (place: number): Promise<never> => {
    await setTimeout((place / count) * paceMs);
    for (;;) {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      for (let i = 0; i < requestsPerConnection; i++) {
        const started = performance.now();
        const good = await request(url, agent);
        const took = performance.now() - started;
        process.stdout.write(`${Date.now()} ${good ? took.toFixed(2) : 'failed'}\n`);
        // Those who had to wait longer than their pace go on at once.
        await setTimeout(Math.max(good ? 0 : 100, paceMs - took));
      }
      agent.destroy();
    }
  };
  await Promise.all(Array.from({ length: count }, (_, place) => client(place)));
}

function request(url: string, agent: Agent): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get(url, { agent, timeout: TIMEOUT_MS }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode === 200));
      response.once('error', () => resolve(false));
    });
    asked.once('timeout', () => asked.destroy());
    asked.once('error', () => resolve(false));
  });
}
