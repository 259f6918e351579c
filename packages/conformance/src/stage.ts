/** A scenario's world: the director under test, empty, in its network, at time zero. */
import { DirectorError } from '@ipvsd/director';
import { fileNames, type Names, runIpvsadm } from '@ipvsd/ipvsadm';
import { Clock } from './clock.ts';
import { Marks } from './marks.ts';
import { Network } from './network.ts';
import type { TestPlane, TestPlaneOptions } from './plane.ts';
import { Site } from './site.ts';

export type MakePlane = (options: TestPlaneOptions) => TestPlane;

export interface StageOptions {
  readonly makePlane: MakePlane;
  readonly names: Names;
  readonly forward: string;
  /** Prefixes local to the director besides its own addresses. */
  readonly local?: readonly string[];
  readonly open?: ReadonlySet<string>;
  readonly seed?: number;
  /** Hosts that take packets and answer nothing: for replays of captures. */
  readonly mute?: boolean;
}

export interface CommandOutput {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Stage {
  readonly clock = new Clock();
  readonly marks = new Marks();
  readonly site: Site;
  readonly plane: TestPlane;
  readonly network: Network;
  readonly #names: Names;

  constructor(options: StageOptions) {
    this.site = new Site(options.local);
    this.#names = options.names;
    this.plane = options.makePlane({ site: this.site, seed: options.seed ?? 1 });
    this.clock.attach(this.plane);
    this.network = new Network({
      clock: this.clock,
      plane: this.plane,
      site: this.site,
      marks: this.marks,
      forward: options.forward,
      open: options.open ?? new Set(),
      mute: options.mute ?? false,
    });
  }

  async ipvsadm(args: readonly string[]): Promise<CommandOutput> {
    const [stdout, stderr] = [new Captured(), new Captured()];
    const status = await runIpvsadm(args, {
      director: () => this.plane.director,
      stdin: noInput(),
      stdout,
      stderr,
      names: this.#names,
      programName: 'ipvsadm',
    });
    this.plane.touched();
    return { status, stdout: stdout.text, stderr: stderr.text };
  }

  /** What writing to /proc/sys/net/ipv4/vs answers: undefined when it is taken. */
  sysctl(name: string, value: string): string | undefined {
    try {
      this.plane.director.execute({ kind: 'setSysctl', name, value });
      this.plane.touched();
      return undefined;
    } catch (error) {
      if (error instanceof DirectorError) return error.message;
      throw error;
    }
  }

  close(): void {
    this.plane.close();
  }
}

class Captured {
  text = '';
  write(text: string): void {
    this.text += text;
  }
}

async function* noInput(): AsyncGenerator<string> {}

const HOSTS = `
127.0.0.1 localhost
::1 localhost
192.0.2.10 vip10.example.net vip10
10.2.0.11 rs1.example.net rs1
2001:db8::10 vip6.example.net vip6
`;

/** Names as the recordings' machine knew them. */
export const recordedNames = (services: string): Names => fileNames(HOSTS, services);

export const splitArgs = (args: string): string[] =>
  args
    .trim()
    .split(/\s+/)
    .filter((word) => word !== '');
