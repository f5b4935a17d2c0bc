/** The routes of pauses, without their implementation: what an operator stops for a while, and lets go on. */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Pause, PauseReason } from "../../domain/Pause.ts"
import { ScheduleKind } from "../../domain/ScheduleKind.ts"
import { Authentication, NeededScope } from "./Authentication.ts"
import { Instant } from "./fields.ts"
import { bodyErrors, DatabaseUnavailable, edgeErrors } from "./problems.ts"
import { RequestValidation } from "./RequestValidation.ts"
import { Writing } from "./Writing.ts"

/** A pause as clients see it. */
export const PauseBody = Schema.Struct({
  ...Pause.json.fields,
  paused_at: Instant,
  resumed_at: Schema.NullOr(Instant)
}).annotate({ identifier: "Pause" })

const path = { kind: ScheduleKind }

export class PausesApi extends HttpApiGroup.make("pauses")
  .add(
    HttpApiEndpoint.get("list", "/pauses", {
      success: Schema.Struct({ pauses: Schema.Array(PauseBody) }).annotate({ identifier: "PauseList" }),
      error: [DatabaseUnavailable, ...edgeErrors]
    }).annotate(OpenApi.Summary, "List what is paused"),
    HttpApiEndpoint.put("pause", "/pauses/:kind", {
      params: path,
      payload: Schema.Struct({ reason: Schema.optionalKey(Schema.NullOr(PauseReason)) }).annotate({
        identifier: "NewPause"
      }),
      success: PauseBody,
      error: [DatabaseUnavailable, ...bodyErrors, ...edgeErrors]
    })
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Pause a kind of schedule")
      .annotate(
        OpenApi.Description,
        "Nothing of the kind is done any more, in any process, once this has answered; it waits for what is under way. " +
          "What is paused stays so, with who did it first and why."
      ),
    HttpApiEndpoint.delete("resume", "/pauses/:kind", {
      params: path,
      success: HttpApiSchema.NoContent.annotate({ description: "It goes on" }),
      error: [DatabaseUnavailable, ...edgeErrors]
    })
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Let a kind of schedule go on")
      .annotate(
        OpenApi.Description,
        "What is due meanwhile is done at once, earliest first; reminders of games that have begun are skipped. 204 also " +
          "if it was not paused."
      )
  )
  .prefix("/v1")
  .middleware(RequestValidation)
  .middleware(Authentication)
  .annotate(NeededScope, "operate")
  .annotate(HttpApi.ParseOptions, { errors: "all", onExcessProperty: "error" })
  .annotate(HttpApi.HeadersParseOptions, { errors: "all" })
  .annotate(HttpApi.SuccessParseOptions, {})
  .annotate(
    OpenApi.Description,
    "What the clock does not do for a while, by the will of an operator; a key that is limited to guilds is 403 here"
  ) {}
