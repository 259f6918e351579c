/** Ports of virtual services whose connections get a helper, as operators write them: `21,2121`, or `none`. */
import { HELPERS } from '@ipvsd/ipvs';
import type { Protocol } from './model.ts';
import { protocolName } from './plane/codec.ts';

/** As the kernel's module takes at most. */
export const MOST_PORTS = 8;
const NO_PORTS = 'none';

export const portSetting = (helper: string): string => `${helper}_ports`;

/** Each port once, in the order written; undefined where the text is no list of ports. */
export function readPorts(text: string): readonly number[] | undefined {
  const words = text.trim().split(/[\s,]+/);
  if (words.length === 1 && (words[0] === NO_PORTS || words[0] === '')) return [];
  if (!words.every((word) => /^[0-9]{1,5}$/.test(word))) return undefined;
  const ports = [...new Set(words.map(Number))];
  return ports.length <= MOST_PORTS && ports.every((port) => port >= 1 && port <= 65_535) ? ports : undefined;
}

export const formatPorts = (ports: readonly number[]): string => (ports.length === 0 ? NO_PORTS : ports.join(','));

export interface HelpedPort {
  readonly helper: string;
  readonly protocol: Protocol;
  readonly port: number;
}

/** Which ports are helped by those settings, helper by helper. */
export const helpedPorts = (settings: ReadonlyMap<string, string>): readonly HelpedPort[] =>
  HELPERS.flatMap(({ name, protocol }) =>
    (readPorts(settings.get(portSetting(name)) ?? '') ?? []).map((port) => ({
      helper: name,
      protocol: protocolName(protocol) as Protocol,
      port,
    })),
  );

/** The setting that already gives a port of `text` to another helper of the same protocol, with that port. */
export function clashOf(
  name: string,
  text: string,
  sysctls: ReadonlyMap<string, string>,
): { readonly port: number; readonly setting: string } | undefined {
  const own = HELPERS.find((helper) => portSetting(helper.name) === name);
  for (const other of HELPERS) {
    const setting = portSetting(other.name);
    if (own === undefined || other === own || other.protocol !== own.protocol) continue;
    const taken = readPorts(sysctls.get(setting) ?? '') ?? [];
    const port = readPorts(text)?.find((wanted) => taken.includes(wanted));
    if (port !== undefined) return { port, setting };
  }
  return undefined;
}
