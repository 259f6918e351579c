/**
 * A real server of the demo that speaks as much FTP (RFC 959, RFC 2428) as it takes to fetch a file in passive mode. The data
 * connection goes to another port of the virtual address, so it only arrives where the control connection is served.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { LISTENING, tellClients } from './http-server.ts';

export const FTP_PORT = 21;

export function serveFtp(name: string): void {
  const tell = tellClients();
  const server = createServer((control) => new Session(control, name, tell(control)).begin());
  server.listen({ port: FTP_PORT, host: '::' }, () => process.stdout.write(`${LISTENING}\n`));
}

const PLAIN: Readonly<Record<string, readonly [code: number, text: string]>> = {
  USER: [331, 'any password will do'],
  PASS: [230, 'welcome'],
  TYPE: [200, 'as you like'],
  QUIT: [221, 'goodbye'],
};

class Session {
  readonly #control: Socket;
  readonly #name: string;
  readonly #client: string;
  #passive: Server | undefined;
  #data: Promise<Socket> | undefined;

  constructor(control: Socket, name: string, client: string) {
    this.#control = control;
    this.#name = name;
    this.#client = client;
  }

  begin(): void {
    let waiting = '';
    this.#control.setEncoding('latin1').on('error', () => this.#control.destroy());
    this.#control.on('close', () => this.#passive?.close());
    this.#control.on('data', (text: string) => {
      const lines = `${waiting}${text}`.split('\r\n');
      waiting = lines.pop() ?? '';
      for (const line of lines) this.#obey(line);
    });
    this.#say(220, this.#name);
  }

  #obey(line: string): void {
    const [word = '', argument = ''] = line.split(' ');
    const verb = word.toUpperCase();
    const plain = PLAIN[verb];
    if (plain !== undefined) this.#say(...plain);
    else if (verb === 'PASV') this.#listen((port) => this.#say(227, `Entering Passive Mode (${this.#endPoint(port)})`));
    else if (verb === 'EPSV') this.#listen((port) => this.#say(229, `Entering Extended Passive Mode (|||${port}|)`));
    else if (verb === 'RETR') this.#send(`${this.#name} served ${argument} to ${this.#client}\n`);
    else this.#say(502, 'this server is a small one');
    if (verb === 'QUIT') this.#control.end();
  }

  #endPoint(port: number): string {
    const host = (this.#control.localAddress ?? '').replace(/^::ffff:/, '').replaceAll('.', ',');
    return `${host},${port >> 8},${port & 255}`;
  }

  #listen(tellPort: (port: number) => void): void {
    this.#passive?.close();
    const passive = createServer({ pauseOnConnect: true });
    this.#passive = passive;
    this.#data = new Promise((resolve) => passive.once('connection', resolve));
    passive.listen(0, '::', () => tellPort((passive.address() as AddressInfo).port));
  }

  #send(text: string): void {
    const data = this.#data;
    if (data === undefined) {
      this.#say(425, 'say PASV or EPSV first');
      return;
    }
    this.#say(150, 'here it comes');
    void data.then((socket) => {
      socket.on('error', () => socket.destroy());
      socket.end(text, () => this.#say(226, 'that was it'));
      this.#passive?.close();
    });
  }

  #say(code: number, text: string): void {
    this.#control.write(`${code} ${text}\r\n`);
  }
}
