/** `ipvsd scheduler`: schedulers of operators' own, compiled here and put into the director while it runs. */
import { existsSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import type { CollectionSpec } from '@ipvsd/bpf';
import type { CompileResult } from '@ipvsd/bpf/compiler';
import { VerifierError } from '@ipvsd/bpf/kernel';
import { DirectorError, KernelPlane, UserSchedulers } from '@ipvsd/director';
import { schedulerModule } from '@ipvsd/ipvs';
import { openDirector } from '../open-director.ts';

export async function add(file: string): Promise<void> {
  const director = openDirector();
  const path = resolve(file);
  const { name, spec } = await compileScheduler(path);
  const found = KernelPlane.open();
  // A director is only made for a scheduler that is sound.
  if (found === undefined) orRefuse(path, () => UserSchedulers.check(name, spec));
  const schedulers = new UserSchedulers(found ?? director.make().plane);
  const done = orRefuse(path, () => schedulers.add(name, spec, path));
  const use = done === 'added' ? `: ipvsadm -s ${name}` : ', its connections go on';
  process.stdout.write(`${done === 'added' ? 'Added' : 'Replaced'} scheduler ${name}${use}\n`);
}

function orRefuse<T>(path: string, load: () => T): T {
  try {
    return load();
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    throw refused(path, `the kernel's verifier refuses it and nothing has changed\n${error.message}`);
  }
}

export function list(json: boolean): void {
  openDirector();
  const plane = KernelPlane.open();
  const found = plane === undefined ? [] : new UserSchedulers(plane).list();
  if (json) {
    process.stdout.write(`${JSON.stringify(found)}\n`);
    return;
  }
  const lines = found.map(({ name, file, services }) => {
    const users = services.length === 0 ? 'no virtual service' : services.join(', ');
    return `${name}  from ${file}, used by ${users}`;
  });
  process.stdout.write(lines.length === 0 ? 'No schedulers but those that are built in\n' : `${lines.join('\n')}\n`);
}

export function remove(name: string): void {
  openDirector();
  const plane = KernelPlane.open();
  if (plane === undefined) {
    throw new DirectorError(
      'ENOENT',
      `Cannot remove scheduler ${name}: there is no director in this network namespace`,
    );
  }
  new UserSchedulers(plane).remove(name);
}

interface Compiled {
  readonly name: string;
  readonly spec: CollectionSpec;
}

async function compileScheduler(path: string): Promise<Compiled> {
  if (!existsSync(path)) throw refused(path, 'there is no such file');
  const { compile, formatDiagnostic } = await loadCompiler(path);
  const result = compile(path, { modules: { 'ipvsd/scheduler': schedulerModule() } });
  const [first] = result.diagnostics;
  if (first?.code === NO_PROGRAMS) throw refused(path, EXPORTS_NONE);
  if (result.spec === undefined) {
    const shown = result.diagnostics.map((diagnostic) => formatDiagnostic(diagnostic, fromHere));
    throw refused(path, `it does not compile and nothing has changed\n${shown.join('\n')}`);
  }
  return { name: nameOf(path, result), spec: result.spec };
}

/** As packages/bpf/src/compiler/diagnostics.ts has it. */
const NO_PROGRAMS = 'BPF1005';
const EXPORTS_NONE = "it exports no scheduler, must have: export default scheduler('name', (service) => ...)";

/** Exactly one export made by `scheduler()`, and no other program: nothing would call it. */
function nameOf(path: string, { exports = {}, spec }: CompileResult): string {
  const names = new Set(Object.values(exports).map(schedulerName));
  names.delete(undefined);
  const [name] = names;
  if (name === undefined) throw refused(path, EXPORTS_NONE);
  if (names.size > 1) throw refused(path, `it exports ${[...names].join(' and ')}, must export one scheduler`);
  if (spec!.programs.length > 1) throw refused(path, 'it exports other programs too, must export one scheduler');
  return name;
}

function schedulerName(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('scheduler' in value)) return undefined;
  return typeof value.scheduler === 'string' ? value.scheduler : undefined;
}

/** The compiler needs `typescript`, which is not among our dependencies: most directors never compile. */
async function loadCompiler(path: string): Promise<typeof import('@ipvsd/bpf/compiler')> {
  const found = await typescriptVersion();
  if (found === undefined || !/^[56]\./.test(found)) {
    const state = found === undefined ? 'it is not there' : `it is ${found}`;
    const advice =
      'must be there in version 6: npm install typescript@6 where ipvsd is installed (with -g where ipvsd is)';
    throw refused(path, `the compiler needs the package typescript; ${state}, ${advice}`);
  }
  return await import('@ipvsd/bpf/compiler');
}

const ABSENT: readonly unknown[] = ['ERR_MODULE_NOT_FOUND', 'ERR_PACKAGE_PATH_NOT_EXPORTED'];

async function typescriptVersion(): Promise<string | undefined> {
  try {
    return (await import('typescript')).default.version;
  } catch (error) {
    if (error instanceof Error && 'code' in error && ABSENT.includes(error.code)) return undefined;
    throw error;
  }
}

function fromHere(path: string): string {
  const shorter = relative(process.cwd(), path);
  return shorter.startsWith('..') ? path : shorter;
}

const refused = (path: string, reason: string): DirectorError =>
  new DirectorError('EINVAL', `Cannot add the scheduler of ${fromHere(path)}: ${reason}`);
