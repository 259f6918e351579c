/** What one writes in an afternoon instead: a TCP proxy in plain Node.js. `node-proxy.js PORT=ADDRESS:PORT,ADDRESS:PORT ...` */
import { connect, createServer } from 'node:net';

for (const rule of process.argv.slice(2)) {
  const [port, list] = rule.split('=') as [string, string];
  const servers = list.split(',').map((text) => {
    const [host, serverPort] = text.split(':') as [string, string];
    return { host, port: Number(serverPort), noDelay: true };
  });
  let next = 0;
  createServer({ noDelay: true }, (client) => {
    const server = connect(servers[next++ % servers.length]!);
    client.on('error', () => server.destroy());
    server.on('error', () => client.destroy());
    client.pipe(server);
    server.pipe(client);
  }).listen({ port: Number(port), host: '0.0.0.0', backlog: 16_384 });
}
