/**
 * All that the compiler may object to: one catalogue of sentences, and how they are printed.
 *
 * A sentence says what cannot be done, the state that forbids it, and what to write instead. Codes: 1000 the program and its
 * build time, 2000 syntax outside the language, 3000 integers, 4000 memory (packets, maps, the stack), 5000 functions and
 * loops.
 */
import ts from 'typescript';

export interface Message {
  /** BPF1001 ... */
  readonly code: string;
  readonly text: string;
}

export interface Diagnostic extends Message {
  readonly file: string | undefined;
  /** One-based; 0 where there is no file. */
  readonly line: number;
  readonly column: number;
  /** The source line. */
  readonly source: string;
  /** Other places that belong to it: the helper that moved the packet, the calls that were inlined. */
  readonly related: readonly RelatedPlace[];
}

export interface RelatedPlace {
  readonly text: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** A place in a source file. */
export interface Place {
  readonly file: ts.SourceFile;
  readonly start: number;
}

/** Thrown while lowering a statement, collected by whoever lowers the next one. */
export class CompileError extends Error {
  readonly diagnostic: Diagnostic;
  constructor(diagnostic: Diagnostic) {
    super(diagnostic.text);
    this.diagnostic = diagnostic;
  }
}

/** Thrown where a value is used whose own declaration already has a diagnostic: nothing more to say. */
export class SilentError extends Error {}

export const placeOf = (node: ts.Node): Place => ({ file: node.getSourceFile(), start: node.getStart() });

export function diagnosticAt(
  place: Place | undefined,
  message: Message,
  related: readonly RelatedPlace[] = [],
): Diagnostic {
  if (place === undefined) return { ...message, file: undefined, line: 0, column: 0, source: '', related };
  const { line, character } = ts.getLineAndCharacterOfPosition(place.file, place.start);
  const source = place.file.text.split(/\r?\n/, line + 1)[line] ?? '';
  return { ...message, file: place.file.fileName, line: line + 1, column: character + 1, source, related };
}

export function relatedAt(place: Place, text: string): RelatedPlace {
  const { line, character } = ts.getLineAndCharacterOfPosition(place.file, place.start);
  return { text, file: place.file.fileName, line: line + 1, column: character + 1 };
}

/** `file:line:column`, the sentence, the source line and a caret; then where it was inlined from. */
export function formatDiagnostic(diagnostic: Diagnostic, showPath: (path: string) => string = (path) => path): string {
  const { file, line, column, code, text, source, related } = diagnostic;
  if (file === undefined) return `${text} [${code}]`;
  const tabsKept = source.slice(0, column - 1).replace(/[^\t]/g, ' ');
  const places = related.map((r) => `  ${r.text} ${showPath(r.file)}:${r.line}:${r.column}`);
  return [`${showPath(file)}:${line}:${column}: ${text} [${code}]`, `  ${source}`, `  ${tabsKept}^`, ...places].join(
    '\n',
  );
}

const message = (code: number, text: string): Message => ({ code: `BPF${code}`, text });

/** The catalogue. */
export const say = {
  // The program and its build time.
  typeScript: (code: number, text: string) => message(1001, `${text} (TS${code})`),
  noSuchFile: (path: string) => message(1002, `Cannot read "${path}": there is no such file`),
  foreignImport: (name: string) =>
    message(1003, `Cannot import "${name}": kernel TypeScript imports only TypeScript sources and '@ipvsd/bpf'`),
  buildTimeFailure: (text: string) => message(1004, `Cannot run the module at build time: ${text}`),
  noPrograms: () =>
    message(1005, 'Cannot find a program: the entry file exports none; write export const x = tcProgram(name, fn)'),
  sameProgramName: (name: string) => message(1006, `Cannot compile two programs named "${name}": names are unique`),
  sameMapName: (name: string) => message(1007, `Cannot declare two maps named "${name}": names are unique`),
  sameStructName: (name: string) =>
    message(1008, `Cannot use two different structs named "${name}" in maps: names are unique in BTF`),
  programName: (name: string) =>
    message(1009, `Cannot name a program "${name}": a name has 1 to 15 letters, digits, underscores and dots`),
  tooManyErrors: (count: number) => message(1010, `Cannot go on: ${count} errors are enough to begin with`),
  internal: (text: string) => message(1011, `The compiler failed, a defect of ours, please report it: ${text}`),

  // Syntax outside the language.
  unsupportedSyntax: (what: string) => message(2001, `Cannot compile ${what}: kernel TypeScript has none`),
  whileLoop: () =>
    message(
      2002,
      'Cannot compile a while loop: write for (let i = 0; i < N; i++) with N up to 64, or loop(n, (i) => ...) for more',
    ),
  exception: () =>
    message(2003, 'Cannot compile exceptions: the kernel has none; return a value that says what happened'),
  string: () =>
    message(
      2004,
      'Cannot compile a string made at run time: strings exist at build time only; use numbers in the kernel',
    ),
  classInFunction: () => message(2005, 'Cannot compile a class in a function: declare structs at module scope'),
  asyncFunction: () =>
    message(2006, 'Cannot compile async functions and generators: a program runs to its end; use timers'),
  regularExpression: () => message(2007, 'Cannot compile a regular expression: compare fields of a struct'),
  objectLiteral: () =>
    message(
      2008,
      'Cannot compile an object made at run time: there is no heap; declare a struct and write stack(S, { ... })',
    ),
  arrayLiteral: () =>
    message(2009, 'Cannot compile an array made at run time: there is no heap; use an array field of a struct'),
  fraction: (text: string) => message(2010, `Cannot use ${text} at run time: the kernel has integers only`),
  looseEquality: (operator: string) => message(2011, `Cannot compile ${operator}: write ${operator}=`),
  nonNullAssertion: () =>
    message(2012, 'Cannot take "!" for a proof: compare with null first, the verifier wants the test as well'),
  anyType: (what: string) => message(2013, `Cannot compile ${what}: its type is any; annotate it`),
  newExpression: () => message(2014, 'Cannot compile new: there is no heap; use stack(S)'),
  forIn: () => message(2015, 'Cannot compile for-in: write for (const x of ARRAY) over an array of the build'),
  forOf: () =>
    message(
      2016,
      'Cannot loop over this: for-of takes arrays known at build time; for others count: for (let i = 0; ...)',
    ),
  optionalChain: () => message(2017, 'Cannot compile "?." on a value of run time: compare with null first'),
  logicalValue: (operator: string) =>
    message(2018, `Cannot compile "${operator}" on values that are not booleans: write c ? a : b`),
  spread: () => message(2019, 'Cannot compile a spread: write each element'),
  truthiness: () => message(2020, 'Cannot take this for a condition: write a comparison'),
  moduleVariable: (name: string) =>
    message(2021, `Cannot assign "${name}" at run time: module scope runs at build time; keep it in a map`),
  comma: () => message(2022, 'Cannot compile the comma operator: write two statements'),
  label: () => message(2023, 'Cannot find the label of this jump inside the function'),
  thisValue: () =>
    message(2024, 'Cannot compile "this" here: it means something only in methods of build-time objects'),

  // Integers.
  needsAnnotation: (name: string) =>
    message(3001, `Cannot tell how big "${name}" may become: annotate it, for example let ${name}: u32 = ...`),
  beyondSafe: (range: string) =>
    message(
      3002,
      `Cannot keep a number of ${range} exact: numbers end at 2^53; narrow an operand with u32(), or use mul32() or u64()`,
    ),
  beyondU64: (range: string) =>
    message(3003, `Cannot keep a bigint of ${range} in 64 bits: say that it wraps, u64(...)`),
  mayNotFit: (what: string, range: string, type: string) =>
    message(3004, `Cannot put ${range} into ${what}: a ${type} may not hold it; write ${type}(...)`),
  bareDivision: () => message(3005, 'Cannot divide into a fraction: the integer quotient is u32(a / b)'),
  negativeDivision: (range: string) =>
    message(3006, `Cannot divide with operands of ${range}: both must be known to be at least 0`),
  zeroModulus: (range: string) =>
    message(
      3007,
      `Cannot take a remainder by ${range}: the divisor must be known not to be 0; put it in a const and test that first`,
    ),
  orderArithmetic: (type: string) =>
    message(
      3008,
      `Cannot calculate with a ${type}: it holds raw network bytes; convert it with ${type === 'be16' ? 'ntohs()' : 'ntohl()'}`,
    ),
  orderComparison: () =>
    message(3009, 'Cannot compare network order with a plain number: write htons(n) or htonl(n) on the other side'),
  orderMismatch: (wanted: string) =>
    message(3010, `Cannot take a plain number for a ${wanted}: write ${wanted === 'be16' ? 'htons()' : 'htonl()'}`),
  shiftRange: (range: string) =>
    message(3011, `Cannot shift by ${range}: JavaScript takes the count modulo 32; write it with & 31`),
  mixedBigint: () => message(3012, 'Cannot mix bigint and number: convert with u64(n) or u32(b)'),
  signedBigint: (range: string) =>
    message(3013, `Cannot compare bigints of ${range}: one may be negative and one beyond 2^63; write u64(...)`),
  bigintDivision: (range: string) =>
    message(
      3014,
      `Cannot divide a bigint by ${range}: the divisor must be known not to be 0; put it in a const and test that first`,
    ),
  notANumber: (what: string) => message(3015, `Cannot calculate with ${what}`),

  // Memory.
  notMember: (name: string, what: string) => message(4001, `Cannot reach "${name}" of ${what}`),
  maybeNull: () => message(4002, 'Cannot use a view that may be null here: compare it with null first'),
  staleView: () =>
    message(
      4003,
      'Cannot use this packet view any more: a helper that can move the packet ran since it was made; call header() again',
    ),
  headerOffset: (range: string) =>
    message(
      4004,
      `Cannot view the packet at ${range}: the offset must be known to be within 0..32767; put it in a const and test that first`,
    ),
  elementIndex: (range: string, length: number) =>
    message(
      4005,
      `Cannot reach element ${range}: the array has ${length}; put the index in a const and test that first`,
    ),
  packetElement: () =>
    message(
      4006,
      'Cannot index a packet array with a variable: the bounds proof would be lost; use skb.header(Element, offset + i * size)',
    ),
  readOnlyField: (name: string) => message(4007, `Cannot assign "${name}": it is read-only`),
  atomicField: (name: string) =>
    message(4008, `Cannot use an atomic on "${name}": it takes u32, i32 and u64 fields of map values only`),
  fieldName: () => message(4009, 'Cannot use a field name that is not known at build time'),
  differentStructs: (a: string, b: string) =>
    message(4010, `Cannot use a view of "${a}" as a view of "${b}": the structs differ`),
  viewComparison: () => message(4011, 'Cannot compare views: only with null; for their bytes write same(a, b)'),
  unknownStruct: (name: string) =>
    message(4012, `Cannot tell the struct behind "${name}": annotate it, for example ViewOf<typeof S> | null`),
  mapMethod: (method: string, type: string) => message(4013, `Cannot ${method}() on a map of type ${type}`),
  packetArgument: () =>
    message(4014, 'Cannot let this helper write into the packet: give it a stack(S) and assign() it'),
  stackTooLarge: (size: number) =>
    message(4015, `Cannot put ${size} bytes on the stack: a program has 512; keep it in a map`),
  copySize: (size: number) => message(4016, `Cannot copy ${size} bytes inline: at most 512`),
  contextPointer: () =>
    message(4017, 'Cannot let this helper write into the context: give it a stack(S) and assign() it'),
  zeroOnlyInit: () => message(4018, 'Cannot initialise this field: only scalar fields may be given to stack()'),
  timerOwner: () => message(4019, 'Cannot arm this timer: it must be a field of a map value, reached through its view'),
  mapElsewhere: (what: string) => message(4020, `Cannot call ${what} in a function: declare it at module scope`),
  wrongSkb: () => message(4021, 'Cannot use another packet than the one that the program was given'),
  /** The back end's own words: only it knows what a whole function needs. */
  stack: (text: string) => message(4030, text),

  // Functions and loops.
  recursion: (name: string) => message(5001, `Cannot compile "${name}": it calls itself; write a loop`),
  notCallable: (what: string) => message(5002, `Cannot call ${what}: it is not a function known at build time`),
  foreignFunction: (name: string) =>
    message(5003, `Cannot call "${name}" at run time: it is neither kernel TypeScript nor a helper`),
  buildTimeOnly: (what: string) => message(5004, `Cannot use ${what} at run time: it exists at build time only`),
  buildTimeChoice: () =>
    message(
      5005,
      'Cannot choose between values of the build at run time: move what is done with them into the branches',
    ),
  helperProgram: (helper: string, type: string) =>
    message(5006, `Cannot call ${helper}() in a program of type ${type}: the kernel does not offer it there`),
  argumentCount: (name: string, count: number) =>
    message(5007, `Cannot pass ${count} arguments to subprogram "${name}": a BPF function takes at most 5`),
  loopShape: () =>
    message(5008, 'Cannot compile this for: write for (let i = a; i < N; i++), the counter changed by a constant'),
  loopBound: (rounds: string) =>
    message(
      5009,
      `Cannot bound this loop by 64 rounds (${rounds}): write i < CONST && i < n, or loop(n, (i) => ...) for more`,
    ),
  loopCounter: (name: string) =>
    message(5010, `Cannot assign the loop counter "${name}" in the body: only the for statement counts`),
  timerResult: () => message(5011, 'Cannot return anything but 0 from a timer callback'),
  loopResult: (range: string) => message(5012, `Cannot return ${range} from a loop body: 0 goes on, 1 stops`),
  callbackFunction: () => message(5013, 'Cannot use this as a callback: it must be a function at module scope'),
  programResult: (range: string) => message(5014, `Cannot return ${range} from a program: the result is an i32`),
  subprogramValue: (what: string) => message(5015, `Cannot pass ${what} to a subprogram`),
  aloneValue: (what: string) =>
    message(
      5024,
      `Cannot verify it alone: ${what}, must be integers, booleans, the packet and values of the build; write /** @subprog */`,
    ),
  unrollTooLong: (count: number) => message(5016, `Cannot unroll ${count} rounds: at most 1024`),
  missingReturn: (name: string) => message(5017, `Cannot use the result of "${name}": it may end without a return`),
  subprogramResult: () =>
    message(
      5022,
      'Cannot return a view of the stack from a subprogram: it ends with the call; pass a view in and fill it',
    ),
  parameterAnnotation: (name: string) =>
    message(
      5023,
      `Cannot tell how big parameter "${name}" of a subprogram may be: annotate it, for example ${name}: u32`,
    ),
  mutableCapture: (name: string) =>
    message(5019, `Cannot share "${name}" with a loop body: only integers, booleans and views can be`),
  branchOnView: () => message(5020, 'Cannot merge views of different kinds: the structs or their memory differ'),
  tooManyInstructions: (count: number) =>
    message(5021, `Cannot inline any further: ${count} instructions; mark large functions with /** @subprog */`),
} as const;
