/**
 * What clients get instead of an answer: RFC 9457 problems, `application/problem+json`.
 *
 * Each carries a `type` of its own where a client may want to react to it; `detail` is for people.
 */
import { Schema } from "effect"
import { ProblemDetails } from "effect/http"
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

/** No API key, or none that is good; comes with `WWW-Authenticate`. */
export class Unauthorized extends HttpApiError.Problem<Unauthorized>()("Unauthorized", {
  type: type("unauthorized"),
  status: 401,
  title: "API key needed"
}) {}

/** The API key is good, and not for this. */
export class Forbidden extends HttpApiError.Problem<Forbidden>()("Forbidden", {
  type: type("forbidden"),
  status: 403,
  title: "Not allowed"
}) {}

/** The API key is used too often; comes with `Retry-After`. */
export class TooManyRequests extends HttpApiError.Problem<TooManyRequests>()("TooManyRequests", {
  type: type("too-many-requests"),
  status: 429,
  title: "Too many requests"
}) {}

// What the edge answers, here for the description.

/** The head of the request cannot be read, like one without `Host`. */
export class BadRequest extends HttpApiError.Problem<BadRequest>()("BadRequest", {
  type: ProblemDetails.blankType,
  status: 400,
  title: "Bad Request"
}) {}

/** The answer took too long, or the service is shutting down; comes with `Retry-After`. */
export class ServiceUnavailable extends HttpApiError.Problem<ServiceUnavailable>()("ServiceUnavailable", {
  type: ProblemDetails.blankType,
  status: 503,
  title: "Service Unavailable"
}) {}

/** The body is larger than is read. */
export class ContentTooLarge extends HttpApiError.Problem<ContentTooLarge>()("ContentTooLarge", {
  type: ProblemDetails.blankType,
  status: 413,
  title: "Content Too Large"
}) {}

/** The body is of another type. */
export class UnsupportedMediaType extends HttpApiError.Problem<UnsupportedMediaType>()("UnsupportedMediaType", {
  type: ProblemDetails.blankType,
  status: 415,
  title: "Unsupported Media Type"
}) {}

/** This service is a shadow of another system, which does the work: it changes nothing. */
export class InShadow extends HttpApiError.Problem<InShadow>()("InShadow", {
  type: type("in-shadow"),
  status: 409,
  title: "This service is a shadow"
}) {}

/** What every route may answer. */
export const edgeErrors = [BadRequest, ServiceUnavailable] as const

/** What every route that takes a body may answer besides. */
export const bodyErrors = [ContentTooLarge, UnsupportedMediaType] as const

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

export class DeadLetterUnusableProblem extends HttpApiError.Problem<DeadLetterUnusableProblem>()(
  "DeadLetterUnusableProblem",
  { type: type("dead-letter-unusable"), status: 409, title: "Dead letter cannot be replayed" }
) {}

/** The database is away, or somebody holds a lock for too long; comes with `Retry-After`. */
export class DatabaseUnavailable extends HttpApiError.Problem<DatabaseUnavailable>()("DatabaseUnavailable", {
  type: type("database-unavailable"),
  status: 503,
  title: "Database unavailable"
}) {}
