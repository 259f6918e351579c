/**
 * What stands in for pppd at the two ends of a PPTP call, as kernels need not have PPP:
 *
 *     ppp-end greet TEXT                     a frame on its output: the first word of the called side, for which pptpd waits
 *     ppp-end call COUNT BYTES COMMAND...    starts pptp, says COUNT things of that length, one by one until it is echoed, and prints as
 *                                            JSON {greeting, echoed, status}
 *
 * Frames are asynchronous HDLC with a checksum (RFC 1662), so one that comes changed is not heard.
 */
import { spawn } from 'node:child_process';

const FLAG = 0x7e;
const ESCAPE = 0x7d;
const GOOD = 0xf0b8;
/** All stations, unnumbered information, and a protocol number that nobody has. */
const HEADER = [0xff, 0x03, 0x40, 0x01];
/** Between an answer and what is said next, so that calls are held for a while. */
const PAUSE_MS = 20;
const AGAIN_MS = 300;
const GIVE_UP_MS = 15_000;

function checksum(bytes) {
  let sum = 0xffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0x8408 : sum >>> 1;
  }
  return sum;
}

function frameOf(text) {
  const bytes = [...HEADER, ...Buffer.from(text)];
  const sum = checksum(bytes) ^ 0xffff;
  const escaped = [...bytes, sum & 255, sum >>> 8].flatMap((byte) =>
    byte < 0x20 || byte === FLAG || byte === ESCAPE ? [ESCAPE, byte ^ 0x20] : [byte],
  );
  return Buffer.from([FLAG, ...escaped, FLAG]);
}

/** Calls `hear` with the text of each whole frame. */
function listen(stream, hear) {
  let frame = [];
  let escaped = false;
  stream.on('data', (chunk) => {
    for (const byte of chunk) {
      if (byte === FLAG) {
        const whole = frame.length > HEADER.length + 2 && checksum(frame) === GOOD;
        if (whole) hear(Buffer.from(frame.slice(HEADER.length, -2)).toString());
        frame = [];
      } else if (byte === ESCAPE) escaped = true;
      else {
        frame.push(escaped ? byte ^ 0x20 : byte);
        escaped = false;
      }
    }
  });
}

/** pptp's output is its input: one socket, where pppd gives it a terminal. */
const ON_ONE_SOCKET = 'exec "$0" "$@" <&3 >&3';

async function call(count, bytes, command) {
  const child = spawn('sh', ['-c', ON_ONE_SOCKET, ...command], { stdio: ['ignore', 'ignore', 'inherit', 'pipe'] });
  const line = child.stdio[3];
  line.on('error', () => {});
  const over = new Promise((resolve) => child.once('exit', resolve));
  let greeting = '';
  let echoed = 0;
  const words = () => `${echoed}`.padEnd(bytes, '.');
  const say = () => line.write(frameOf(words()));
  await new Promise((resolve) => {
    listen(line, (text) => {
      if (text !== words()) {
        if (greeting === '') greeting = text;
        return;
      }
      echoed++;
      if (echoed === count) resolve();
      else setTimeout(say, PAUSE_MS);
    });
    say();
    // The first ones are said before the call is answered, and others may be lost.
    setInterval(say, AGAIN_MS).unref();
    setTimeout(resolve, GIVE_UP_MS).unref();
    void over.then(resolve);
  });
  child.kill('SIGTERM');
  process.stdout.write(`${JSON.stringify({ greeting, echoed, status: await over })}\n`);
  process.exit();
}

const [role, ...words] = process.argv.slice(2);
if (role === 'greet') process.stdout.write(frameOf(words[0]));
else await call(Number(words[0]), Number(words[1]), words.slice(2));
