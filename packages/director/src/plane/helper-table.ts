/** Which ports are helped, from the texts that operators write to the map that new connections ask. */
import { bytesOf, htons, type MapStore } from '@ipvsd/bpf';
import { HELPERS, HelpedPort, HelperNumber, helpedPorts } from '@ipvsd/ipvs';
import { portSetting, readPorts } from '../helped-ports.ts';
import type { Plane } from './plane.ts';

export function writeHelpedPorts(plane: Plane, sysctls: ReadonlyMap<string, string>): void {
  const store: MapStore = plane.store(helpedPorts);
  const wanted = new Map<string, { readonly key: Uint8Array; readonly value: Uint8Array }>();
  for (const { name, number, protocol } of HELPERS) {
    for (const port of readPorts(sysctls.get(portSetting(name)) ?? '') ?? []) {
      const key = bytesOf(HelpedPort.create({ port: htons(port), protocol }));
      wanted.set(Buffer.from(key).toString('hex'), { key, value: bytesOf(HelperNumber.create({ helper: number })) });
    }
  }
  for (const [key] of [...store.entries()]) if (!wanted.has(Buffer.from(key).toString('hex'))) store.delete(key);
  for (const { key, value } of wanted.values()) store.update(key, value);
}
