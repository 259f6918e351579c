/** What keepalived accepts without a word and the operator will regret. */
import { realServerKey } from '@ipvsd/director';
import { type Diagnostic, type DiagnosticCode, diagnose } from '../conf/diagnostics.ts';
import type { Position } from '../conf/source.ts';
import type { Check, Configuration, RealServer, VirtualServer } from './configuration.ts';

export type IsExecutable = (path: string) => boolean;

type Complain = (code: DiagnosticCode, position: Position, ...words: readonly string[]) => void;

export function findings({ global, virtualServers }: Configuration, isExecutable: IsExecutable): Diagnostic[] {
  const found: Diagnostic[] = [];
  const complain: Complain = (code, position, ...words) => found.push(diagnose(code, position, ...words));
  for (const service of virtualServers) {
    lookAtWeights(service, complain);
    lookAtQuorum(service, complain);
    lookAtScheduler(service, complain);
    for (const server of service.realServers) lookAtServer(server, service, complain);
  }
  compareWeights(virtualServers, complain);
  if (!global.scriptSecurity) lookAtScripts(virtualServers, isExecutable, complain);
  return found;
}

function lookAtWeights({ name, realServers, position }: VirtualServer, complain: Complain): void {
  const dynamic = realServers.some(({ checks }) => checks.some(movesWeight));
  if (!dynamic && realServers.every(({ settings }) => settings.weight === 0))
    complain('allWeightsZero', position, name);
}

/** What load and slow start do to a weight is lost on these; `fo` would send everybody elsewhere with each step. */
const WEIGHTLESS = new Set(['rr', 'lc', 'dh', 'fo']);

function lookAtScheduler({ name, settings, load, slowStartMs = 0, position }: VirtualServer, complain: Complain): void {
  const { scheduler } = settings;
  if (!WEIGHTLESS.has(scheduler)) return;
  if (load !== undefined) complain('weightIgnored', position, name, scheduler, 'load');
  if (slowStartMs > 0) complain('weightIgnored', position, name, scheduler, 'slowStart');
}

function movesWeight(check: Check): boolean {
  return (check.kind === 'MISC_CHECK' && check.dynamic) || (check.kind === 'FILE_CHECK' && check.weight !== 0);
}

function lookAtQuorum(service: VirtualServer, complain: Complain): void {
  const { name, realServers, quorum, hysteresis, position, sorryServer } = service;
  const total = realServers.reduce((sum, { settings }) => sum + settings.weight, 0);
  if (total === 0 || realServers.some(({ checks }) => checks.some(movesWeight))) return;
  if (total < quorum + hysteresis) {
    const sum = `all weights together are ${total}, quorum plus hysteresis is ${quorum + hysteresis}`;
    complain('unreachableQuorum', position, name, sum);
  } else if (realServers.length > 1 && quorum - hysteresis === total) complain('quorumNeedsAll', position, name);
  if (sorryServer && realServers.some((server) => realServerKey(server) === realServerKey(sorryServer))) {
    complain('sorryIsReal', position, sorryServer.name);
  }
}

function lookAtServer(server: RealServer, service: VirtualServer, complain: Complain): void {
  if (server.checks.length === 0 && service.realServers.length > 1) complain('noChecks', server.position, server.name);
  for (const check of server.checks) {
    const why = neverFails(check);
    if (why !== undefined) complain('checkNeverFails', check.position, check.kind, why);
    const { connectTimeoutMs, delayLoopMs } = check.timing;
    if ('connection' in check && connectTimeoutMs > delayLoopMs) {
      complain('timeoutBeyondLoop', check.position, String(connectTimeoutMs / 1000), String(delayLoopMs / 1000));
    }
  }
}

/** More failures in a row than this never come before somebody notices by other means. */
const MOST_RETRIES = 1000;

function neverFails(check: Check): string | undefined {
  if (check.timing.retry > MOST_RETRIES) return `it takes ${check.timing.retry + 1} failures in a row`;
  if (check.kind === 'MISC_CHECK') {
    return /(^|\/)(true|:)$/.test(check.script.argv[0] ?? '') ? 'its program always exits with 0' : undefined;
  }
  if (!('connection' in check)) return undefined;
  return isLoopback(check.connection.address) ? 'it asks this host itself, not the real server' : undefined;
}

/** As keepalived counts them: those of checks, that are there, and that nobody gave another user. */
function lookAtScripts(services: readonly VirtualServer[], isExecutable: IsExecutable, complain: Complain): void {
  for (const check of services.flatMap(({ realServers }) => realServers.flatMap(({ checks }) => checks))) {
    if (check.kind !== 'MISC_CHECK') continue;
    const { argv, runAs } = check.script;
    if ((runAs === undefined || runAs.user === 'root') && isExecutable(argv[0] ?? '')) {
      complain('scriptsAsRoot', check.position, argv[0] ?? '');
    }
  }
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}

/** A weight raised in one service and forgotten in the next is the commonest slip in long files. */
function compareWeights(virtualServers: readonly VirtualServer[], complain: Complain): void {
  const first = new Map<string, RealServer>();
  for (const service of virtualServers) {
    for (const server of service.realServers) {
      const key = server.address;
      const earlier = first.get(key);
      if (earlier === undefined) first.set(key, server);
      else if (earlier.settings.weight !== server.settings.weight) {
        complain(
          'differentWeights',
          server.position,
          server.name,
          String(server.settings.weight),
          String(earlier.settings.weight),
        );
      }
    }
  }
}
