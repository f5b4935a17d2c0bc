/** The clock of a machine that was set wrong, or is set while the test runs. What it measures is not concerned. */
import { Clock, Effect } from "effect"

export interface SkewedClock {
  readonly clock: Clock.Clock
  /** By how many milliseconds the clock is fast; may be changed at any time. */
  skew: number
}

/** Goes like the clock of the test, but for the skew. */
export const makeSkewedClock = (skew: number): Effect.Effect<SkewedClock> =>
  Effect.map(Clock.Clock, (clock) => {
    const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + skewed.skew
    const currentTimeNanosUnsafe = () => clock.currentTimeNanosUnsafe() + BigInt(skewed.skew) * 1_000_000n
    const skewed: SkewedClock = {
      skew,
      clock: {
        currentTimeMillisUnsafe,
        currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
        currentTimeNanosUnsafe,
        currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        sleep: (duration) => clock.sleep(duration)
      }
    }
    return skewed
  })
