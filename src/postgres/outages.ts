/**
 * Waits out what is not the work's own fault: a server that is away, restarting, or in the way for a moment.
 *
 * An outage is logged when it begins and when it ends, however often the work was tried in between. It begins with the
 * second failure in a row: the first query after a server came back may fail on a stale connection. It is logged once
 * more where it turns out that somebody must act.
 */
import { Duration, Effect, Metric, Schedule } from "effect"
import { SqlError } from "effect/sql"
import type { Loop } from "../observability/Health.ts"
import * as Metrics from "../observability/Metrics.ts"
import { uptimeMillis } from "../observability/uptime.ts"
import { describeSqlError, isLoginRefused } from "./Database.ts"

/** Doubling from 50 ms to 2 s, with jitter, for ever. */
export const reconnecting = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered
)

/** What an outage can be made of. */
export interface Failure {
  readonly _tag: string
  readonly message: string
}

export interface Outages {
  /** Notes a failure; says so when it is the second in a row. */
  readonly failed: (error: Failure) => Effect.Effect<void>
  /** Notes that the work goes on; says so when its failure was said. */
  readonly succeeded: Effect.Effect<void>
  /** Tries a step until it succeeds: at once, then with backoff. */
  readonly waitOut: <A, E extends Failure, R>(step: Effect.Effect<A, E, R>) => Effect.Effect<A, never, R>
}

/** The outages of one loop. The loop is alive all the while: waiting for a server is what it should do. */
export const makeOutages = (loop: Loop, beat: Effect.Effect<void>): Outages => {
  let since: number | undefined
  let said: "nothing" | "interrupted" | "refused" = "nothing"

  const failed = Effect.fnUntraced(function* (error: Failure) {
    yield* beat
    yield* Metric.update(Metric.withAttributes(Metrics.loopErrors, { loop, error: tagOf(error) }), 1)
    if (since === undefined) {
      since = yield* uptimeMillis
      return
    }
    const refused = SqlError.isSqlError(error) && isLoginRefused(error)
    if (said === "refused" || (said === "interrupted" && !refused)) return
    said = refused ? "refused" : "interrupted"
    const log = refused ? Effect.logError : Effect.logWarning
    yield* log(`${loop} is interrupted and tries until it succeeds: ${describeFailure(error)}`)
  })

  const succeeded = Effect.gen(function* () {
    if (since === undefined) return
    const lasted = Duration.millis((yield* uptimeMillis) - since)
    since = undefined
    if (said === "nothing") return
    said = "nothing"
    yield* Effect.logInfo(`${loop} goes on after ${Duration.format(lasted)}`)
  })

  return {
    failed,
    succeeded,
    waitOut: (step) =>
      step.pipe(
        Effect.tapError(failed),
        Effect.retry(Schedule.concat(Schedule.recurs(1), reconnecting)),
        Effect.tap(() => succeeded),
        // The schedule never ends, so a failure cannot get here; the types do not know it.
        Effect.orDie
      )
  }
}

const describeFailure = (error: Failure): string =>
  SqlError.isSqlError(error) ? describeSqlError(error) : error.message

/** The tag of a failure, for metrics and dead letters: the database's reason, or the error's own tag. */
export const tagOf = (error: { readonly _tag: string }): string =>
  SqlError.isSqlError(error) ? error.reason._tag : error._tag
