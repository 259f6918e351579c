/** What checks need of the network and the host. One implementation talks to the kernel, tests bring others. */
import type { Connection, Script, TlsSettings } from '../model/configuration.ts';

export interface Sockets {
  tcp(connection: Connection, events: TcpEvents, tls?: TlsOptions): TcpSocket;
  udp(connection: Connection, events: UdpEvents): UdpSocket;
  ping(connection: Connection, events: PingEvents): Closable;
  run(script: Script, events: RunEvents): Process;
  readFile(path: string): string | undefined;
}

export interface Closable {
  close(): void;
}

export interface TlsOptions {
  readonly serverName: string | undefined;
  readonly settings: TlsSettings;
}

export interface TcpEvents {
  /** Connected, with the TLS handshake done where there is one. */
  open(): void;
  data(bytes: Uint8Array): void;
  end(): void;
  error(reason: string): void;
}

export interface TcpSocket extends Closable {
  send(bytes: string): void;
}

export interface UdpEvents {
  data(bytes: Uint8Array): void;
  /** An ICMP error, or no way to send. */
  error(reason: string): void;
}

export interface UdpSocket extends Closable {
  send(bytes: Uint8Array): void;
}

export interface PingEvents {
  reply(): void;
  error(reason: string): void;
}

export interface RunEvents {
  exit(status: number | null): void;
  error(reason: string): void;
}

export interface Process {
  /** To the whole process group. */
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
}
