/** Translates requests on dead letters to use cases and back. */
import { Duration, Effect, Layer, Option, Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { DeadLetters, type Settled } from "../../deadLetters/DeadLetters.ts"
import { Database } from "../../postgres/Database.ts"
import { Api } from "../api/Api.ts"
import { CreationCursor } from "../api/cursor.ts"
import * as Authentication from "./authentication.ts"
import { makeToProblem } from "./failures.ts"
import * as RequestValidation from "./requestValidation.ts"
import * as Writing from "./writing.ts"

/** Longest that a request may wait for a database that does not answer. */
const patience = Duration.seconds(15)

const defaultLimit = 50

const encodeCursor = Schema.encodeEffect(CreationCursor)

const toBody = ({ letter, superseded_because }: Settled) =>
  Object.assign({ superseded_because: Option.getOrNull(superseded_because) }, letter)

export const layer = HttpApiBuilder.group(
  Api,
  "dead-letters",
  Effect.fn(function* (handlers) {
    const deadLetters = yield* DeadLetters
    const database = yield* Database
    const { DeadLetterNotFound, DeadLetterResolved, DeadLetterUnusable, SqlError } = makeToProblem()

    return handlers.handleAll({
      list: ({ query: { cursor, limit, state, ...filter } }) =>
        deadLetters.list({ ...filter, state: state ?? "open", after: cursor, limit: limit ?? defaultLimit }).pipe(
          Effect.flatMap((page) =>
            Effect.map(
              Option.match(page.next, {
                onNone: () => Effect.succeed(null),
                onSome: (position) => Effect.orDie(encodeCursor(position))
              }),
              (next_cursor) => ({ dead_letters: page.dead_letters, next_cursor })
            )
          ),
          Effect.catchTags({ SqlError }),
          database.within(patience)
        ),

      get: ({ params }) =>
        deadLetters.get(params.id).pipe(Effect.catchTags({ DeadLetterNotFound, SqlError }), database.within(patience)),

      replay: ({ params }) =>
        deadLetters
          .replay(params.id)
          .pipe(
            Effect.map(toBody),
            Effect.catchTags({ DeadLetterNotFound, DeadLetterResolved, DeadLetterUnusable, SqlError }),
            database.within(patience)
          ),

      discard: ({ params }) =>
        deadLetters
          .discard(params.id)
          .pipe(
            Effect.map(toBody),
            Effect.catchTags({ DeadLetterNotFound, DeadLetterResolved, SqlError }),
            database.within(patience)
          )
    })
  })
).pipe(Layer.provide(RequestValidation.layer), Layer.provide(Authentication.layer), Layer.provide(Writing.layer))
