import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { canBecome, GameStatus, isFinal } from "../../src/domain/GameStatus.ts"

/** The state machine as other systems know it. */
const contract: ReadonlyArray<readonly [from: GameStatus, to: GameStatus]> = [
  ["SCHEDULED", "IN_PROGRESS"],
  ["SCHEDULED", "CANCELLED"],
  ["IN_PROGRESS", "COMPLETED"],
  ["IN_PROGRESS", "CANCELLED"]
]

const statuses = GameStatus.literals

describe("a game's status", () => {
  it("has four values, of which a completed and a cancelled game keep theirs", () => {
    assert.sameMembers([...statuses], ["SCHEDULED", "IN_PROGRESS", "COMPLETED", "CANCELLED"])
    assert.sameMembers(statuses.filter(isFinal), ["COMPLETED", "CANCELLED"])
  })

  for (const from of statuses) {
    for (const to of statuses) {
      const allowed = contract.some((pair) => pair[0] === from && pair[1] === to)
      it(`${allowed ? "may" : "may not"} go from ${from} to ${to}`, () => {
        assert.strictEqual(canBecome(from, to), allowed)
      })
    }
  }

  it.prop("is final exactly when nothing follows it", [GameStatus], ([status]) => {
    assert.strictEqual(
      isFinal(status),
      statuses.every((next) => !canBecome(status, next))
    )
  })

  it.prop(
    "is final after two changes at most, whatever is asked of it",
    [GameStatus, Schema.Array(GameStatus)],
    ([start, wishes]) => {
      const walked: Array<GameStatus> = [start]
      for (const wish of wishes) {
        const now = walked.at(-1) ?? start
        if (canBecome(now, wish)) walked.push(wish)
      }
      assert.isAtMost(walked.length, 3)
      assert.strictEqual(new Set(walked).size, walked.length, "no status comes back")
      if (walked.length === 3) assert.isTrue(isFinal(walked[2] ?? start))
    }
  )

  it.effect("is spelled in capitals only", () =>
    Effect.gen(function* () {
      for (const text of ["scheduled", "In_Progress", "DONE", "", " SCHEDULED"]) {
        const error = yield* Effect.flip(Schema.decodeUnknownEffect(GameStatus)(text))
        assert.include(error.message, "SCHEDULED")
      }
    })
  )
})
