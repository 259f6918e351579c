/** DNS_CHECK: one question over UDP. Any answer without an error will do, also one without records. */
import type { DnsCheck } from '../model/configuration.ts';
import { attempt, failure, type Probe, success } from './probe.ts';

const HEADER_BYTES = 12;
const CLASS_IN = 1;
const RECURSION_DESIRED = 0x0100;
const RESPONSE = 0x8000;
const RCODES = ['no error', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

export function dnsProbe(check: DnsCheck, random: () => number = Math.random): Probe {
  const { connection, timing } = check;
  const target = { ...connection, port: connection.port === 0 ? 53 : connection.port };
  return {
    run: (tools, done) =>
      attempt(tools, done, (self) => {
        const id = Math.floor(random() * 65_536);
        const socket = tools.sockets.udp(target, {
          data: (bytes) => {
            const verdict = readReply(bytes, id);
            // An answer to another question is an old one, or forged: ours may still come.
            if (verdict !== undefined) self.finish(verdict);
          },
          error: (reason) => self.finish(failure(reason)),
        });
        self.own(socket);
        self.allow(timing.connectTimeoutMs, () => failure('no answer in time'));
        socket.send(query(id, check.name, check.type));
      }),
  };
}

export function query(id: number, name: string, type: number): Uint8Array {
  const labels = name.split('.').filter((label) => label !== '');
  const encoded = labels.map((label) => Buffer.from(label, 'latin1').subarray(0, 63));
  const question = Buffer.concat([...encoded.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)]);
  const packet = Buffer.alloc(HEADER_BYTES + question.length + 4);
  packet.writeUInt16BE(id, 0);
  packet.writeUInt16BE(RECURSION_DESIRED, 2);
  packet.writeUInt16BE(1, 4);
  question.copy(packet, HEADER_BYTES);
  packet.writeUInt16BE(type, HEADER_BYTES + question.length);
  packet.writeUInt16BE(CLASS_IN, HEADER_BYTES + question.length + 2);
  return packet;
}

function readReply(bytes: Uint8Array, id: number) {
  if (bytes.length < HEADER_BYTES) return failure('an answer too short for DNS');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint16(2);
  if (view.getUint16(0) !== id || (flags & RESPONSE) === 0) return undefined;
  const code = flags & 15;
  return code === 0 ? success('answered') : failure(`answered ${RCODES[code] ?? `rcode ${code}`}`);
}
