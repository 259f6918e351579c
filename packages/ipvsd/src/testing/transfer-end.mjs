/**
 * An end of real transfers for tests, a process of its own in a host of a cluster:
 *
 *     transfer-end serve PORT ADDRESS...             TCP streams, and UDP echo at these addresses; prints "listening"
 *     transfer-end download HOST PORT BYTES          each prints one JSON object:
 *     transfer-end upload HOST PORT BYTES            {bytes, sent, received}, the last two SHA-256 of what left and what came
 *     transfer-end echo HOST PORT BYTES COUNT        {sent, received}: datagrams, and those that came back unchanged
 *
 * What travels is a key stream, so a byte in the wrong place changes the checksum.
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const CHUNK = 1 << 18;
const TIMEOUT_MS = 60_000;
const ECHO_MS = 3000;

async function serve(port, addresses) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    void answer(socket).catch(() => socket.destroy());
  });
  server.listen(port, '::');
  await once(server, 'listening');
  // A socket for each: an answer comes from the address that was asked.
  for (const address of addresses) {
    const echo = datagramSocket(address);
    echo.on('message', (message, from) => echo.send(message, from.port, from.address));
    echo.bind(port, address);
    await once(echo, 'listening');
  }
  process.stdout.write('listening\n');
}

const datagramSocket = (address) =>
  createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 1 << 22, sendBufferSize: 1 << 22 });

/** `GET n`: a stream of n bytes. Anything else is taken to its end, and its checksum sent back. */
async function answer(socket) {
  const hash = createHash('sha256');
  let first = true;
  // It is still written to when all has been read.
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    const asked = first ? /^GET (\d+)\n$/.exec(chunk.subarray(0, 32).toString('latin1')) : null;
    first = false;
    if (asked !== null) {
      socket.end(await send(socket, Number(asked[1])));
      return;
    }
    hash.update(chunk);
  }
  socket.end(hash.digest('hex'));
}

/** The checksum of what was sent. */
async function send(socket, bytes) {
  const hash = createHash('sha256');
  const stream = createCipheriv('aes-128-ctr', randomBytes(16), randomBytes(16));
  const zeros = Buffer.alloc(CHUNK);
  for (let left = bytes; left > 0; left -= CHUNK) {
    const chunk = stream.update(left < CHUNK ? zeros.subarray(0, left) : zeros);
    hash.update(chunk);
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
  return hash.digest('hex');
}

function open(host, port) {
  const socket = connect({ host, port });
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('timeout')));
  return socket;
}

const DIGEST = 64;

async function download(host, port, bytes) {
  const socket = open(host, port);
  socket.write(`GET ${bytes}\n`);
  const hash = createHash('sha256');
  let come = 0;
  let sent = '';
  for await (const chunk of socket) {
    const payload = chunk.subarray(0, Math.max(0, bytes - come));
    hash.update(payload);
    come += payload.length;
    sent += chunk.subarray(payload.length).toString('latin1');
  }
  return { bytes: come, sent: sent.slice(0, DIGEST), received: hash.digest('hex') };
}

async function upload(host, port, bytes) {
  const socket = open(host, port);
  const sent = await send(socket, bytes);
  socket.end();
  let received = '';
  for await (const chunk of socket) received += chunk.toString('latin1');
  return { bytes, sent, received };
}

/** One after the other: what is lost is not sent again. */
async function echo(host, port, bytes, count) {
  const socket = datagramSocket(host);
  let received = 0;
  for (let i = 0; i < count; i++) {
    const message = randomBytes(bytes);
    const reply = new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ECHO_MS);
      socket.once('message', (came, from) => {
        clearTimeout(timer);
        resolve(came.equals(message) && from.address === host);
      });
    });
    socket.send(message, port, host);
    if (await reply) received++;
  }
  socket.close();
  return { sent: count, received };
}

const [command, ...words] = process.argv.slice(2);
const [host = '', port = 0, bytes = 0, count = 0] = [words[0], ...words.slice(1).map(Number)];
if (command === 'serve') await serve(Number(words[0]), words.slice(1));
else {
  const result =
    command === 'download'
      ? await download(host, port, bytes)
      : command === 'upload'
        ? await upload(host, port, bytes)
        : await echo(host, port, bytes, count);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
