import { MemoryDirector } from '@ipvsd/director';
import { describe, expect, test } from 'vitest';
import { loadKeepalivedText } from '../model/load.ts';
import { commandsFor } from '../reconcile.ts';
import { checkKey } from './check-key.ts';
import { type Effect, ServiceHealth } from './service-health.ts';

function health(extra: string, servers: readonly string[], serverLines = ''): ServiceHealth {
  const blocks = servers.map(
    (address, i) => `real_server ${address} 80 {\nweight ${i + 1}\n${serverLines}\nTCP_CHECK {\n}\n}\n`,
  );
  const text = `virtual_server 10.0.0.1 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n${extra}\n${blocks.join('')}}\n`;
  return new ServiceHealth(loadKeepalivedText(text).configuration.virtualServers[0]!);
}

function keyOf(service: ServiceHealth, index: number): string {
  return checkKey(service.virtualServer.realServers[index]!.checks[0]!);
}

function table(service: ServiceHealth): string {
  return service
    .placed()
    .map(({ destination, settings }) => `${destination.address}=${settings.weight}`)
    .join(' ');
}

function said(effects: readonly Effect[]): string[] {
  return effects.map((effect) =>
    effect.kind === 'log'
      ? effect.text
      : effect.kind === 'fifo'
        ? `> ${effect.line}`
        : `! ${effect.script.argv.join(' ')}`,
  );
}

describe('real servers', () => {
  test('without alpha they are in the table before anybody has looked', () => {
    expect(table(health('', ['10.1.0.1', '10.1.0.2']))).toBe('10.1.0.1=1 10.1.0.2=2');
  });

  test('with alpha they wait for their first success', () => {
    const service = health('alpha', ['10.1.0.1', '10.1.0.2']);
    expect(table(service)).toBe('');
    service.report(keyOf(service, 1), 'up');
    expect(table(service)).toBe('10.1.0.2=2');
  });

  test('one that fails leaves, and its script and the FIFO hear of it', () => {
    const service = health('', ['10.1.0.1', '10.1.0.2'], 'notify_down "/bin/tell me"');
    expect(said(service.report(keyOf(service, 0), 'down'))).toEqual([
      'Removing service [10.1.0.1]:tcp:80 from VS [10.0.0.1]:tcp:80',
      '! /bin/tell me',
      '> RS [10.1.0.1]:tcp:80 [10.0.0.1]:tcp:80 DOWN',
    ]);
    expect(table(service)).toBe('10.1.0.2=2');
  });

  test('with inhibit_on_failure it stays with weight 0', () => {
    const service = health('inhibit_on_failure', ['10.1.0.1', '10.1.0.2']);
    expect(said(service.report(keyOf(service, 0), 'down'))[0]).toBe(
      'Disabling service [10.1.0.1]:tcp:80 of VS [10.0.0.1]:tcp:80',
    );
    expect(table(service)).toBe('10.1.0.1=0 10.1.0.2=2');
    service.report(keyOf(service, 0), 'up');
    expect(table(service)).toBe('10.1.0.1=1 10.1.0.2=2');
  });

  test('a weight from a check moves the table and never falls below 0', () => {
    const service = health('', ['10.1.0.1', '10.1.0.2']);
    expect(said(service.reportWeight(keyOf(service, 1), 5))).toEqual([
      'Changing weight from 2 to 7 for active service [10.1.0.2]:tcp:80 of VS [10.0.0.1]:tcp:80',
    ]);
    service.reportWeight(keyOf(service, 0), -9);
    expect(table(service)).toBe('10.1.0.1=0 10.1.0.2=7');
  });
});

describe('quorum', () => {
  test('is lost below quorum - hysteresis and gained at quorum + hysteresis', () => {
    const service = health('quorum 3\nhysteresis 1\nquorum_up /up\nquorum_down /down', [
      '10.1.0.1',
      '10.1.0.2',
      '10.1.0.3',
    ]);
    expect(service.quorumUp).toBe(true);
    service.report(keyOf(service, 2), 'down');
    expect(service.quorumUp, '3 of 6 left').toBe(true);
    expect(said(service.report(keyOf(service, 1), 'down')).slice(2)).toEqual([
      'Lost quorum 3-1=2 > 1 for VS [10.0.0.1]:tcp:80',
      '! /down',
      '> VS [10.0.0.1]:tcp:80 DOWN',
    ]);
    service.report(keyOf(service, 1), 'up');
    expect(service.quorumUp, '3 is not 4').toBe(false);
    expect(said(service.report(keyOf(service, 2), 'up')).slice(2)).toEqual([
      'Gained quorum 3+1=4 <= 6 for VS [10.0.0.1]:tcp:80',
      '! /up',
      '> VS [10.0.0.1]:tcp:80 UP',
    ]);
  });

  test('without a sorry server those alive serve on under a lost quorum', () => {
    const service = health('quorum 3', ['10.1.0.1', '10.1.0.2']);
    service.report(keyOf(service, 1), 'down');
    expect(service.quorumUp).toBe(false);
    expect(table(service)).toBe('10.1.0.1=1');
  });

  test('a sorry server takes the place of all, and holds back what changes meanwhile', () => {
    const service = health('quorum 3\nsorry_server 10.1.0.9 80', ['10.1.0.1', '10.1.0.2', '10.1.0.3']);
    service.report(keyOf(service, 2), 'down');
    expect(table(service)).toBe('10.1.0.1=1 10.1.0.2=2');
    expect(said(service.report(keyOf(service, 1), 'down'))).toContain(
      'Adding sorry server [10.1.0.9]:tcp:80 to VS [10.0.0.1]:tcp:80',
    );
    expect(table(service)).toBe('10.1.0.9=1');
    service.report(keyOf(service, 0), 'down');
    service.report(keyOf(service, 0), 'up');
    expect(table(service)).toBe('10.1.0.9=1');
    service.report(keyOf(service, 2), 'up');
    expect(table(service)).toBe('10.1.0.1=1 10.1.0.3=3');
  });

  test('with sorry_server_inhibit it is always there, with weight 0 while it is not needed', () => {
    const service = health('sorry_server 10.1.0.9 80\nsorry_server_inhibit', ['10.1.0.1']);
    expect(table(service)).toBe('10.1.0.1=1 10.1.0.9=0');
    service.report(keyOf(service, 0), 'down');
    expect(table(service)).toBe('10.1.0.9=1');
  });
});

test('a reload keeps what is known: dead stays dead, drained stays drained', () => {
  const before = health('', ['10.1.0.1', '10.1.0.2', '10.1.0.3']);
  before.report(keyOf(before, 0), 'down');
  before.setDrain('10.1.0.2 80', 'draining');
  const down = new Set([keyOf(before, 0)]);
  const after = new ServiceHealth(before.virtualServer, (key) => !down.has(key), before);
  expect(table(after)).toBe(table(before));
  expect(table(after)).toBe('10.1.0.2=0 10.1.0.3=3');
});

test('load moves the weight in the table but not the quorum', () => {
  const service = health('quorum 3', ['10.1.0.1', '10.1.0.2']);
  service.setLoad('10.1.0.2 80', { weight: 1, maxConnections: undefined });
  expect(table(service)).toBe('10.1.0.1=1 10.1.0.2=1');
  expect(service.quorumUp).toBe(true);
});

describe('commands', () => {
  test('only what changed is said, and a table edited behind our back is put right', () => {
    const director = new MemoryDirector();
    const service = health('', ['10.1.0.1', '10.1.0.2']);
    const carryOut = (): string[] =>
      commandsFor(service, director).map((command) => {
        director.execute(command);
        return command.kind;
      });
    expect(carryOut()).toEqual(['addService', 'addServer', 'addServer']);
    expect(carryOut()).toEqual([]);
    service.report(keyOf(service, 0), 'down');
    expect(carryOut()).toEqual(['deleteServer']);
    service.report(keyOf(service, 0), 'up');
    expect(carryOut()).toEqual(['addServer']);
    const id = service.virtualServer.services[0]!;
    director.execute({ kind: 'deleteServer', service: id, server: { address: '10.1.0.2', port: 80 } });
    expect(carryOut()).toEqual(['addServer']);
  });
});
