/** What the core's failures are to a client of the API. */
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import type {
  GameNotEditable,
  GameNotFound,
  IdempotencyConflict,
  IllegalTransition,
  VersionMismatch
} from "../../games/errors.ts"
import { describeSqlError } from "../../postgres/Database.ts"
import { classify } from "../../postgres/failures.ts"
import {
  DatabaseUnavailable,
  GameNotEditableProblem,
  GameNotFoundProblem,
  IdempotencyConflictProblem,
  IllegalTransitionProblem,
  VersionMismatchProblem
} from "../api/problems.ts"

/** The database's own words may tell of addresses and tables, so they go to the log and not to the client. */
export const sqlFailure = (error: SqlError.SqlError): Effect.Effect<never, DatabaseUnavailable> => {
  const failure = classify(error)
  // Everything a client can say was checked before, so the statement itself is wrong.
  if (failure === "row") return Effect.die(error)
  if (failure === "passing") {
    return Effect.fail(new DatabaseUnavailable({ detail: "Somebody else holds the game; try again" }))
  }
  return Effect.andThen(
    Effect.logWarning(`A request failed for the database: ${describeSqlError(error)}`),
    Effect.fail(new DatabaseUnavailable({ detail: "The database cannot serve this now; try again" }))
  )
}

/** One problem for each typed error of the use cases. */
export const toProblem = {
  GameNotFound: (error: GameNotFound) => Effect.fail(new GameNotFoundProblem({ detail: error.message })),
  IllegalTransition: (error: IllegalTransition) => Effect.fail(new IllegalTransitionProblem({ detail: error.message })),
  GameNotEditable: (error: GameNotEditable) => Effect.fail(new GameNotEditableProblem({ detail: error.message })),
  VersionMismatch: (error: VersionMismatch) => Effect.fail(new VersionMismatchProblem({ detail: error.message })),
  IdempotencyConflict: (error: IdempotencyConflict) =>
    Effect.fail(new IdempotencyConflictProblem({ detail: error.message })),
  SqlError: sqlFailure
}
