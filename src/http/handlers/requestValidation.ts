/**
 * Turns what a schema has to say of a request into an `InvalidRequest` problem that names every bad field.
 *
 * An answer that does not fit its own schema is our fault, not the client's, and stays a defect.
 */
import { Effect, SchemaIssue } from "effect"
import { HttpApiMiddleware } from "effect/http-api"
import { hideKeys } from "../../observability/secrets.ts"
import { InvalidRequest, type InvalidField } from "../api/problems.ts"
import { RequestValidation } from "../api/RequestValidation.ts"

const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) =>
    issue._tag === "UnexpectedKey"
      ? "This member does not exist or cannot be set"
      : issue._tag === "MissingKey"
        ? "This member is required"
        : issue._tag === "InvalidType" && issue.ast._tag === "Objects"
          ? "Expected a JSON object"
          : SchemaIssue.defaultLeafHook(issue)
})

/** Most problems that one answer tells of. */
const mostErrors = 50

const toFields = (issue: SchemaIssue.Issue): ReadonlyArray<InvalidField> =>
  format(issue)
    .issues.slice(0, mostErrors)
    .map(({ message, path = [] }) => ({
      path: hideKeys(
        path.map((segment) => String(typeof segment === "object" ? segment.key : segment).slice(0, 100)).join(".")
      ),
      message: hideKeys(message)
    }))

export const layer = HttpApiMiddleware.layerSchemaErrorTransform(RequestValidation, (error) => {
  if (error.kind === "Body" || error.kind === "ResponseHeaders") return Effect.die(error.cause)
  const errors = toFields(error.cause.issue)
  return Effect.fail(
    new InvalidRequest({
      detail: errors
        .map(({ message, path }) => (path === "" ? message : `${path}: ${message}`))
        .join("; ")
        .slice(0, 1000),
      errors
    })
  )
})
