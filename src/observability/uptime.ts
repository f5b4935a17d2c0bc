/**
 * A clock for how long things take. The machine's own is set by hand, by NTP and after a suspend, and jumps then: a loop
 * that measures by it falls silent for hours, or seems to have.
 */
import { Clock, Effect } from "effect"

/** Whole milliseconds since some moment; only differences mean something. */
export const uptimeMillis: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) =>
  Math.round(Number(nanos) / 1e6)
)
