/** Forgets what is older than `KICKOFF_RETENTION`, in batches small enough that nobody notices. */
import { Duration, Effect, Schedule } from "effect"
import { describeSqlError } from "../postgres/Database.ts"
import { Settings } from "../Settings.ts"
import { LedgerRepository } from "./LedgerRepository.ts"

const every = Duration.minutes(10)

/** Leaves room for others between two batches. */
const rest = Duration.millis(100)

/** Prunes now and then, for as long as the process lives. Several processes that do so share the work. */
export const run: Effect.Effect<never, never, LedgerRepository | Settings> = Effect.gen(function* () {
  const { retention } = yield* Settings
  const ledger = yield* LedgerRepository
  const prune = Effect.gen(function* () {
    while ((yield* ledger.prune(retention)) > 0) yield* Effect.sleep(rest)
  }).pipe(
    Effect.catch((error) =>
      Effect.logWarning(
        `Old records could not be forgotten, the next try is in ${Duration.format(every)}: ${describeSqlError(error)}`
      )
    )
  )
  return yield* Effect.andThen(Effect.repeat(prune, Schedule.spaced(every)), Effect.never)
})
