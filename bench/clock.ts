/**
 * Instants in milliseconds since 1970, with fractions.
 *
 * Due times are the database's, receptions are this process's; the offset between the two clocks is measured before
 * every round, also on one machine, because a monotonic clock drifts from the one that is being adjusted.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"
import { readNumber } from "./sql.ts"

/** This process's clock, which no adjustment moves. */
export const now = (): number => performance.timeOrigin + performance.now()

export interface ClockOffset {
  /** What is to be added to {@link now} to get the database's time, ms. */
  readonly offset: number
  /** The offset is right within this, ms: half of the fastest round trip. */
  readonly uncertainty: number
}

const samples = 50

/** Asks for the database's time again and again; the fastest answer is the most exact one. */
export const measureOffset = Effect.fnUntraced(function* (database: PgConnection.PgConnection) {
  let best: ClockOffset = { offset: 0, uncertainty: Number.POSITIVE_INFINITY }
  for (let sample = 0; sample < samples; sample++) {
    const asked = now()
    const theirs = yield* readNumber(database, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8")
    const answered = now()
    const uncertainty = (answered - asked) / 2
    if (uncertainty < best.uncertainty) best = { offset: theirs - (asked + answered) / 2, uncertainty }
  }
  return best
})
