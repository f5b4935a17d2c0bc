import { assert, describe, it } from "@effect/vitest"
import { Duration, Schema } from "effect"
import { firstPause, longestPause, pauseAfter } from "../../src/domain/RetryPolicy.ts"

const Attempts = Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 })))

describe("the pause after a failed attempt", () => {
  it("doubles from 0.5 s to 30 s", () => {
    assert.deepStrictEqual(
      [1, 2, 3, 4, 5, 6, 7, 8, 9].map((attempts) => Duration.toMillis(pauseAfter(attempts))),
      [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
    )
  })

  it.prop("is never shorter than the first and never longer than the longest", [Attempts], ([attempts]) => {
    assert.isTrue(Duration.between(pauseAfter(attempts), { minimum: firstPause, maximum: longestPause }))
  })

  it.prop("never gets shorter with more attempts", [Attempts, Attempts], ([a, b]) => {
    const [fewer, more] = a < b ? [a, b] : [b, a]
    assert.isTrue(Duration.isLessThanOrEqualTo(pauseAfter(fewer), pauseAfter(more)))
  })
})
