/**
 * The first step: a `ts.Program` over an entry file and all it imports, and what TypeScript itself has to say about it.
 *
 * Only the ES library types are loaded (no DOM, no Node): the check takes a fraction of a second and nothing that the kernel
 * lacks is even named. `@ipvsd/bpf` means this very package, its sources when we run from source and its build otherwise; in
 * a bundle, the declarations that the build has put beside it.
 */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { type Diagnostic, diagnosticAt, say } from './diagnostics.ts';

const HERE = fileURLToPath(import.meta.url);
/** `src` or `dist` of this package, or the language's declarations beside a bundle. */
const LANGUAGE_ROOT = ['..', '../kernel/bpf']
  .map((folder) => resolve(dirname(HERE), folder))
  .find((folder) => existsSync(resolve(folder, 'language')));
const EXTENSION = HERE.endsWith('.ts') ? '.ts' : '.d.ts';
const inLanguage = (name: string): string => resolve(LANGUAGE_ROOT ?? dirname(HERE), name);
const LANGUAGE_FOLDER = `${inLanguage('language')}/`;
const LANGUAGE_FILES = new Set(['index', 'map-store', 'spec'].map((name) => inLanguage(name + EXTENSION)));

const BASE_OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  lib: ['lib.es2023.d.ts'],
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  allowImportingTsExtensions: true,
  noEmit: true,
  types: [],
  strict: true,
  exactOptionalPropertyTypes: true,
  noImplicitReturns: true,
  noFallthroughCasesInSwitch: false,
  skipLibCheck: true,
  isolatedModules: true,
};

/** Sources that a module's name means, wherever the file lies that imports it. */
export type ModuleNames = Readonly<Record<string, string>>;

const optionsFor = (modules: ModuleNames): ts.CompilerOptions => ({
  ...BASE_OPTIONS,
  paths: {
    '@ipvsd/bpf': [inLanguage(`index${EXTENSION}`)],
    ...Object.fromEntries(Object.entries(modules).map(([name, path]) => [name, [path]])),
  },
});

/** Texts that stand in for files on disk (tests, editors). */
export type Overlay = Readonly<Record<string, string>>;

export interface Source {
  readonly program: ts.Program;
  readonly checker: ts.TypeChecker;
  readonly entry: ts.SourceFile;
  /** The user's files: what is executed at build time and compiled. */
  readonly files: readonly ts.SourceFile[];
  /** Where an import of one of them leads; undefined where nowhere. */
  readonly resolve: (specifier: string, from: string) => string | undefined;
}

/** Whether a file belongs to the language itself, whose meaning is known and not compiled. */
export const isLanguageFile = (path: string): boolean => LANGUAGE_FILES.has(path) || path.startsWith(LANGUAGE_FOLDER);

export function loadProgram(
  entryFile: string,
  overlay: Overlay = {},
  modules: ModuleNames = {},
): { source?: Source; diagnostics: Diagnostic[] } {
  const path = resolve(entryFile);
  const options = optionsFor(modules);
  const host = hostOver(overlay, options);
  const program = ts.createProgram([path], options, host);
  const entry = program.getSourceFile(path);
  if (entry === undefined) return { diagnostics: [diagnosticAt(undefined, say.noSuchFile(path))] };
  const files = program.getSourceFiles().filter((file) => !file.isDeclarationFile && !isLanguageFile(file.fileName));
  const diagnostics = files.flatMap((file) => [
    ...program.getSyntacticDiagnostics(file).map(fromTypeScript),
    ...program.getSemanticDiagnostics(file).map(fromTypeScript),
  ]);
  const cache = ts.createModuleResolutionCache(dirname(path), (name) => name, options);
  const resolveImport = (specifier: string, from: string): string | undefined =>
    ts.resolveModuleName(specifier, from, options, host, cache).resolvedModule?.resolvedFileName;
  return { source: { program, checker: program.getTypeChecker(), entry, files, resolve: resolveImport }, diagnostics };
}

/** Library and language files never change while a process runs: parsing them once is most of the cost of a small compile. */
const parsed = new Map<string, ts.SourceFile>();

function hostOver(overlay: Overlay, compilerOptions: ts.CompilerOptions): ts.CompilerHost {
  const host = ts.createCompilerHost(compilerOptions, true);
  const read = host.readFile.bind(host);
  const exists = host.fileExists.bind(host);
  const parse = host.getSourceFile.bind(host);
  const isFolder = host.directoryExists?.bind(host);
  host.directoryExists = (name) =>
    Object.keys(overlay).some((path) => path.startsWith(`${name}/`)) || isFolder?.(name) === true;
  host.readFile = (name) => overlay[name] ?? read(name);
  host.fileExists = (name) => overlay[name] !== undefined || exists(name);
  host.getSourceFile = (name, options, onError, shouldCreate) => {
    const text = overlay[name];
    if (text !== undefined) return ts.createSourceFile(name, text, options, true);
    const lasting = isLanguageFile(name) || /\/typescript\/lib\/lib\.[^/]*\.d\.ts$/.test(name);
    if (!lasting) return parse(name, options, onError, shouldCreate);
    const known = parsed.get(name) ?? parse(name, options, onError, shouldCreate);
    if (known !== undefined) parsed.set(name, known);
    return known;
  };
  return host;
}

function fromTypeScript(diagnostic: ts.Diagnostic): Diagnostic {
  const message = say.typeScript(diagnostic.code, ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n'));
  const { file, start = 0 } = diagnostic;
  return diagnosticAt(file === undefined ? undefined : { file, start }, message);
}
