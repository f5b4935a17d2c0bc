/** Runs the parts of a scenario so that none of them takes along what the others have found. */
import { Cause, Duration, Effect, Option } from "effect"
import { SqlError } from "effect/sql"
import { describeSqlError } from "../src/postgres/Database.ts"
import { BenchError } from "./BenchError.ts"
import { Progress } from "./Progress.ts"
import { emptyReport, type Options, type Report, type Scenario, withPart } from "./Scenario.ts"

/** Longest time that the preparation of a scenario, or one of its parts, may take. */
const patience = Duration.minutes(15)

/**
 * Runs a scenario; whatever fails of it is a violation in its report, and the rest goes on. `onPart` gets the report as it
 * grows.
 */
export const runScenario = Effect.fnUntraced(function* <E, R, S>(
  scenario: Scenario<S>,
  options: Options,
  onPart: (report: Report) => Effect.Effect<void, E, R>
) {
  let report = emptyReport
  const add = (part: Partial<Report>) => Effect.sync(() => void (report = withPart(report, part)))
  const failed = (what: string, error: unknown) => add({ violations: [`${what} failed: ${describe(error)}`] })
  const attempt = <A, E2, R2>(what: string, effect: Effect.Effect<A, E2, R2>) =>
    effect.pipe(
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => Effect.fail(new BenchError({ detail: `it did not end within ${Duration.format(patience)}` }))
      }),
      Effect.asSome,
      Effect.catchCauseIf(
        (cause) => !Cause.hasInterruptsOnly(cause),
        (cause) => Effect.as(failed(what, Cause.squash(cause)), Option.none<A>())
      )
    )

  yield* Effect.gen(function* () {
    const parts = yield* attempt("the preparation", scenario.prepare(options))
    for (const { name, run } of Option.getOrElse(parts, () => [])) {
      if (options.only !== undefined && !name.includes(options.only)) continue
      // What was found counts also when something cannot be cleaned up afterwards.
      yield* attempt(name, Effect.scoped(Effect.tap(run, add)))
      yield* onPart(report)
    }
  }).pipe(
    Effect.scoped,
    Effect.catchDefect((defect) => failed("the end", defect))
  )
  yield* (yield* Progress).say("")
  return report
})

/** What is wrong, for people. */
export const describe = (error: unknown): string =>
  SqlError.isSqlError(error) ? describeSqlError(error) : error instanceof Error ? error.message : String(error)
