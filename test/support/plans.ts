/**
 * Plans of the statements that are really sent: they are recorded on their way to the database, and prepared as the driver
 * prepares them, so that a plan that the server would reuse is explained as well.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient, Statement } from "effect/sql"
import { Database } from "../../src/postgres/Database.ts"

interface Node {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Index Name"?: string
  readonly "Actual Rows": number
  readonly "Actual Loops": number
  readonly "Rows Removed by Filter"?: number
  readonly "Rows Removed by Index Recheck"?: number
  /** Of the node and all below it. */
  readonly "Shared Hit Blocks": number
  readonly "Shared Read Blocks": number
  readonly Plans?: ReadonlyArray<Node>
}

const nodesOf = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(nodesOf)]

/** How many rows of tables a plan has read. */
const rowsRead = (plan: Node): number =>
  nodesOf(plan)
    .filter((node) => node["Relation Name"] !== undefined && node["Node Type"].includes("Scan"))
    .reduce(
      (sum, node) =>
        sum +
        node["Actual Loops"] *
          (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) + (node["Rows Removed by Index Recheck"] ?? 0)),
      0
    )

/** A plan as a person reads it: a line for each node. */
const show = (node: Node, depth = 0): string =>
  [
    `${"  ".repeat(depth)}${node["Node Type"]} ${node["Index Name"] ?? ""} ${node["Relation Name"] ?? ""}`,
    `rows=${node["Actual Rows"]} loops=${node["Actual Loops"]} removed=${node["Rows Removed by Filter"] ?? 0}`,
    ...(node.Plans ?? []).map((child) => `\n${show(child, depth + 1)}`)
  ].join(" ")

const literal = (value: unknown): string => {
  if (Array.isArray(value)) return `'{${value.join(",")}}'`
  return typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value)
}

/** How often a session runs a statement before the server may settle for one plan. */
const plansBeforeReuse = 6

export interface Sent {
  readonly text: string
  readonly parameters: ReadonlyArray<unknown>
}

/** Runs an effect, whose changes are undone, and returns the statements that it has sent. */
export const statementsOf = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const sent: Array<Sent> = []
    const record: Statement.Transformer = (statement) =>
      Effect.sync(() => {
        const [text, parameters] = statement.compile()
        sent.push({ text, parameters })
        return statement
      })
    yield* rolledBack(Effect.provideService(effect, Statement.CurrentTransformer, record))
    assert.isNotEmpty(sent)
    return sent
  })

const execute = (name: string, { parameters }: Sent) =>
  `EXECUTE ${name}${parameters.length === 0 ? "" : `(${parameters.map(literal).join(", ")})`}`

/** Prepares a statement, and makes the server settle for a plan if it ever will. */
export const prepare = Effect.fnUntraced(function* (name: string, sent: Sent) {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`PREPARE ${name} AS ${sent.text}`)
  for (let count = 0; count < plansBeforeReuse; count++) yield* sql.unsafe(`EXPLAIN ${execute(name, sent)}`)
})

/** How the server now runs a statement that was prepared. */
export const planOf = Effect.fnUntraced(function* (name: string, sent: Sent) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql.unsafe<{ readonly "QUERY PLAN": readonly [{ readonly Plan: Node }] }>(
    `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${execute(name, sent)}`
  )
  if (row === undefined) return yield* Effect.die(new Error(`no plan of ${sent.text}`))
  return row["QUERY PLAN"][0].Plan
})

/** Runs an effect, whose changes are undone, and returns the plans of its statements, the reused plan where there is one. */
const plansOf = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* Effect.forEach(yield* statementsOf(effect), (sent, index) =>
      rolledBack(
        Effect.gen(function* () {
          const name = `explained_${index}`
          yield* prepare(name, sent)
          const plan = yield* planOf(name, sent)
          yield* sql.unsafe(`DEALLOCATE ${name}`)
          return { text: sent.text, plan }
        })
      )
    )
  })

export const rolledBack = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const database = yield* Database
    let result: A | undefined
    yield* database
      .transaction(
        Effect.flatMap(effect, (value) => {
          result = value
          return Effect.fail("undo" as const)
        })
      )
      .pipe(
        Effect.catchIf(
          (error) => error === "undo",
          () => Effect.void
        )
      )
    // The transaction was undone on purpose, so the effect has ended with a value.
    return result as A
  })

export const assertBound = (atMost: number, plan: Node, text: string) => {
  const shown = `${text}\n${show(plan)}`
  assert.isEmpty(
    nodesOf(plan).filter((node) => node["Node Type"] === "Seq Scan"),
    `a table is read from end to end: ${shown}`
  )
  assert.isAtMost(rowsRead(plan), atMost, shown)
}

/** Runs an effect and asserts that each of its statements reads only so many rows, by indexes alone. */
export const assertReads = <E, R>(atMost: number, effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    for (const { plan, text } of yield* plansOf(effect)) assertBound(atMost, plan, text)
  })
