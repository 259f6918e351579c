/** `ipvsd real-server`: a host made fit for DR or TUN, looked at, and made as it was. */
import type { Address } from '@ipvsd/director';
import type { Finding } from '../real-server/judge.ts';
import { check, setUp, takeBack } from '../real-server/real-server.ts';
import type { Decapsulation, Method, Tunnel, Wish } from '../real-server/wish.ts';

/** As commander reads them. */
export interface WishOptions {
  readonly vip?: readonly Address[];
  readonly method?: Method;
  readonly tunnel: Tunnel;
  readonly tunPort: number;
  readonly mss: 'auto' | 'off' | number;
  readonly decapsulate: 'auto' | Decapsulation;
  readonly director?: Address;
}

const say = (lines: readonly string[]): void => {
  process.stdout.write(lines.map((line) => `${line}\n`).join(''));
};

export function setUpRealServer(options: WishOptions): void {
  const wishes = wishesOf(options);
  if (wishes.length === 0) throw new Error('Cannot set up: which virtual addresses? Name them with --vip');
  const { made, left } = setUp(wishes);
  say(made.length === 0 ? ['Everything is as it should be'] : made.map((command) => `# ${command}`));
  say(left.flatMap(described));
  if (left.some(({ weight }) => weight === 'wrong')) process.exitCode = 1;
}

export function checkRealServer({ json, ...options }: WishOptions & { readonly json?: true }): void {
  const found = check(wishesOf(options));
  if (json === true) {
    say([JSON.stringify(found.map(({ name, weight, sentence, command }) => ({ name, weight, sentence, command })))]);
  } else {
    say(found.length === 0 ? ['Everything is as it should be'] : found.flatMap(described));
  }
  if (found.some(({ weight }) => weight === 'wrong')) process.exitCode = 1;
}

export function undoRealServer({ vip = [] }: { readonly vip?: readonly Address[] }): void {
  say(takeBack(vip));
}

function wishesOf(options: WishOptions): readonly Wish[] {
  const { vip = [], method, tunnel, tunPort, mss, decapsulate, director } = options;
  if (vip.length === 0) return [];
  if (method === undefined)
    throw new Error('Cannot tell what is right: say how packets come, --method dr or --method tun');
  return vip.map((address) => ({
    vip: address,
    method,
    tunnel,
    port: tunPort,
    segmentSize: mss,
    ...(decapsulate === 'auto' ? {} : { decapsulation: decapsulate }),
    ...(director === undefined ? {} : { director }),
  }));
}

const described = ({ weight, sentence, command }: Finding): readonly string[] => [
  `${weight === 'hint' ? 'Hint: ' : ''}${sentence}`,
  `    ${command}`,
];
