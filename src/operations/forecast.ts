/** The peaks and the course of what is planned, from its minutes. */
import type { PlannedMinute } from "./ForecastRepository.ts"

/** A stretch of time, one bar of the chart. */
export interface Bar {
  /** ms since 1970 */
  readonly from: number
  readonly count: number
  /** Most in one minute of it. */
  readonly busiest: number
}

const minute = 60_000

export const totalOf = ({ completions, reminders, starts }: PlannedMinute): number => starts + completions + reminders

/** The busiest minutes, the busiest first. */
export const peaks = (minutes: ReadonlyArray<PlannedMinute>, count: number): ReadonlyArray<PlannedMinute> =>
  minutes.toSorted((a, b) => totalOf(b) - totalOf(a) || a.at - b.at).slice(0, count)

/** How many minutes a bar covers, so that there are no more bars than lines on a screen. */
export const barMinutes = (hours: number): number =>
  [1, 5, 10, 15, 30, 60, 120, 240, 480].find((length) => (hours * 60) / length <= 36) ?? 1440

/** The time from the minute of `now` on, in bars of so many minutes, those without anything included. */
export const toBars = (
  minutes: ReadonlyArray<PlannedMinute>,
  options: { readonly now: number; readonly hours: number; readonly length: number }
): ReadonlyArray<Bar> => {
  const width = options.length * minute
  const first = Math.floor(options.now / minute) * minute
  return Array.from({ length: Math.ceil((options.hours * 60) / options.length) }, (_, n) => {
    const from = first + n * width
    const totals = minutes.filter(({ at }) => at >= from && at < from + width).map(totalOf)
    return { from, count: totals.reduce((sum, total) => sum + total, 0), busiest: Math.max(0, ...totals) }
  })
}
