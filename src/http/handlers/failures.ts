/** What the core's failures are to a client of the API. */
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import type { DeadLetterNotFound, DeadLetterResolved, DeadLetterUnusable } from "../../deadLetters/DeadLetters.ts"
import type {
  EndTooLate,
  GameNotEditable,
  GameNotFound,
  GuildForbidden,
  IdempotencyConflict,
  IllegalTransition,
  VersionMismatch
} from "../../games/errors.ts"
import { uptimeMillis } from "../../observability/uptime.ts"
import type { PauseForbidden } from "../../operations/Pauses.ts"
import { describeSqlError } from "../../postgres/Database.ts"
import { classify } from "../../postgres/failures.ts"
import {
  DatabaseUnavailable,
  DeadLetterNotFoundProblem,
  DeadLetterResolvedProblem,
  DeadLetterUnusableProblem,
  Forbidden,
  GameNotEditableProblem,
  GameNotFoundProblem,
  IdempotencyConflictProblem,
  IllegalTransitionProblem,
  InvalidRequest,
  VersionMismatchProblem
} from "../api/problems.ts"

/** While the database is away every request fails; one line in ten seconds is enough to say so. */
const quietMillis = 10_000

/**
 * The problem that a failure of the database is. Its own words may tell of addresses and tables, so they go to the log
 * and not to the client.
 */
const makeSqlFailure = () => {
  let quietUntil = 0
  const warn = Effect.fnUntraced(function* (error: SqlError.SqlError) {
    const now = yield* uptimeMillis
    if (now < quietUntil) return
    quietUntil = now + quietMillis
    yield* Effect.logWarning(`Requests fail for the database: ${describeSqlError(error)}`)
  })
  return (error: SqlError.SqlError): Effect.Effect<never, DatabaseUnavailable> => {
    const failure = classify(error)
    // Everything a client can say was checked before, so the statement itself is wrong.
    if (failure === "row") return Effect.die(error)
    if (failure === "passing") {
      return Effect.fail(new DatabaseUnavailable({ detail: "Somebody else holds the game; try again" }))
    }
    return Effect.andThen(
      warn(error),
      Effect.fail(new DatabaseUnavailable({ detail: "The database cannot serve this now; try again" }))
    )
  }
}

/** One problem for each typed error of the use cases. */
export const makeToProblem = () => ({
  GameNotFound: (error: GameNotFound) => Effect.fail(new GameNotFoundProblem({ detail: error.message })),
  GuildForbidden: (error: GuildForbidden) => Effect.fail(new Forbidden({ detail: error.message })),
  EndTooLate: ({ message }: EndTooLate) => {
    const path = "scheduled_at"
    return Effect.fail(new InvalidRequest({ detail: `${path}: ${message}`, errors: [{ path, message }] }))
  },
  IllegalTransition: (error: IllegalTransition) => Effect.fail(new IllegalTransitionProblem({ detail: error.message })),
  GameNotEditable: (error: GameNotEditable) => Effect.fail(new GameNotEditableProblem({ detail: error.message })),
  VersionMismatch: (error: VersionMismatch) => Effect.fail(new VersionMismatchProblem({ detail: error.message })),
  IdempotencyConflict: (error: IdempotencyConflict) =>
    Effect.fail(new IdempotencyConflictProblem({ detail: error.message })),
  DeadLetterNotFound: (error: DeadLetterNotFound) =>
    Effect.fail(new DeadLetterNotFoundProblem({ detail: error.message })),
  DeadLetterResolved: (error: DeadLetterResolved) =>
    Effect.fail(new DeadLetterResolvedProblem({ detail: error.message })),
  DeadLetterUnusable: ({ id }: DeadLetterUnusable) =>
    Effect.fail(
      new DeadLetterUnusableProblem({
        detail: `The database refuses to put the event of dead letter ${id} back into the outbox; it stays as it is`
      })
    ),
  PauseForbidden: (error: PauseForbidden) => Effect.fail(new Forbidden({ detail: error.message })),
  SqlError: makeSqlFailure()
})
