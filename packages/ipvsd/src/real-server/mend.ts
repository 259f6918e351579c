/** Makes the changes that a judgement asks for, and takes them back. Each is told to `note` as soon as it is made. */
import { readSysctl, withRoutes, writeSysctl } from '@ipvsd/linux';
import type { Mend } from './judge.ts';
import { attachPrograms, forgetVip, removePrograms, tellPrograms } from './programs.ts';
import type { Done } from './state.ts';

export function mend(change: Mend, note: (done: Done) => void): void {
  switch (change.kind) {
    case 'up':
      withRoutes(undefined, (routes) => routes.setUp(change.interface));
      note(change);
      return;
    case 'sysctl': {
      const before = Number(readSysctl(change.name));
      writeSysctl(change.name, change.value);
      note({ kind: 'sysctl', name: change.name, before, after: change.value });
      return;
    }
    case 'address': {
      const { interface: name, address } = change;
      withRoutes(undefined, (routes) => routes.addAddress(name, address, { nodad: true }));
      note({ ...change, vip: address.split('/')[0]! });
      return;
    }
    case 'device':
      withRoutes(undefined, (routes) => {
        if (change.tunnel === 'ipip') routes.addIpip(change.name, { local: change.local });
        else routes.addGre(change.name, { local: change.local });
        note({ kind: 'device', name: change.name });
        routes.setUp(change.name);
      });
      return;
    case 'programs':
      attachPrograms(change.interface);
      note({ kind: 'programs' });
      return;
    case 'vip':
      tellPrograms(change.wish, change.decapsulates, change.segmentSize);
  }
}

/** What it says is for the operator: nothing where all is as before. */
export function undo(done: Done): string | undefined {
  switch (done.kind) {
    case 'up':
      withRoutes(undefined, (routes) => {
        if (routes.findLink(done.interface) !== undefined) routes.setDown(done.interface);
      });
      return undefined;
    case 'sysctl': {
      const now = Number(readSysctl(done.name));
      if (now !== done.after) {
        return `${done.name} is ${now}, not ${done.after} as set up: somebody else changed it, so it is left alone`;
      }
      writeSysctl(done.name, done.before);
      return undefined;
    }
    case 'address':
      forgetVip(done.vip);
      return withRoutes(undefined, (routes) => {
        const there = routes.findLink(done.interface) === undefined ? [] : routes.addresses(done.interface);
        if (!there.some(({ address }) => address === done.address)) {
          return `${done.address} is not on ${done.interface} any more`;
        }
        routes.deleteAddress(done.interface, done.address);
        return undefined;
      });
    case 'device':
      withRoutes(undefined, (routes) => {
        if (routes.findLink(done.name) !== undefined) routes.deleteLink(done.name);
      });
      return undefined;
    case 'programs':
      removePrograms();
      return undefined;
  }
}
