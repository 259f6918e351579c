/**
 * Statements. Each is lowered on its own, so that one error does not hide those of the next.
 */
import ts from 'typescript';
import { say } from '../diagnostics.ts';
import { compare, lowerCondition } from './conditions.ts';
import { declare, poison } from './declare.ts';
import { lower } from './expressions.ts';
import { type Flow, forkFlow } from './flow.ts';
import type { Frame } from './frame.ts';
import type { FunctionLowering } from './function.ts';
import { lowerFor, lowerForOf } from './loops.ts';

/** The body of the frame's function: a block, or the expression of an arrow. */
export function lowerBody(f: FunctionLowering, frame: Frame): void {
  const { node } = frame;
  const { body } = node;
  if (body === undefined) return;
  const flags = ts.getCombinedModifierFlags(node);
  if (flags & ts.ModifierFlags.Async || node.asteriskToken !== undefined) f.fail(node, say.asyncFunction());
  if (ts.isBlock(body)) lowerStatements(f, body.statements);
  else f.located(body, () => frame.onReturn(body, body));
}

function lowerStatements(f: FunctionLowering, statements: readonly ts.Statement[]): void {
  for (const statement of statements) {
    if (ts.isFunctionDeclaration(statement)) bindFunction(f, statement);
  }
  for (const statement of statements) {
    if (!f.isReachable) return;
    lowerStatement(f, statement);
  }
}

/** A function declared inside: like a `const` arrow. */
function bindFunction(f: FunctionLowering, node: ts.FunctionDeclaration): void {
  const symbol = node.name === undefined ? undefined : f.unit.checker.getSymbolAtLocation(node.name);
  if (symbol !== undefined)
    f.frame.bindings.set(symbol, { kind: 'value', value: { kind: 'closure', node, frame: f.frame } });
}

export function lowerStatement(f: FunctionLowering, node: ts.Statement, label?: string): void {
  const { frame, flow } = f;
  const jumps = frame.jumps.length;
  try {
    f.located(node, () => lowerOne(f, node, label));
  } catch (error) {
    f.unit.catch(error, node);
    f.frame = frame;
    frame.jumps.length = jumps;
    f.resume(flow === undefined ? undefined : forkFlow(flow, f.newBlock()));
    if (ts.isVariableStatement(node)) for (const { name } of node.declarationList.declarations) poison(f, name);
  }
}

function lowerOne(f: FunctionLowering, node: ts.Statement, label: string | undefined): void {
  if (ts.isBlock(node)) lowerStatements(f, node.statements);
  else if (ts.isVariableStatement(node)) lowerDeclarations(f, node.declarationList);
  else if (ts.isExpressionStatement(node)) lower(f, node.expression);
  else if (ts.isIfStatement(node)) lowerIf(f, node);
  else if (ts.isReturnStatement(node)) f.frame.onReturn(node.expression, node);
  else if (ts.isForStatement(node)) lowerFor(f, node, label);
  else if (ts.isForOfStatement(node)) lowerForOf(f, node, label);
  else if (ts.isSwitchStatement(node)) lowerSwitch(f, node, label);
  else if (ts.isBreakStatement(node) || ts.isContinueStatement(node)) lowerJump(f, node);
  else if (ts.isLabeledStatement(node)) lowerStatement(f, node.statement, node.label.text);
  else if (!meansNothing(node)) refuse(f, node);
}

/** Declarations of functions were bound at the head of their block; types are gone at run time. */
const meansNothing = (node: ts.Statement): boolean =>
  ts.isEmptyStatement(node) ||
  ts.isFunctionDeclaration(node) ||
  ts.isInterfaceDeclaration(node) ||
  ts.isTypeAliasDeclaration(node);

function refuse(f: FunctionLowering, node: ts.Statement): never {
  if (ts.isWhileStatement(node) || ts.isDoStatement(node)) return f.fail(node, say.whileLoop());
  if (ts.isForInStatement(node)) return f.fail(node, say.forIn());
  if (ts.isTryStatement(node) || ts.isThrowStatement(node)) return f.fail(node, say.exception());
  if (ts.isClassDeclaration(node)) return f.fail(node, say.classInFunction());
  return f.fail(node, say.unsupportedSyntax(`this statement (${ts.SyntaxKind[node.kind]})`));
}

function lowerDeclarations(f: FunctionLowering, list: ts.VariableDeclarationList): void {
  for (const declaration of list.declarations) {
    f.located(declaration, () => declare(f, declaration));
  }
}

function lowerIf(f: FunctionLowering, node: ts.IfStatement): void {
  const { yes, no } = lowerCondition(f, node.expression);
  const { thenStatement, elseStatement } = node;
  const then = f.within(yes, () => lowerStatement(f, thenStatement));
  const otherwise = elseStatement === undefined ? no : f.within(no, () => lowerStatement(f, elseStatement));
  f.resume(f.join([then, otherwise]));
}

function lowerJump(f: FunctionLowering, node: ts.BreakStatement | ts.ContinueStatement): void {
  const label = node.label?.text;
  const isContinue = ts.isContinueStatement(node);
  const target = f.frame.jumps.findLast((t) =>
    label === undefined ? !isContinue || t.continues !== undefined : t.label === label,
  );
  const flows = isContinue ? target?.continues : target?.breaks;
  if (flows === undefined) f.fail(node, say.label());
  const flow = f.takeFlow();
  if (flow !== undefined) flows.push(flow);
}

/** Tests in order, then the bodies in order with what falls through. A value of the build folds to its one case. */
function lowerSwitch(f: FunctionLowering, node: ts.SwitchStatement, label: string | undefined): void {
  const value = f.stable(lower(f, node.expression));
  const { clauses } = node.caseBlock;
  const entries = clauses.map((): (Flow | undefined)[] => []);
  clauses.forEach((clause, index) => {
    if (ts.isDefaultClause(clause) || !f.isReachable) return;
    const sides = { left: node.expression, right: clause.expression };
    const { yes, no } = f.located(clause, () => compare(f, clause, sides, '===', value, lower(f, clause.expression)));
    entries[index]!.push(yes);
    f.resume(no);
  });
  const otherwise = f.takeFlow();
  const defaultIndex = clauses.findIndex(ts.isDefaultClause);
  if (defaultIndex >= 0) entries[defaultIndex]!.push(otherwise);
  const breaks: Flow[] = [];
  f.frame.jumps.push({ label, breaks, continues: undefined });
  clauses.forEach((clause, index) => {
    f.resume(f.join([f.takeFlow(), ...entries[index]!]));
    lowerStatements(f, clause.statements);
  });
  f.frame.jumps.pop();
  const last = f.takeFlow();
  f.resume(f.join([last, ...breaks, ...(defaultIndex < 0 ? [otherwise] : [])]));
}
