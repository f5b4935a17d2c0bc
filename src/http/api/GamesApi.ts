/** The routes of games, without their implementation: what goes in, what comes out, what can be wrong. */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Game, GameId, GamePatch, NewGame } from "../../domain/Game.ts"
import { GameStatus } from "../../domain/GameStatus.ts"
import { InstantFromString } from "../../domain/Instant.ts"
import { Reminder } from "../../domain/Reminder.ts"
import { StatusTransition } from "../../domain/StatusTransition.ts"
import { Authentication, NeededScope } from "./Authentication.ts"
import { Cursor } from "./cursor.ts"
import { IfMatch } from "./entityTag.ts"
import { Instant, Limit } from "./fields.ts"
import {
  bodyErrors,
  DatabaseUnavailable,
  edgeErrors,
  GameNotEditableProblem,
  GameNotFoundProblem,
  IdempotencyConflictProblem,
  IllegalTransitionProblem,
  VersionMismatchProblem
} from "./problems.ts"
import { RequestValidation } from "./RequestValidation.ts"
import { Writing } from "./Writing.ts"

/** A game as clients see it. */
export const GameBody = Schema.Struct({
  ...Game.json.fields,
  scheduled_at: Instant,
  created_at: Instant,
  updated_at: Instant
}).annotate({ identifier: "Game" })

const ScheduleBody = Schema.Struct({
  status_transitions: Schema.Array(
    Schema.Struct({
      ...StatusTransition.json.fields,
      transition_time: Instant,
      executed_at: Schema.NullOr(Instant),
      retry_at: Schema.NullOr(Instant),
      created_at: Instant
    }).annotate({ identifier: "StatusTransition" })
  ),
  notifications: Schema.Array(
    Schema.Struct({
      ...Reminder.json.fields,
      notification_time: Instant,
      sent_at: Schema.NullOr(Instant),
      retry_at: Schema.NullOr(Instant),
      created_at: Instant
    }).annotate({ identifier: "Notification" })
  )
}).annotate({ identifier: "Schedule" })

const TaggedGame = HttpApiSchema.WithHeaders(GameBody, { etag: Schema.String })

const CreatedGame = HttpApiSchema.WithHeaders(GameBody.pipe(HttpApiSchema.status(201)), {
  etag: Schema.String,
  location: Schema.String
})

const IdempotencyKey = Schema.String.annotate({
  description:
    "A repeat with the same key and content within 24 hours answers the game that the first one created, as it is by then"
}).pipe(
  Schema.check(
    // No spaces at its ends: HTTP itself takes those away.
    Schema.isPattern(/^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/u, {
      message: "Expected 1 to 255 printable ASCII characters"
    })
  )
)

const path = { id: GameId }
const conditional = { "if-match": Schema.optionalKey(IfMatch) }
const changeErrors = [
  GameNotFoundProblem,
  VersionMismatchProblem,
  IllegalTransitionProblem,
  GameNotEditableProblem,
  DatabaseUnavailable,
  ...edgeErrors
] as const

export class GamesApi extends HttpApiGroup.make("games")
  .add(
    HttpApiEndpoint.post("create", "/games", {
      headers: { "idempotency-key": Schema.optionalKey(IdempotencyKey) },
      payload: NewGame,
      success: CreatedGame,
      error: [IdempotencyConflictProblem, DatabaseUnavailable, ...bodyErrors, ...edgeErrors]
    })
      .annotate(NeededScope, "write")
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Plan a game")
      .annotate(
        OpenApi.Description,
        "`expected_duration_minutes` is 60 and `reminder_minutes` [60, 15] if not given. Reminders whose time has passed " +
          "are left out."
      ),
    HttpApiEndpoint.get("list", "/games", {
      query: {
        guild_id: Schema.optionalKey(NewGame.fields.guild_id),
        status: Schema.optionalKey(GameStatus),
        from: Schema.optionalKey(InstantFromString),
        to: Schema.optionalKey(InstantFromString),
        limit: Schema.optionalKey(Limit),
        cursor: Schema.optionalKey(Cursor)
      },
      success: Schema.Struct({
        games: Schema.Array(GameBody),
        next_cursor: Schema.NullOr(Schema.String)
      }).annotate({ identifier: "GameList" }),
      error: [DatabaseUnavailable, ...edgeErrors]
    })
      .annotate(OpenApi.Summary, "List games in the order of their start")
      .annotate(OpenApi.Description, "`from` is inclusive and `to` exclusive; `next_cursor` is null on the last page."),
    HttpApiEndpoint.get("get", "/games/:id", {
      params: path,
      success: TaggedGame,
      error: [GameNotFoundProblem, DatabaseUnavailable, ...edgeErrors]
    }).annotate(OpenApi.Summary, "Read a game"),
    HttpApiEndpoint.patch("edit", "/games/:id", {
      params: path,
      headers: conditional,
      payload: GamePatch,
      success: TaggedGame,
      error: [...changeErrors, ...bodyErrors]
    })
      .annotate(NeededScope, "write")
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Change a game")
      .annotate(
        OpenApi.Description,
        "`status` goes SCHEDULED → IN_PROGRESS → COMPLETED, or from the first two to CANCELLED. " +
          "`scheduled_at` can be changed while the game is SCHEDULED, duration and reminders until it is final. " +
          "What changes nothing answers the game as it is, without an event and with the same version."
      ),
    HttpApiEndpoint.post("cancel", "/games/:id/cancel", {
      params: path,
      headers: conditional,
      success: TaggedGame,
      error: changeErrors
    })
      .annotate(NeededScope, "write")
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Cancel a game"),
    HttpApiEndpoint.delete("remove", "/games/:id", {
      params: path,
      headers: conditional,
      success: HttpApiSchema.NoContent.annotate({ description: "The game is gone" }),
      error: [GameNotFoundProblem, VersionMismatchProblem, DatabaseUnavailable, ...edgeErrors]
    })
      .annotate(NeededScope, "write")
      .middleware(Writing)
      .annotate(OpenApi.Summary, "Delete a game and its schedule"),
    HttpApiEndpoint.get("schedule", "/games/:id/schedule", {
      params: path,
      success: ScheduleBody,
      error: [GameNotFoundProblem, DatabaseUnavailable, ...edgeErrors]
    }).annotate(OpenApi.Summary, "Read what is planned for a game, and what was done")
  )
  .prefix("/v1")
  .middleware(RequestValidation)
  .middleware(Authentication)
  .annotate(NeededScope, "read")
  .annotate(HttpApi.ParseOptions, { errors: "all", onExcessProperty: "error" })
  .annotate(HttpApi.HeadersParseOptions, { errors: "all" })
  // Answers are our own: a column too many is dropped, not an error.
  .annotate(HttpApi.SuccessParseOptions, {})
  .annotate(OpenApi.Description, "Games and their schedules") {}
