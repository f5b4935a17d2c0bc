import { assert, describe, it } from "@effect/vitest"
import { barMinutes, peaks, toBars, totalOf } from "../../src/operations/forecast.ts"

const minute = 60_000
const now = Date.parse("2026-12-31T19:59:30Z")
const eight = Date.parse("2026-12-31T20:00:00Z")
const planned = [
  { at: Date.parse("2026-12-31T19:59:00Z"), starts: 1, completions: 0, reminders: 0 },
  { at: eight, starts: 40, completions: 2, reminders: 3 },
  { at: eight + 4 * minute, starts: 0, completions: 50, reminders: 0 },
  { at: eight + 59 * minute, starts: 40, completions: 2, reminders: 3 }
]

describe("a forecast", () => {
  it("names the busiest minutes first, the earlier of equals before the later", () => {
    assert.deepStrictEqual(
      peaks(planned, 3).map(({ at }) => at),
      [eight + 4 * minute, eight, eight + 59 * minute]
    )
    assert.strictEqual(totalOf(planned[1] ?? assert.fail()), 45)
  })

  it("has a bar for each stretch of time from the minute of the question on, the empty ones too", () => {
    const bars = toBars(planned, { now, hours: 1, length: 5 })
    assert.lengthOf(bars, 12)
    assert.deepStrictEqual(bars[0], { from: Date.parse("2026-12-31T19:59:00Z"), count: 46, busiest: 45 })
    assert.deepStrictEqual(bars[1], { from: eight + 4 * minute, count: 50, busiest: 50 })
    assert.deepStrictEqual(bars[2]?.count, 0)
    assert.strictEqual(
      bars.reduce((sum, { count }) => sum + count, 0),
      1 + 45 + 50
    )
  })

  it("has no more bars than lines on a screen, whatever its reach", () => {
    for (const hours of [1, 2, 24, 48, 168, 744]) assert.isAtMost((hours * 60) / barMinutes(hours), 36)
    assert.strictEqual(barMinutes(1), 5)
    assert.strictEqual(barMinutes(24), 60)
  })
})
