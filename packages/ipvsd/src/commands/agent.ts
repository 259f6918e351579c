/** `ipvsd agent`: on a real server, tells directors how loaded it is. */
import { startAgent } from '@ipvsd/load';

export interface AgentCommandOptions {
  readonly host: string;
  readonly port: number;
  readonly httpPort: number;
  readonly command?: string;
  readonly drainFile?: string;
}

export async function agent({ host, port, httpPort, command, drainFile }: AgentCommandOptions): Promise<void> {
  const running = await startAgent({
    host,
    agentPort: port,
    httpPort,
    ...(command !== undefined && { command: ['/bin/sh', '-c', command] }),
    ...(drainFile !== undefined && { drainFile }),
  });
  process.stdout.write(`Answering agent-check on ${host}:${port} and JSON on ${host}:${httpPort}\n`);
  await new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  await running.close();
}
