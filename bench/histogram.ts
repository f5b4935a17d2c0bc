/** Histograms as `/metrics` shows them: what was counted between two scrapes, and the quantiles of it. */

/** How many observations were at most each boundary; the boundaries ascend, the last one is infinite. */
export type Histogram = ReadonlyArray<readonly [boundary: number, count: number]>

/** Reads one histogram of a Prometheus text; those of several label values are added up. */
export const parseHistogram = (text: string, name: string): Histogram => {
  const counts = new Map<number, number>()
  for (const [, labels = "", count] of text.matchAll(new RegExp(`^${name}_bucket\\{([^}]*)\\} (\\S+)`, "gm"))) {
    const boundary = /\ble="([^"]+)"/.exec(labels)?.[1]
    if (boundary === undefined) continue
    const limit = boundary === "+Inf" ? Number.POSITIVE_INFINITY : Number(boundary)
    counts.set(limit, (counts.get(limit) ?? 0) + Number(count))
  }
  return [...counts].toSorted(([a], [b]) => a - b)
}

export const add = (histograms: ReadonlyArray<Histogram>): Histogram => combine(histograms, (a, b) => a + b)

/** What came in between. */
export const subtract = (after: Histogram, before: Histogram): Histogram =>
  before.length === 0 ? after : combine([after, before], (a, b) => a - b)

const combine = (histograms: ReadonlyArray<Histogram>, operation: (a: number, b: number) => number): Histogram =>
  histograms.reduce((left, right) => {
    if (left.length === 0) return right
    const counts = new Map(right)
    return left.map(([boundary, count]) => [boundary, operation(count, counts.get(boundary) ?? 0)] as const)
  }, [])

/** Within a bucket, observations count as spread evenly; beyond the last boundary nothing is known but that boundary. */
export const quantileOf = (histogram: Histogram, share: number): number => {
  const total = histogram.at(-1)?.[1] ?? 0
  if (total === 0) return Number.NaN
  const rank = Math.max(1, Math.ceil(total * share))
  let lower = 0
  let below = 0
  for (const [boundary, count] of histogram) {
    if (count >= rank) {
      return Number.isFinite(boundary) ? lower + ((boundary - lower) * (rank - below)) / (count - below) : lower
    }
    lower = boundary
    below = count
  }
  return lower
}
