/** The routes of dead letters, without their implementation: what was given up, and what a person can do about it. */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { DeadLetter, DeadLetterId, DeadLetterKind } from "../../domain/DeadLetter.ts"
import { GameId, NewGame } from "../../domain/Game.ts"
import { InstantFromString } from "../../domain/Instant.ts"
import { Authentication, NeededScope } from "./Authentication.ts"
import { CreationCursor } from "./cursor.ts"
import { Instant, Limit } from "./fields.ts"
import {
  DatabaseUnavailable,
  DeadLetterNotFoundProblem,
  DeadLetterResolvedProblem,
  DeadLetterUnusableProblem,
  edgeErrors
} from "./problems.ts"
import { RequestValidation } from "./RequestValidation.ts"
import { Writing } from "./Writing.ts"

const fields = {
  ...DeadLetter.json.fields,
  due_at: Schema.NullOr(Instant),
  created_at: Instant,
  resolved_at: Schema.NullOr(Instant)
}

/** A dead letter as clients see it. */
export const DeadLetterBody = Schema.Struct(fields).annotate({ identifier: "DeadLetter" })

/** A page of the list. */
export const DeadLetterListBody = Schema.Struct({
  dead_letters: Schema.Array(DeadLetterBody),
  next_cursor: Schema.NullOr(Schema.String)
}).annotate({ identifier: "DeadLetterList" })

/** A dead letter that was just settled. */
export const SettledDeadLetterBody = Schema.Struct({
  ...fields,
  superseded_because: Schema.NullOr(Schema.String).annotate({
    description: "Why there was nothing to replay; null unless `resolution` is `superseded`"
  })
}).annotate({ identifier: "SettledDeadLetter" })

const path = { id: DeadLetterId }
const settlingErrors = [
  DeadLetterNotFoundProblem,
  DeadLetterResolvedProblem,
  DatabaseUnavailable,
  ...edgeErrors
] as const

export class DeadLettersApi extends HttpApiGroup.make("dead-letters")
  .add(
    HttpApiEndpoint.get("list", "/dead-letters", {
      query: {
        state: Schema.optionalKey(
          Schema.Literals(["open", "resolved", "all"]).annotate({ description: "open, resolved or all; default open" })
        ),
        kind: Schema.optionalKey(DeadLetterKind),
        game_id: Schema.optionalKey(GameId),
        guild_id: Schema.optionalKey(NewGame.fields.guild_id),
        from: Schema.optionalKey(InstantFromString),
        to: Schema.optionalKey(InstantFromString),
        limit: Schema.optionalKey(Limit),
        cursor: Schema.optionalKey(CreationCursor)
      },
      success: DeadLetterListBody,
      error: [DatabaseUnavailable, ...edgeErrors]
    })
      .annotate(OpenApi.Summary, "List what was given up, in the order in which it was")
      .annotate(
        OpenApi.Description,
        "`from` (inclusive) and `to` (exclusive) speak of `created_at`; `guild_id` is that of the game, and of a game " +
          "that is gone that of its events; `next_cursor` is null on the last page."
      ),
    HttpApiEndpoint.get("get", "/dead-letters/:id", {
      params: path,
      success: DeadLetterBody,
      error: [DeadLetterNotFoundProblem, DatabaseUnavailable, ...edgeErrors]
    }).annotate(OpenApi.Summary, "Read a dead letter"),
    HttpApiEndpoint.post("replay", "/dead-letters/:id/replay", {
      params: path,
      success: SettledDeadLetterBody,
      error: [...settlingErrors, DeadLetterUnusableProblem]
    })
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Try again what was given up")
      .annotate(
        OpenApi.Description,
        "Answers when the work is planned anew, not when it is done. If it is pointless by now, because the game was " +
          "cancelled or moved, say, nothing is tried and `resolution` is `superseded`. An event keeps its id and gives up " +
          "its place in order."
      ),
    HttpApiEndpoint.post("discard", "/dead-letters/:id/discard", {
      params: path,
      success: SettledDeadLetterBody,
      error: settlingErrors
    })
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Close a dead letter for good")
      .annotate(
        OpenApi.Description,
        "What was given up stays undone: a schedule row stays parked until somebody changes its time, an event stays unpublished."
      )
  )
  .prefix("/v1")
  .middleware(RequestValidation)
  .middleware(Authentication)
  .annotate(NeededScope, "operate")
  .annotate(HttpApi.ParseOptions, { errors: "all", onExcessProperty: "error" })
  .annotate(HttpApi.HeadersParseOptions, { errors: "all" })
  .annotate(HttpApi.SuccessParseOptions, {})
  .annotate(OpenApi.Description, "What failed too often and was given up, until a person replays or discards it") {}
