/**
 * What an RTSP server that is fed by others needs: announces the stream /live to the local one at PORT (RFC 2326 10.3), whose sound is
 * NAME over and over, and sends it by RTP until the server ends. Prints "recording" when it is there.
 *
 *     rtsp-source PORT NAME
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

const [port, name] = process.argv.slice(2);
const EVERY_MS = 20;
/** At 8000 samples a second. */
const SAMPLES = 160;
const url = `rtsp://127.0.0.1:${port}/live`;
const media = ['m=audio 0 RTP/AVP 0', 'a=rtpmap:0 PCMU/8000', 'a=control:/live/streamid=0'];
const sdp = ['v=0', 'o=- 0 0 IN IP4 127.0.0.1', 's=sound', 'c=IN IP4 0.0.0.0', 't=0 0', ...media, ''].join('\r\n');
const requests = [
  [`ANNOUNCE ${url}`, 'Content-Type: application/sdp', `Content-Length: ${sdp.length}`, '', sdp],
  [`SETUP ${url}/streamid=0`, 'Transport: RTP/AVP/UDP;unicast;mode=record', '', ''],
  [`RECORD ${url}`, 'Range: npt=0-', '', ''],
];

function send(to) {
  const socket = createSocket('udp4');
  const payload = Buffer.alloc(SAMPLES, name);
  let count = 0;
  setInterval(() => {
    const header = Buffer.from([0x80, 0, count >> 8, count, 0, 0, 0, 0, 1, 2, 3, 4]);
    header.writeUInt32BE((count * SAMPLES) >>> 0, 4);
    socket.send(Buffer.concat([header, payload]), to, '127.0.0.1');
    count = (count + 1) & 0xffff;
  }, EVERY_MS);
}

const control = connect(Number(port), '127.0.0.1');
let asked = 0;
let answers = '';
function ask() {
  const [line, ...rest] = requests[asked++];
  control.write([`${line} RTSP/1.0`, `CSeq: ${asked}`, ...rest].join('\r\n'));
}
control.setEncoding('utf8').on('data', (text) => {
  answers += text;
  if (answers.split('\r\n\r\n').length <= asked) return;
  if (asked < requests.length) {
    ask();
    return;
  }
  send(Number(/server_port=(\d+)/.exec(answers)[1]));
  process.stdout.write('recording\n');
});
control.on('close', () => process.exit(1));
ask();
