/** The kernel's sockets, through Node: thin, so that all that decides stays in the probes. */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { isIPv6, connect as netConnect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { IcmpSocket } from '@ipvsd/linux';
import type { Connection, Script } from '../model/configuration.ts';
import type {
  Closable,
  PingEvents,
  Process,
  RunEvents,
  Sockets,
  TcpEvents,
  TcpSocket,
  TlsOptions,
  UdpEvents,
  UdpSocket,
} from './sockets.ts';
import { credentialsOf } from './users.ts';

export class NodeSockets implements Sockets {
  readonly #pings = new Map<'ipv4' | 'ipv6', PingSocket>();

  tcp(connection: Connection, events: TcpEvents, tls?: TlsOptions): TcpSocket {
    const { bindAddress, bindPort } = connection;
    const options = {
      host: hostOf(connection),
      port: connection.port,
      ...(bindAddress !== undefined && { localAddress: bindAddress }),
      ...(bindPort !== undefined && { localPort: bindPort }),
    };
    const socket: Socket = tls ? tlsConnect({ ...options, ...tlsOptions(tls) }) : netConnect(options);
    socket.setNoDelay(true);
    socket.once(tls ? 'secureConnect' : 'connect', () => events.open());
    socket.on('data', (bytes) => events.data(bytes));
    socket.on('end', () => events.end());
    socket.on('error', (error) => events.error(reasonOf(error)));
    return { send: (text) => socket.write(text, 'latin1'), close: () => socket.destroy() };
  }

  /** Connected, so that ICMP errors find their way back to it. */
  udp(connection: Connection, events: UdpEvents): UdpSocket {
    const socket = createSocket(isIPv6(connection.address) ? 'udp6' : 'udp4');
    let open = true;
    const waiting: Uint8Array[] = [];
    let connected = false;
    socket.on('message', (bytes) => events.data(bytes));
    socket.on('error', (error) => events.error(reasonOf(error)));
    socket.on('connect', () => {
      connected = true;
      for (const bytes of waiting) socket.send(bytes);
    });
    if (connection.bindAddress !== undefined || connection.bindPort !== undefined) {
      socket.bind(connection.bindPort ?? 0, connection.bindAddress, () => {
        if (open) socket.connect(connection.port, hostOf(connection));
      });
    } else socket.connect(connection.port, hostOf(connection));
    return {
      send: (bytes) => {
        if (connected) socket.send(bytes);
        else waiting.push(bytes);
      },
      close: () => {
        if (!open) return;
        open = false;
        socket.close();
      },
    };
  }

  ping({ address }: Connection, events: PingEvents): Closable {
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    try {
      const socket = this.#pings.get(family) ?? new PingSocket(family);
      this.#pings.set(family, socket);
      return socket.ask(address, events);
    } catch (error) {
      events.error(reasonOf(error));
      return { close() {} };
    }
  }

  run({ argv: [command = '', ...rest], runAs }: Script, events: RunEvents): Process {
    try {
      const child = spawn(command, rest, { detached: true, stdio: 'ignore', ...credentialsOf(runAs) });
      child.on('exit', (status) => events.exit(status));
      child.on('error', (error) => events.error(reasonOf(error)));
      return {
        kill: (signal) => {
          try {
            if (child.pid !== undefined) process.kill(-child.pid, signal);
          } catch {
            // It has ended in the meantime.
          }
        },
      };
    } catch (error) {
      events.error(reasonOf(error));
      return { kill() {} };
    }
  }

  readFile(path: string): string | undefined {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  }

  close(): void {
    for (const socket of this.#pings.values()) socket.close();
    this.#pings.clear();
  }
}

/** One socket serves all pings of a family, told apart by their sequence numbers. */
class PingSocket {
  readonly #socket: IcmpSocket;
  readonly #waiting = new Map<number, PingEvents>();
  #sequence = 0;

  constructor(family: 'ipv4' | 'ipv6') {
    this.#socket = new IcmpSocket(family, (sequence) => {
      const events = this.#waiting.get(sequence);
      this.#waiting.delete(sequence);
      events?.reply();
    });
  }

  ask(address: string, events: PingEvents): Closable {
    this.#sequence = (this.#sequence + 1) & 0xffff;
    const sequence = this.#sequence;
    this.#socket.send(address, sequence);
    this.#waiting.set(sequence, events);
    return { close: () => this.#waiting.delete(sequence) };
  }

  close(): void {
    this.#socket.close();
  }
}

/** A link-local address means nothing without its interface. */
function hostOf({ address, bindInterface }: Connection): string {
  return bindInterface !== undefined && /^fe[89ab]/i.test(address) ? `${address}%${bindInterface}` : address;
}

/** The certificate is not judged, as keepalived does not: a check asks whether the service answers. */
function tlsOptions({ serverName, settings }: TlsOptions) {
  const file = (path: string | undefined) => (path === undefined ? undefined : readFileSync(path));
  const [ca, cert, key] = [file(settings.ca), file(settings.certificate), file(settings.key)];
  return {
    rejectUnauthorized: false,
    minVersion: 'TLSv1' as const,
    ...(serverName !== undefined && { servername: serverName }),
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(settings.password !== undefined && { passphrase: settings.password }),
  };
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network unreachable',
  ETIMEDOUT: 'timed out',
  EADDRNOTAVAIL: 'the address to bind to is not on this host',
  EPIPE: 'closed by the real server',
  ENOENT: 'no such program',
  EACCES: 'permission denied',
};

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  return REASONS[code ?? ''] ?? error.message;
}
