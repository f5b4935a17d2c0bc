/** Translates requests on games to use cases and back. */
import { Duration, Effect, Layer, Option, Schema } from "effect"
import { HttpApiBuilder, HttpApiSchema } from "effect/http-api"
import { Caller } from "../../domain/Caller.ts"
import type { Game } from "../../domain/Game.ts"
import { Games } from "../../games/Games.ts"
import { Database } from "../../postgres/Database.ts"
import { Api } from "../api/Api.ts"
import { Cursor } from "../api/cursor.ts"
import { toEntityTag, toVersions } from "../api/entityTag.ts"
import * as Authentication from "./authentication.ts"
import { makeToProblem } from "./failures.ts"
import * as RequestValidation from "./requestValidation.ts"
import * as Writing from "./writing.ts"

/** Longest that a request may wait for a database that does not answer. */
const patience = Duration.seconds(15)

const defaultLimit = 50

const tagged = (game: Game) => HttpApiSchema.withHeaders({ body: game, headers: { etag: toEntityTag(game.version) } })

const encodeCursor = Schema.encodeEffect(Cursor)

/**
 * An idempotency key as it is kept: each client has its own, so that none can ask for another's game by a guess. The
 * separator cannot stand in a key that a client says.
 */
const ownKey = Effect.fnUntraced(function* (key: string | undefined) {
  const caller = yield* Caller
  return key === undefined || caller === Caller.anybody ? key : `${caller.name}\u001f${key}`
})

export const layer = HttpApiBuilder.group(
  Api,
  "games",
  Effect.fn(function* (handlers) {
    const games = yield* Games
    const database = yield* Database
    const {
      EndTooLate,
      GameNotEditable,
      GameNotFound,
      GuildForbidden,
      IdempotencyConflict,
      IllegalTransition,
      SqlError,
      VersionMismatch
    } = makeToProblem()
    const change = { GameNotFound, VersionMismatch, IllegalTransition, GameNotEditable, SqlError }

    return handlers.handleAll({
      create: ({ headers, payload }) =>
        Effect.flatMap(ownKey(headers["idempotency-key"]), (key) => games.create(payload, key)).pipe(
          Effect.map((game) =>
            HttpApiSchema.withHeaders({
              body: game,
              headers: { etag: toEntityTag(game.version), location: `/v1/games/${game.id}` }
            })
          ),
          Effect.catchTags({ EndTooLate, GuildForbidden, IdempotencyConflict, SqlError }),
          database.within(patience)
        ),

      list: ({ query: { cursor, limit, ...filter } }) =>
        games.list({ ...filter, after: cursor, limit: limit ?? defaultLimit }).pipe(
          Effect.flatMap((page) =>
            Effect.map(
              Option.match(page.next, {
                onNone: () => Effect.succeed(null),
                onSome: (position) => Effect.orDie(encodeCursor(position))
              }),
              (next_cursor) => ({ games: page.games, next_cursor })
            )
          ),
          Effect.catchTags({ SqlError }),
          database.within(patience)
        ),

      get: ({ params }) =>
        games
          .get(params.id)
          .pipe(Effect.map(tagged), Effect.catchTags({ GameNotFound, SqlError }), database.within(patience)),

      edit: ({ headers, params, payload }) =>
        games
          .edit(params.id, payload, toVersions(headers["if-match"]))
          .pipe(
            Effect.map(tagged),
            Effect.catchTags({ ...change, EndTooLate, GuildForbidden }),
            database.within(patience)
          ),

      cancel: ({ headers, params }) =>
        games
          .cancel(params.id, toVersions(headers["if-match"]))
          .pipe(Effect.map(tagged), Effect.catchTags(change), database.within(patience)),

      remove: ({ headers, params }) =>
        games
          .remove(params.id, toVersions(headers["if-match"]))
          .pipe(Effect.catchTags({ GameNotFound, VersionMismatch, SqlError }), database.within(patience)),

      schedule: ({ params }) =>
        games.schedule(params.id).pipe(Effect.catchTags({ GameNotFound, SqlError }), database.within(patience))
    })
  })
).pipe(Layer.provide(RequestValidation.layer), Layer.provide(Authentication.layer), Layer.provide(Writing.layer))
