/** A real server of the demo: answers every request with its name. */
import { createServer } from 'node:http';

export function serve(port: number, name: string): void {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/plain');
    response.end(`${name} served ${request.url ?? '/'} to ${request.socket.remoteAddress ?? 'nobody'}\n`);
  });
  // As many waiting connections as a burst of the load generator brings.
  server.listen({ port, host: '::', backlog: 4096 }, () => process.stdout.write('listening\n'));
}
