/** Where looks at the outbox begin, among transactions that write, commit and end in any order. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { beginning, moveOn } from "../../src/outbox/position.ts"

const writers = Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: 4 })))

/** Writers have a transaction each; `Look` is the relay's, which then publishes and deletes some of what it sees. */
const Step = Schema.Union([
  Schema.TaggedStruct("Begin", { writer: writers }),
  Schema.TaggedStruct("Write", { writer: writers }),
  Schema.TaggedStruct("End", { writer: writers, commits: Schema.Boolean }),
  Schema.TaggedStruct("Look", { removes: Schema.Literals(["all", "first", "none"]) }),
  Schema.TaggedStruct("Look", { removes: Schema.Literals(["all", "first", "none"]) })
])

/** A database as far as the outbox is concerned. */
const makeDatabase = () => {
  let lastTransaction = 100n
  let lastOver = 100n
  let lastEvent = 0n
  const open = new Map<number, { readonly transaction: bigint; readonly events: Array<bigint> }>()
  const visible = new Set<bigint>()
  return {
    visible,
    begin: (writer: number) => {
      if (!open.has(writer)) open.set(writer, { transaction: ++lastTransaction, events: [] })
    },
    write: (writer: number) => open.get(writer)?.events.push(++lastEvent),
    end: (writer: number, commits: boolean) => {
      const { events, transaction } = open.get(writer) ?? { events: [], transaction: 0n }
      if (commits) for (const event of events) visible.add(event)
      if (transaction > lastOver) lastOver = transaction
      open.delete(writer)
    },
    look: (from: bigint) => {
      const running = [...open.values()].map(({ transaction }) => transaction)
      // As PostgreSQL has it: of those that run, a snapshot knows the ones that began before the last one that is over.
      const over = running.reduce((a, b) => (a < b ? a : b), lastOver + 1n)
      const begun = ++lastTransaction
      lastOver = begun
      return {
        first: [...visible].toSorted((a, b) => Number(a - b)).find((event) => event >= from),
        over,
        begun
      }
    }
  }
}

describe("the position in the outbox", () => {
  it.prop(
    "never passes an event, however late its transaction is committed",
    [Arbitrary.array(Arbitrary.schema(Step), { minLength: 1, maxLength: 60 })],
    ([steps]) => {
      const database = makeDatabase()
      let position = beginning
      let last = 0n
      for (const step of steps) {
        if (step._tag === "Begin") database.begin(step.writer)
        else if (step._tag === "Write") database.write(step.writer)
        else if (step._tag === "End") database.end(step.writer, step.commits)
        else {
          position = moveOn(position, database.look(position.from), last)
          const listed = [...database.visible].filter((event) => event >= position.from)
          for (const event of listed) if (event > last) last = event
          const removed = step.removes === "all" ? listed : step.removes === "first" ? listed.slice(0, 1) : []
          for (const event of removed) database.visible.delete(event)
        }
        for (const event of database.visible) assert.isTrue(event >= position.from)
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it("comes after what is gone once all are over who were writing when it was seen", () => {
    const sight = { first: undefined, over: 8n, begun: 10n }
    const one = moveOn(beginning, sight, 5000n)
    assert.strictEqual(one.from, beginning.from)
    // Somebody who was writing then still is.
    const two = moveOn(one, { ...sight, over: 9n, begun: 20n }, 5000n)
    assert.strictEqual(two.from, beginning.from)
    const three = moveOn(two, { ...sight, over: 10n, begun: 21n }, 5000n)
    assert.strictEqual(three.from, 5001n)
  })

  it("stays before an event that is there", () => {
    const idle = { over: 10n, begun: 10n }
    const one = moveOn(beginning, { ...idle, first: 7n }, 5000n)
    assert.strictEqual(moveOn(one, { ...idle, first: 7n }, 5000n).from, 7n)
    // It was written before those that were seen, and committed after them.
    assert.strictEqual(moveOn(one, { ...idle, first: 3n }, 5000n).from, 3n)
  })
})
