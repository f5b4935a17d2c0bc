import { assert, describe, it } from "@effect/vitest"
import { add, type Histogram, parseHistogram, quantileOf, subtract } from "../../bench/histogram.ts"
import { median, medians, quantile, quantiles, ratios } from "../../bench/statistics.ts"

const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1)

describe("quantiles", () => {
  it("are values that were measured", () => {
    assert.deepStrictEqual(quantiles(upTo(1000).toReversed()), [500, 950, 990, 999, 1000])
    assert.strictEqual(quantile(upTo(10), 0.95), 10)
    assert.strictEqual(quantile(upTo(10), 0), 1)
  })

  it("of few values are their greatest, not beyond it", () => {
    assert.deepStrictEqual(quantiles([7]), [7, 7, 7, 7, 7])
    assert.strictEqual(quantile([3, 1, 2], 0.999), 3)
  })

  it("of nothing are no number", () => {
    assert.isTrue(quantiles([]).every(Number.isNaN))
    assert.isNaN(quantile([], 0.5))
    assert.isNaN(median([]))
  })

  it("leave the values in their order", () => {
    const values = [3, 1, 2]
    quantiles(values)
    assert.deepStrictEqual(values, [3, 1, 2])
  })
})

describe("medians", () => {
  it("sort by size and not as text", () => {
    assert.strictEqual(median([100, 9, 80]), 80)
  })

  it("lie between the middle two of an even count", () => {
    assert.strictEqual(median([1, 2, 4, 100]), 3)
  })

  it("are taken column by column", () => {
    assert.deepStrictEqual(
      medians([
        [1, 30],
        [3, 10],
        [2, 20]
      ]),
      [2, 20]
    )
  })
})

describe("ratios", () => {
  it("have the first row above the second", () => {
    assert.deepStrictEqual(ratios([1, 30], [2, 10]), [0.5, 3])
  })

  it("against nothing are no number", () => {
    assert.isNaN(ratios([1], [])[0])
  })
})

describe("histograms", () => {
  const text = (counts: readonly [number, number, number]) => `
# TYPE kickoff_lateness_committed_seconds histogram
kickoff_lateness_committed_seconds_bucket{kind="status-transition",le="0.001"} ${counts[0]}
kickoff_lateness_committed_seconds_bucket{kind="status-transition",le="0.01"} ${counts[1]}
kickoff_lateness_committed_seconds_bucket{kind="status-transition",le="+Inf"} ${counts[2]}
kickoff_lateness_committed_seconds_sum{kind="status-transition"} 1
kickoff_lateness_confirmed_seconds_bucket{type="game.started",le="0.001"} 5
`
  const name = "kickoff_lateness_committed_seconds"

  it("are read by their name alone, and those of several labels are added up", () => {
    const other = text([1, 2, 3]).replaceAll("status-transition", "notification")
    const read = parseHistogram(text([10, 20, 30]) + other, name)
    assert.deepStrictEqual(read, [
      [0.001, 11],
      [0.01, 22],
      [Number.POSITIVE_INFINITY, 33]
    ])
    assert.deepStrictEqual(parseHistogram("", name), [])
  })

  it("of a time are the difference of two scrapes, also where the first showed nothing yet", () => {
    const before = parseHistogram(text([1, 1, 1]), name)
    const after = parseHistogram(text([1, 5, 6]), name)
    assert.deepStrictEqual(
      subtract(after, before).map(([, count]) => count),
      [0, 4, 5]
    )
    assert.deepStrictEqual(subtract(after, []), after)
  })

  it("of several processes are added up", () => {
    const one = parseHistogram(text([1, 2, 3]), name)
    assert.deepStrictEqual(
      add([one, one]).map(([, count]) => count),
      [2, 4, 6]
    )
    assert.deepStrictEqual(add([]), [])
  })

  it("have quantiles within the bucket that holds them", () => {
    const histogram: Histogram = [
      [1, 0],
      [2, 100],
      [Number.POSITIVE_INFINITY, 110]
    ]
    assert.strictEqual(quantileOf(histogram, 0.5), 1.55)
    assert.strictEqual(quantileOf(histogram, 1), 2)
    assert.isNaN(quantileOf([], 0.5))
  })
})
