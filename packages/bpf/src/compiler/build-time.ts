/**
 * Module scope runs here, at build time: each source file becomes CommonJS in memory and is executed by V8.
 *
 * What comes out are plain JavaScript values: constants, structs, maps, tables, programs. To compile a function value back
 * from JavaScript, a transform leaves its mark on every function: `$function(key, fn, scope)` notes which syntax node it is
 * and how to look up what it captured. Captured names are found by a direct `eval` in that very scope, so functions made by
 * other functions at build time (`const rr = scheduler(RoundRobin)`) compile like any other.
 */
import { SourceMap } from 'node:module';
import vm from 'node:vm';
import ts from 'typescript';
import * as language from '../language/index.ts';
import * as storage from '../map-store.ts';
import * as spec from '../spec.ts';
import { CompileError, diagnosticAt, placeOf, say } from './diagnostics.ts';
import { isLanguageFile, type Source } from './program.ts';

export type ScopeLookup = (name: string) => unknown;

/** A function value's syntax, and what it captured. */
export interface BuildTimeFunction {
  readonly node: ts.FunctionLikeDeclaration;
  readonly scope: ScopeLookup;
}

interface ModuleRecord {
  readonly exports: Record<string, unknown>;
  scope: ScopeLookup;
}

const LANGUAGE: Readonly<Record<string, unknown>> = { ...language, ...storage, ...spec };

export class BuildTime {
  readonly #source: Source;
  readonly #modules = new Map<string, ModuleRecord>();
  readonly #functions = new WeakMap<object, BuildTimeFunction>();
  readonly #nodes = new Map<string, Map<string, ts.FunctionLikeDeclaration>>();

  constructor(source: Source) {
    this.#source = source;
  }

  /** Execute the entry and what it imports; gives the entry's exports. */
  run(): Readonly<Record<string, unknown>> {
    return this.#load(this.#source.entry).exports;
  }

  /** The exports of every user module that was executed, by file. */
  get modules(): ReadonlyMap<string, { readonly exports: Readonly<Record<string, unknown>> }> {
    return this.#modules;
  }

  /** The value of a declaration at module scope (or of the library, like `Math`); undefined for other declarations. */
  valueOf(symbol: ts.Symbol): { readonly value: unknown } | undefined {
    const target = symbol.flags & ts.SymbolFlags.Alias ? this.#source.checker.getAliasedSymbol(symbol) : symbol;
    const declaration = target.valueDeclaration ?? target.declarations?.[0];
    if (declaration === undefined) return target.name === 'undefined' ? { value: undefined } : undefined;
    const file = declaration.getSourceFile();
    if (isLanguageFile(file.fileName)) {
      if (ts.isSourceFile(declaration)) return { value: LANGUAGE };
      return Object.hasOwn(LANGUAGE, target.name) ? { value: LANGUAGE[target.name] } : undefined;
    }
    if (file.isDeclarationFile) {
      return Object.hasOwn(globalThis, target.name)
        ? { value: (globalThis as Record<string, unknown>)[target.name] }
        : undefined;
    }
    const module = this.#modules.get(file.fileName);
    if (module === undefined) return undefined;
    if (ts.isSourceFile(declaration)) return { value: module.exports };
    if (!isModuleScope(declaration)) return undefined;
    const name = ts.getNameOfDeclaration(declaration)?.getText(file) ?? 'default';
    return { value: lookUp(module, name) };
  }

  /** Where a function value was written; undefined for functions that are not the user's. */
  functionOf(value: unknown): BuildTimeFunction | undefined {
    return typeof value === 'function' ? this.#functions.get(value) : undefined;
  }

  #load(file: ts.SourceFile): ModuleRecord {
    const known = this.#modules.get(file.fileName);
    if (known !== undefined) return known;
    const record: ModuleRecord = { exports: {}, scope: () => undefined };
    this.#modules.set(file.fileName, record);
    const mark = (key: string, value: object, scope: ScopeLookup): unknown => {
      const node = this.#nodeAt(file, key);
      if (node !== undefined && !this.#functions.has(value)) this.#functions.set(value, { node, scope });
      return value;
    };
    const scope = (lookup: ScopeLookup): void => {
      record.scope = lookup;
    };
    const require = (specifier: string): unknown => this.#require(specifier, file);
    try {
      const code = transpile(file, false).outputText;
      const run = vm.compileFunction(code, ['exports', 'require', '$function', '$scope'], { filename: file.fileName });
      run(record.exports, require, mark, scope);
    } catch (error) {
      throw error instanceof CompileError ? error : failure(file, error);
    }
    return record;
  }

  #require(specifier: string, from: ts.SourceFile): unknown {
    const path = this.#source.resolve(specifier, from.fileName);
    if (path !== undefined && isLanguageFile(path)) return LANGUAGE;
    const file = path === undefined ? undefined : this.#source.program.getSourceFile(path);
    if (file !== undefined && !file.isDeclarationFile) return this.#load(file).exports;
    const node = from.statements.find(
      (statement) =>
        (ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement)) &&
        statement.moduleSpecifier !== undefined &&
        (statement.moduleSpecifier as ts.StringLiteral).text === specifier,
    );
    throw new CompileError(diagnosticAt(placeOf(node ?? from), say.foreignImport(specifier)));
  }

  #nodeAt(file: ts.SourceFile, key: string): ts.FunctionLikeDeclaration | undefined {
    let nodes = this.#nodes.get(file.fileName);
    if (nodes === undefined) {
      nodes = new Map();
      collectFunctions(file, nodes);
      this.#nodes.set(file.fileName, nodes);
    }
    return nodes.get(key);
  }
}

/** CommonJS with marked functions. A source map takes time to make and is only asked for when something went wrong. */
const transpile = (file: ts.SourceFile, sourceMap: boolean): ts.TranspileOutput =>
  ts.transpileModule(file.text, {
    fileName: file.fileName,
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.CommonJS,
      isolatedModules: true,
      removeComments: true,
      sourceMap,
    },
    transformers: { before: [markFunctions] },
  });

/** The place in the source where an exception came from, as far as the stack tells. */
function failure(file: ts.SourceFile, error: unknown): CompileError {
  const text = error instanceof Error ? error.message : String(error);
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const frame = stack.split('\n').find((line) => line.includes(file.fileName));
  const at = /:(\d+):(\d+)\)?$/.exec(frame ?? '');
  let start = 0;
  if (at !== null) {
    const map = new SourceMap(JSON.parse(transpile(file, true).sourceMapText!));
    const entry = map.findEntry(Number(at[1]) - 1, Number(at[2]) - 1);
    if ('originalLine' in entry) {
      start = ts.getPositionOfLineAndCharacter(file, entry.originalLine, entry.originalColumn);
    }
  }
  return new CompileError(diagnosticAt({ file, start }, say.buildTimeFailure(text)));
}

/** Exported names live on `exports` only, others in the module's scope only. */
function lookUp(module: ModuleRecord, name: string): unknown {
  if (Object.hasOwn(module.exports, name)) return module.exports[name];
  try {
    return module.scope(name);
  } catch {
    return undefined;
  }
}

function isModuleScope(declaration: ts.Node): boolean {
  for (let node = declaration.parent; node !== undefined; node = node.parent) {
    if (ts.isSourceFile(node)) return true;
    if (ts.isFunctionLike(node) || ts.isBlock(node) || ts.isClassLike(node)) return false;
  }
  return false;
}

/** The same text parses to the same positions, in the program and in the transpiler. */
const keyOf = (node: ts.Node): string => `${node.pos}-${node.end}`;

type Marked = ts.ArrowFunction | ts.FunctionExpression | ts.FunctionDeclaration | ts.MethodDeclaration;

const isMarked = (node: ts.Node): node is Marked =>
  ts.isArrowFunction(node) ||
  ts.isFunctionExpression(node) ||
  (ts.isFunctionDeclaration(node) && node.body !== undefined) ||
  (ts.isMethodDeclaration(node) && ts.isObjectLiteralExpression(node.parent));

function collectFunctions(root: ts.Node, into: Map<string, ts.FunctionLikeDeclaration>): void {
  const visit = (node: ts.Node): void => {
    if (isMarked(node)) into.set(keyOf(node), node);
    ts.forEachChild(node, visit);
  };
  visit(root);
}

/**
 * `x => y` becomes `$function(key, x => y, $name => eval($name))`; a function declaration is marked by a statement at the
 * head of its block; a method of an object literal becomes a marked function property.
 */
const markFunctions: ts.TransformerFactory<ts.SourceFile> = (context) => (root) => {
  const { factory } = context;
  const lookup = (): ts.Expression =>
    factory.createArrowFunction(
      undefined,
      undefined,
      [factory.createParameterDeclaration(undefined, undefined, '$name')],
      undefined,
      undefined,
      factory.createCallExpression(factory.createIdentifier('eval'), undefined, [factory.createIdentifier('$name')]),
    );
  const call = (name: string, args: ts.Expression[]): ts.CallExpression =>
    factory.createCallExpression(factory.createIdentifier(name), undefined, args);
  const marked = (original: ts.Node, value: ts.Expression): ts.Expression =>
    call('$function', [factory.createStringLiteral(keyOf(original)), value, lookup()]);
  const declarationMarks = (statements: readonly ts.Statement[]): ts.Statement[] =>
    statements
      .filter((s): s is ts.FunctionDeclaration => ts.isFunctionDeclaration(s) && s.body !== undefined)
      .filter((s) => s.name !== undefined)
      .map((s) => factory.createExpressionStatement(marked(s, factory.createIdentifier(s.name!.text))));

  const visit = (node: ts.Node): ts.Node => {
    if (ts.isMethodDeclaration(node) && ts.isObjectLiteralExpression(node.parent)) {
      const { asteriskToken, typeParameters, parameters, type, body } = ts.visitEachChild(node, visit, context);
      const modifiers = node.modifiers?.filter(ts.isModifier);
      const value = factory.createFunctionExpression(
        modifiers,
        asteriskToken,
        undefined,
        typeParameters,
        parameters,
        type,
        body!,
      );
      return factory.createPropertyAssignment(node.name, marked(node, value));
    }
    const visited = ts.visitEachChild(node, visit, context);
    if (ts.isArrowFunction(visited) || ts.isFunctionExpression(visited)) return marked(node, visited);
    if (ts.isBlock(visited)) {
      const marks = declarationMarks((node as ts.Block).statements);
      return marks.length === 0 ? visited : factory.updateBlock(visited, [...marks, ...visited.statements]);
    }
    return visited;
  };
  const body = ts.visitEachChild(root, visit, context);
  // Imports come first wherever they are written, as in every ES module.
  const isImport = (s: ts.Statement): boolean =>
    ts.isImportDeclaration(s) || (ts.isExportDeclaration(s) && s.moduleSpecifier !== undefined);
  const statements = [
    ...body.statements.filter(isImport),
    factory.createExpressionStatement(call('$scope', [lookup()])),
    ...declarationMarks(root.statements),
    ...body.statements.filter((s) => !isImport(s)),
  ];
  return factory.updateSourceFile(body, statements);
};
