/**
 * What the service may log, read from its sources by the compiler: the level, the message and the fields of each call.
 *
 * What is put into a message is shown as `…`, or as its values with strokes between them where the type says which they are.
 * A call that cannot be read is an error, so that none is passed over.
 */
import { relative } from "node:path"
import { fileURLToPath } from "node:url"
import type { CallExpression, Node, SourceFile } from "typescript/unstable/ast"
import {
  isCallExpression,
  isConditionalExpression,
  isGetAccessorDeclaration,
  isIdentifier,
  isNoSubstitutionTemplateLiteral,
  isParenthesizedExpression,
  isPropertyAccessExpression,
  isReturnStatement,
  isStringLiteral,
  isTemplateExpression,
  isVariableDeclaration
} from "typescript/unstable/ast/is"
import { API, type Checker, type Project, SymbolFlags, type Type } from "typescript/unstable/sync"

const root = fileURLToPath(new URL("../..", import.meta.url))

export interface LogEvent {
  readonly level: string
  readonly message: string
  /** The names of what is said besides, without what every line has. */
  readonly fields: ReadonlyArray<string>
}

/** Levels by the functions that log at them. */
const levels: Readonly<Record<string, string>> = {
  logTrace: "trace",
  logDebug: "debug",
  logInfo: "info",
  logWarning: "warn",
  logError: "error",
  logFatal: "fatal",
  logFailure: "fatal"
}

/** Most values that are shown of what is put into a message. */
const mostValues = 8

/** The room that makes log lines of what is said. */
const isLogging = (file: string) => file.endsWith("/observability/logging.ts")

const everyNode = (node: Node): ReadonlyArray<Node> => {
  const nodes: Array<Node> = [node]
  node.forEachChild((child) => void nodes.push(...everyNode(child)))
  return nodes
}

const place = (node: Node, file: SourceFile) =>
  `${relative(root, file.fileName)}: ${file.text.slice(node.pos, node.end).trim().slice(0, 100)}`

/** The values of a type of few literals; none of any other. */
const literalsOf = (type: Type | undefined): ReadonlyArray<string> => {
  if (type === undefined) return []
  if (type.isStringLiteralType()) return [type.value]
  if (!type.isUnionType()) return []
  const values = type.getTypes().map((each) => (each.isStringLiteralType() ? each.value : undefined))
  const known = values.filter((value) => value !== undefined)
  // What may be nothing would leave a stroke in the air.
  return known.length === values.length && known.length <= mostValues && !known.includes("") ? known : []
}

/** The ways to read an expression: a condition has two. */
const readText = (node: Node, checker: Checker): ReadonlyArray<string> => {
  if (isStringLiteral(node) || isNoSubstitutionTemplateLiteral(node)) return [node.text]
  if (isParenthesizedExpression(node)) return readText(node.expression, checker)
  if (isConditionalExpression(node)) return [...readText(node.whenTrue, checker), ...readText(node.whenFalse, checker)]
  if (isTemplateExpression(node)) {
    const parts = node.templateSpans.map(({ expression, literal }) => {
      const values = literalsOf(checker.getTypeAtLocation(expression))
      return `${values.length === 0 ? "…" : values.join("/")}${literal.text}`
    })
    return [`${node.head.text}${parts.join("")}`.replaceAll(/…(?:…)+/g, "…")]
  }
  return ["…"]
}

/** What stands around an expression and has its value: parentheses and the conditions that it is a branch of. */
const widest = (node: Node): Node => {
  const { parent } = node
  return isParenthesizedExpression(parent) || (isConditionalExpression(parent) && parent.condition !== node)
    ? widest(parent)
    : node
}

/** The arguments of `Effect.annotateLogs` in the pipe that begins with an effect. */
const annotationsOf = (effect: Node): ReadonlyArray<Node> => {
  const whole = widest(effect)
  const { parent } = whole
  if (!isPropertyAccessExpression(parent) || parent.name.text !== "pipe" || !isCallExpression(parent.parent)) return []
  return parent.parent.arguments.flatMap((step) =>
    isCallExpression(step) &&
    isPropertyAccessExpression(step.expression) &&
    step.expression.name.text === "annotateLogs"
      ? [...step.arguments]
      : []
  )
}

/** The sets of names that an object of this type may have. */
const namesOf = (type: Type | undefined, checker: Checker): ReadonlyArray<ReadonlyArray<string>> =>
  type === undefined
    ? []
    : type.isUnionType()
      ? type.getTypes().flatMap((each) => namesOf(each, checker))
      : // Of objects in a union each has the names of the others as optional ones.
        [
          checker
            .getPropertiesOfType(type)
            .filter(({ flags }) => (flags & SymbolFlags.Optional) === 0)
            .map(({ name }) => name)
        ]

const product = (sets: ReadonlyArray<ReadonlyArray<ReadonlyArray<string>>>): ReadonlyArray<ReadonlyArray<string>> =>
  sets.reduce<ReadonlyArray<ReadonlyArray<string>>>(
    (all, alternatives) => all.flatMap((names) => alternatives.map((more) => [...names, ...more])),
    [[]]
  )

/** The calls of a function that logs, where it is named or under the name that it is given there. */
const callsOf = (mention: Node, file: SourceFile): ReadonlyArray<CallExpression> => {
  const callee = widest(mention)
  const { parent } = callee
  if (isCallExpression(parent) && parent.expression === callee) return [parent]
  const name = isVariableDeclaration(parent) && isIdentifier(parent.name) ? parent.name.text : undefined
  // The declaration, its list, its statement, and the block that they are in.
  const block = parent.parent.parent.parent
  const calls = everyNode(block)
    .filter(isCallExpression)
    .filter(({ expression }) => isIdentifier(expression) && expression.text === name)
  if (calls.length === 0) throw new Error(`Not understood: ${place(parent, file)}`)
  return calls
}

/** The events of one mention of a function that logs. */
const readMention = (mention: Node, level: string, file: SourceFile, checker: Checker): ReadonlyArray<LogEvent> =>
  callsOf(mention, file).flatMap((call) => readCall(call, level, file, checker))

const readCall = (call: CallExpression, level: string, file: SourceFile, checker: Checker): ReadonlyArray<LogEvent> => {
  const [message, ...others] = call.arguments
  if (message === undefined) throw new Error(`Nothing is said: ${place(call, file)}`)
  // Whatever comes after the message is the cause of a failure.
  const cause = others.length === 0 ? [] : ["error"]
  const annotations = annotationsOf(call).map((argument) => namesOf(checker.getTypeAtLocation(argument), checker))
  return readText(message, checker).flatMap((text) =>
    product(annotations).map((fields) => ({ level, message: text, fields: [...fields, ...cause] }))
  )
}

const readFile = (file: SourceFile, checker: Checker): ReadonlyArray<LogEvent> =>
  everyNode(file).flatMap((node) => {
    if (!isPropertyAccessExpression(node) || !isIdentifier(node.expression)) return []
    const level = levels[node.name.text]
    return level === undefined || !/^(?:Effect|Logging)$/.test(node.expression.text)
      ? []
      : readMention(node, level, file, checker)
  })

/** The messages of errors that a file defines. */
const readErrors = (file: SourceFile, checker: Checker): ReadonlyArray<string> =>
  everyNode(file).flatMap((node) =>
    isGetAccessorDeclaration(node) && isIdentifier(node.name) && node.name.text === "message"
      ? everyNode(node).flatMap((inner) =>
          isReturnStatement(inner) && inner.expression !== undefined ? readText(inner.expression, checker) : []
        )
      : []
  )

const withProject = <A>(read: (project: Project) => A): A => {
  const api = new API({ cwd: root })
  try {
    const [project] = api.updateSnapshot({ openProject: `${root}tsconfig.json` }).getProjects()
    if (project === undefined) throw new Error("tsconfig.json is no project")
    return read(project)
  } finally {
    api.close()
  }
}

const inEach = <A>(
  project: Project,
  read: (file: SourceFile, checker: Checker) => ReadonlyArray<A>
): ReadonlyArray<A> =>
  project.rootFiles
    .filter((name) => name.startsWith(`${root}src/`) && !isLogging(name))
    .flatMap((name) => {
      const file = project.program.getSourceFile(name)
      if (file === undefined) throw new Error(`${name} cannot be read`)
      return read(file, project.checker)
    })

/** Everything that `src/` may log, and every message that an error of it may have. */
export const readSources = () =>
  withProject((project) => ({ events: inEach(project, readFile), errors: inEach(project, readErrors) }))
