/** A real server of the demo: answers every request with its name, and says on its standard output which clients came. */
import { createServer } from 'node:http';
import type { Socket } from 'node:net';

export function serve(port: number, name: string): void {
  const tell = tellClients();
  const server = createServer((request, response) => {
    const client = tell(request.socket);
    response.setHeader('content-type', 'text/plain');
    response.end(`${name} served ${request.url ?? '/'} to ${client}\n`);
  });
  // As many waiting connections as a burst of the load generator brings.
  server.listen({ port, host: '::', backlog: 4096 }, () => process.stdout.write(`${LISTENING}\n`));
}

export const LISTENING = 'listening';
/** Followed by an address that had not been seen before. */
export const CLIENT = 'client ';

/** The client's address; a line for each new one. */
export function tellClients(): (socket: Socket) => string {
  const seen = new Set<string>();
  // Whoever listened may have gone, and left the cluster standing: no reason to end, as it is for the other commands.
  process.stdout.removeAllListeners('error').on('error', () => {});
  return (socket) => {
    const client = (socket.remoteAddress ?? 'nobody').replace(/^::ffff:/, '');
    if (!seen.has(client)) process.stdout.write(`${CLIENT}${client}\n`);
    seen.add(client);
    return client;
  };
}
