/**
 * Turns what a schema has to say of a request into an `InvalidRequest` problem that names every bad field, and refuses
 * what would be read as something else than was sent: a body that is not in UTF-8, two headers that are joined to one.
 *
 * An answer that does not fit its own schema is our fault, not the client's, and stays a defect.
 */
import { Effect, Layer, SchemaIssue, type Types } from "effect"
import { type Headers, HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiError } from "effect/http-api"
import { isUtf8 } from "node:buffer"
import { IncomingMessage } from "node:http"
import { hideKeys } from "../../observability/secrets.ts"
import { InvalidRequest, type InvalidField } from "../api/problems.ts"
import { RequestValidation } from "../api/RequestValidation.ts"

const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) =>
    issue._tag === "UnexpectedKey"
      ? "This member does not exist or cannot be set"
      : issue._tag === "MissingKey"
        ? "This member is required"
        : SchemaIssue.defaultLeafHook(issue)
})

/** Most problems that one answer tells of. */
const mostErrors = 50

/** The body is none of those that the route takes, of which nothing can be said but what all of them are. */
const isNoBody = (issue: SchemaIssue.Issue): boolean => issue._tag === "AnyOf" && issue.issues.length === 0

const toFields = (issue: SchemaIssue.Issue): ReadonlyArray<InvalidField> =>
  isNoBody(issue) ? [{ path: "", message: "Expected a JSON object as the body, at least {}" }] : fieldsOf(issue)

const fieldsOf = (issue: SchemaIssue.Issue): ReadonlyArray<InvalidField> =>
  format(issue)
    .issues.slice(0, mostErrors)
    .map(({ message, path = [] }) => ({
      path: hideKeys(
        path.map((segment) => String(typeof segment === "object" ? segment.key : segment).slice(0, 100)).join(".")
      ),
      message: hideKeys(message)
    }))

/** One problem that says what is wrong in these places. */
const invalid = (errors: ReadonlyArray<InvalidField>) =>
  new InvalidRequest({
    detail: errors
      .map(({ message, path }) => (path === "" ? message : `${path}: ${message}`))
      .join("; ")
      .slice(0, 1000),
    errors
  })

const refuse = (error: HttpApiError.HttpApiSchemaError): Effect.Effect<never, InvalidRequest> =>
  error.kind === "Body" || error.kind === "ResponseHeaders"
    ? Effect.die(error.cause)
    : Effect.fail(invalid(toFields(error.cause.issue)))

/** Whether the head says nothing of the body but that its bytes are UTF-8 as they come. */
const isPlain = (headers: Headers.Headers): boolean =>
  (headers["content-encoding"] ?? "identity").toLowerCase() === "identity" &&
  !/;\s*charset\s*=(?!\s*"?utf-?8"?\s*(?:;|$))/i.test(headers["content-type"] ?? "")

/** The server joins headers of one name by a comma, which may stand in a key as well. */
const repeatsKey = ({ headers, source }: HttpServerRequest.HttpServerRequest): boolean =>
  headers["idempotency-key"]?.includes(",") === true &&
  source instanceof IncomingMessage &&
  (source.headersDistinct["idempotency-key"]?.length ?? 0) > 1

export const layer = Layer.succeed(RequestValidation, (handler, { endpoint }) => {
  const decoded = handler.pipe(
    Effect.catch((error): Effect.Effect<never, InvalidRequest | Types.unhandled> =>
      HttpApiError.HttpApiSchemaError.is(error) ? refuse(error) : Effect.fail(error)
    )
  )
  if (endpoint.payload.size === 0) return decoded
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    if (repeatsKey(request)) {
      return Effect.fail(invalid([{ path: "idempotency-key", message: "Expected this header once" }]))
    }
    if (!isPlain(request.headers)) return Effect.succeed(HttpServerResponse.empty({ status: 415 }))
    // It is read once; what is too large is for the edge to say.
    return Effect.flatMap(Effect.orDie(request.arrayBuffer), (bytes) =>
      isUtf8(bytes) ? decoded : Effect.fail(invalid([{ path: "", message: "Expected a body in UTF-8" }]))
    )
  })
})
