/** Quantiles and medians; none of them invents a value that was not measured, except the median of an even count. */

const sorted = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)

/** The smallest value that at least this share of all values does not exceed. */
export const quantile = (values: ReadonlyArray<number>, share: number): number =>
  sorted(values)[Math.max(0, Math.ceil(values.length * share) - 1)] ?? Number.NaN

export const median = (values: ReadonlyArray<number>): number => {
  const ascending = sorted(values)
  const middle = ascending.length / 2
  return Number.isInteger(middle)
    ? ((ascending[middle - 1] ?? Number.NaN) + (ascending[middle] ?? Number.NaN)) / 2
    : (ascending[Math.floor(middle)] ?? Number.NaN)
}

/** Element by element, the median of rows of equal length. */
export const medians = (rows: ReadonlyArray<ReadonlyArray<number>>): ReadonlyArray<number> =>
  (rows[0] ?? []).map((_, column) => median(rows.map((row) => row[column] ?? Number.NaN)))

/** Element by element, `a / b`. */
export const ratios = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): ReadonlyArray<number> =>
  a.map((value, column) => value / (b[column] ?? Number.NaN))

/** What is reported of lateness and durations, in the order of {@link quantileColumns}. */
export const quantileColumns = ["p50", "p95", "p99", "p99.9", "max"]

export const quantiles = (values: ReadonlyArray<number>): ReadonlyArray<number> => {
  const ascending = sorted(values)
  return [0.5, 0.95, 0.99, 0.999, 1].map(
    (share) => ascending[Math.max(0, Math.ceil(ascending.length * share) - 1)] ?? Number.NaN
  )
}
