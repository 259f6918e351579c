/**
 * Which variables a function assigns again, and where: decided from the syntax before its body is lowered.
 */
import ts from 'typescript';
import type { Unit } from './unit.ts';

export interface Assignments {
  /** Variables that are assigned after their declaration. */
  readonly assigned: ReadonlySet<ts.Symbol>;
  /** Those assigned inside a function within: a loop body, which shares them with the function around. */
  readonly shared: ReadonlySet<ts.Symbol>;
}

const cache = new WeakMap<ts.Node, Assignments>();

/** Assignments anywhere inside `root`, functions within included. */
export function assignmentsIn(unit: Unit, root: ts.Node): Assignments {
  const known = cache.get(root);
  if (known !== undefined) return known;
  const assigned = new Set<ts.Symbol>();
  const shared = new Set<ts.Symbol>();
  const visit = (node: ts.Node, depth: number): void => {
    const target = assignmentTarget(node);
    const symbol = target === undefined ? undefined : unit.checker.getSymbolAtLocation(target);
    if (symbol !== undefined) {
      assigned.add(symbol);
      const home =
        symbol.valueDeclaration === undefined ? undefined : ts.findAncestor(symbol.valueDeclaration, ts.isFunctionLike);
      if (depth > 0 && home !== ts.findAncestor(node, ts.isFunctionLike)) shared.add(symbol);
    }
    const inner = node !== root && ts.isFunctionLike(node) ? depth + 1 : depth;
    ts.forEachChild(node, (child) => visit(child, inner));
  };
  visit(root, 0);
  const found = { assigned, shared };
  cache.set(root, found);
  return found;
}

/** The variable that this node assigns, if it is an assignment to a plain name. */
export function assignmentTarget(node: ts.Node): ts.Identifier | undefined {
  if (ts.isBinaryExpression(node) && isAssignmentOperator(node.operatorToken.kind)) return identifier(node.left);
  if ((ts.isPrefixUnaryExpression(node) || ts.isPostfixUnaryExpression(node)) && isStep(node.operator)) {
    return identifier(node.operand);
  }
  return undefined;
}

export const isAssignmentOperator = (kind: ts.SyntaxKind): boolean =>
  kind >= ts.SyntaxKind.FirstAssignment && kind <= ts.SyntaxKind.LastAssignment;

export const isStep = (kind: ts.SyntaxKind): boolean =>
  kind === ts.SyntaxKind.PlusPlusToken || kind === ts.SyntaxKind.MinusMinusToken;

/** Whether evaluating `node` may change a variable: then what was read before it must be kept apart. */
export function assignsSomething(node: ts.Node): boolean {
  if (assignmentTarget(node) !== undefined) return true;
  return ts.forEachChild(node, assignsSomething) ?? false;
}

function identifier(node: ts.Expression): ts.Identifier | undefined {
  if (ts.isParenthesizedExpression(node)) return identifier(node.expression);
  return ts.isIdentifier(node) ? node : undefined;
}
