import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { DeadLetter } from "../../src/domain/DeadLetter.ts"

/** A letter as its table has it. */
const stored = (payload: unknown) =>
  Schema.decodeUnknownSync(DeadLetter)({
    id: "3f1d2f0e-7c37-4d3a-9d0e-3b6d7c6a9f10",
    kind: "event",
    source_id: "3f1d2f0e-7c37-4d3a-9d0e-3b6d7c6a9f11",
    game_id: null,
    due_at: null,
    error: "EventRefused",
    message: "refused",
    attempts: 8,
    payload,
    created_at: new Date(0),
    resolved_at: null,
    resolved_by: null,
    resolution: null
  })

describe("DeadLetter", () => {
  it("holds what a row held, as JSON", () => {
    assert.deepStrictEqual(stored({ a: [1, "two", null] }).payload, { a: [1, "two", null] })
  })

  it("holds null in place of a number that is too large", () => {
    assert.deepStrictEqual(stored({ number: Number.POSITIVE_INFINITY }).payload, { number: null })
  })

  it("says so in place of a payload that is nested too deeply to be written", () => {
    const deep = Array.from({ length: 50_000 }).reduce<unknown>((inner) => [inner], null)
    assert.strictEqual(stored(deep).payload, "This payload cannot be shown: it is nested too deeply")
  })
})
