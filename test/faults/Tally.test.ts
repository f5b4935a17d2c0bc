import { assert, describe, it } from "@effect/vitest"
import { Tally } from "./Tally.ts"

const due = Date.parse("2030-01-01T12:00:00.000Z")

const event = (fields: { id: string; type?: string; time?: number; version?: number; due?: number | null }) =>
  JSON.stringify({
    id: fields.id,
    type: fields.type ?? "game.started",
    subject: "a game",
    time: new Date(fields.time ?? due).toISOString(),
    data: {
      version: fields.version ?? 2,
      transition_time: fields.due === null ? null : new Date(fields.due ?? due).toISOString()
    }
  })

const received = (...events: ReadonlyArray<readonly [text: string, at: number]>) => {
  const tally = new Tally()
  for (const [text, at] of events) tally.receive(text, at)
  return tally
}

describe("the consumer's account", () => {
  it("knows a repeated delivery by its id and objects to a second event of the same", () => {
    const tally = received([event({ id: "1" }), due], [event({ id: "1" }), due + 5], [event({ id: "2" }), due + 9])
    assert.deepInclude(tally.offences, { twice: 1, early: 0, disordered: 0 })
    assert.strictEqual(tally.repeated, 1)
    assert.strictEqual(tally.deliveries, 3)
  })

  it("objects to what was done or received before its time", () => {
    assert.strictEqual(received([event({ id: "1", time: due - 1 }), due]).offences.early, 1)
    assert.strictEqual(received([event({ id: "1" }), due - 1]).offences.early, 1)
    assert.strictEqual(received([event({ id: "1", due: null }), due - 1]).offences.early, 0)
  })

  it("objects to an event that comes after a later one of its game", () => {
    const tally = received(
      [event({ id: "1", type: "game.completed", version: 3 }), due],
      [event({ id: "2", version: 2 }), due]
    )
    assert.strictEqual(tally.offences.disordered, 1)
    assert.lengthOf(tally.takeExamples(), 1)
    assert.isEmpty(tally.takeExamples())
  })

  it("says which versions no event told of", () => {
    const tally = received([event({ id: "1", type: "game.created", version: 1, due: null }), due])
    tally.receive(event({ id: "2", version: 3 }), due)
    assert.deepStrictEqual(tally.missingVersions("a game", 1, 4), [2, 4])
    assert.deepStrictEqual(tally.missingVersions("another", 1, 1), [1])
    assert.isTrue(tally.hasTransition("a game", "IN_PROGRESS"))
    assert.isFalse(tally.hasTransition("a game", "COMPLETED"))
  })

  it("counts offences anew after each beginning, and forgets no game", () => {
    const tally = received([event({ id: "1" }), due], [event({ id: "2" }), due])
    tally.begin()
    assert.strictEqual(tally.offences.twice, 0)
    tally.receive(event({ id: "3" }), due)
    assert.strictEqual(tally.offences.twice, 1)
  })
})
