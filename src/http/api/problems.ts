/**
 * What clients get instead of an answer: RFC 9457 problems, `application/problem+json`.
 *
 * Each carries a `type` of its own where a client may want to react to it; `detail` is for people.
 */
import { Schema } from "effect"
import { HttpApiError } from "effect/http-api"

/** One thing that is wrong with a request. */
export const InvalidField = Schema.Struct({
  path: Schema.String.annotate({
    description:
      "Member of the body, query or path, or name of the header; nested ones with dots, like `reminder_minutes.0`. Empty for the body as a whole."
  }),
  message: Schema.String
}).annotate({ identifier: "InvalidField" })
export type InvalidField = typeof InvalidField.Type

const type = <const T extends string>(name: T) => `urn:kickoff:problem:${name}` as const

/** The request cannot be read, or says something that is not allowed; `errors` names every place. */
export class InvalidRequest extends HttpApiError.Problem<InvalidRequest>()(
  "InvalidRequest",
  { type: type("invalid-request"), status: 400, title: "Invalid request" },
  { errors: Schema.Array(InvalidField) }
) {}

export class GameNotFoundProblem extends HttpApiError.Problem<GameNotFoundProblem>()("GameNotFoundProblem", {
  type: type("game-not-found"),
  status: 404,
  title: "Game not found"
}) {}

export class IllegalTransitionProblem extends HttpApiError.Problem<IllegalTransitionProblem>()(
  "IllegalTransitionProblem",
  { type: type("illegal-transition"), status: 409, title: "Illegal transition" }
) {}

export class GameNotEditableProblem extends HttpApiError.Problem<GameNotEditableProblem>()("GameNotEditableProblem", {
  type: type("game-not-editable"),
  status: 409,
  title: "Field cannot be changed"
}) {}

export class IdempotencyConflictProblem extends HttpApiError.Problem<IdempotencyConflictProblem>()(
  "IdempotencyConflictProblem",
  { type: type("idempotency-conflict"), status: 409, title: "Idempotency-Key was used before" }
) {}

export class VersionMismatchProblem extends HttpApiError.Problem<VersionMismatchProblem>()("VersionMismatchProblem", {
  type: type("version-mismatch"),
  status: 412,
  title: "Version mismatch"
}) {}

export class DeadLetterNotFoundProblem extends HttpApiError.Problem<DeadLetterNotFoundProblem>()(
  "DeadLetterNotFoundProblem",
  { type: type("dead-letter-not-found"), status: 404, title: "Dead letter not found" }
) {}

export class DeadLetterResolvedProblem extends HttpApiError.Problem<DeadLetterResolvedProblem>()(
  "DeadLetterResolvedProblem",
  { type: type("dead-letter-resolved"), status: 409, title: "Dead letter was resolved already" }
) {}

/** The database is away, or somebody holds a lock for too long; comes with `Retry-After`. */
export class DatabaseUnavailable extends HttpApiError.Problem<DatabaseUnavailable>()("DatabaseUnavailable", {
  type: type("database-unavailable"),
  status: 503,
  title: "Database unavailable"
}) {}
