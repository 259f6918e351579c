// node packages/bpf/examples/run.mjs count|deny|ttl: compiles the example, attaches it to one end of a virtual cable between two
// network namespaces, sends packets through it, and shows what it did. As root; removes what it made.
import { fileURLToPath } from 'node:url';
import { compile, formatDiagnostic } from '@ipvsd/bpf/compiler';
import { attachTc, loadCollection } from '@ipvsd/bpf/kernel';
import { createNamespace, deleteNamespace, PacketSocket, RawIpSocket, withRoutes } from '@ipvsd/linux';

const numbers = (bytes) => [...new BigUint64Array(bytes.slice().buffer)].map(Number);

/** What each example is shown with. `send` sends 10 UDP datagrams to a port of the other side. */
const EXAMPLES = {
  count(collection, send) {
    send(5000);
    for (const [key, value] of collection.map('counts').entries()) {
      const [packets, bytes] = numbers(value);
      if (packets > 0) console.log(`protocol ${key[0]}: ${packets} packets, ${bytes} bytes`);
    }
  },
  deny(collection, send) {
    collection.map('denied').update(Uint8Array.of(5001 >> 8, 5001 & 255), new Uint8Array(8));
    send(5000);
    send(5001);
    for (const [key, value] of collection.map('denied').entries()) {
      console.log(`port ${(key[0] << 8) | key[1]}: ${numbers(value)[0]} packets dropped`);
    }
  },
  ttl(_collection, send, watch) {
    const seen = watch(() => send(5000));
    console.log(`time to live as received: ${[...new Set(seen.map((packet) => packet[14 + 8]))]}`);
  },
};

const name = process.argv[2] ?? 'count';
if (!(name in EXAMPLES)) {
  console.error(`Cannot run example "${name}": there are ${Object.keys(EXAMPLES).join(', ')}`);
  process.exit(2);
}
const entry = fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
const { spec, diagnostics } = compile(entry);
for (const diagnostic of diagnostics) console.error(formatDiagnostic(diagnostic));
if (spec === undefined) process.exit(1);

const [left, right] = [`bpf-left-${process.pid}`, `bpf-right-${process.pid}`];
createNamespace(left);
createNamespace(right);
try {
  withRoutes(left, (routes) => {
    routes.addVeth('cable', 'cable', right);
    routes.addAddress('cable', '10.9.0.1/24');
    routes.setUp('cable');
  });
  withRoutes(right, (routes) => {
    routes.addAddress('cable', '10.9.0.2/24');
    routes.setUp('cable');
    routes.setUp('lo');
  });
  const collection = loadCollection(spec);
  // What leaves is seen changed by the other side; what arrives is changed after a capture has seen it.
  const place = name === 'ttl' ? { direction: 'egress', namespace: left } : { direction: 'ingress', namespace: right };
  attachTc(collection.program(name), { interface: 'cable', ...place });
  EXAMPLES[name](
    collection,
    (port) => send(left, port),
    (work) => watch(right, work),
  );
  collection.close();
} finally {
  deleteNamespace(left);
  deleteNamespace(right);
}

function send(namespace, port) {
  const socket = new RawIpSocket(4, { namespace });
  // Version 4, 28 bytes, 64 hops, UDP; the kernel fills in id and checksum. Then UDP without a checksum, which is allowed.
  const packet = Uint8Array.from([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
  const udp = Uint8Array.from([4000 >> 8, 4000 & 255, port >> 8, port & 255, 0, 8, 0, 0]);
  for (let i = 0; i < 10; i++) socket.send(Uint8Array.from([...packet, ...udp]));
  socket.close();
  // The cable is a queue: give it a moment.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
}

/** The UDP frames that arrive while `work` runs. */
function watch(namespace, work) {
  const socket = new PacketSocket('cable', { namespace });
  work();
  const frames = [];
  for (let frame = socket.receive(100); frame !== null; frame = socket.receive(100)) {
    if (frame[12] === 8 && frame[13] === 0 && frame[23] === 17) frames.push(frame);
  }
  socket.close();
  return frames;
}
