/** Translates requests on pauses to use cases and back. */
import { Duration, Effect, Layer } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Pauses } from "../../operations/Pauses.ts"
import { Database } from "../../postgres/Database.ts"
import { Api } from "../api/Api.ts"
import * as Authentication from "./authentication.ts"
import { makeToProblem } from "./failures.ts"
import * as RequestValidation from "./requestValidation.ts"
import * as Writing from "./writing.ts"

/** Longest that a request may wait for a database that does not answer; longer than a pause waits for its turn. */
const patience = Duration.seconds(15)

export const layer = HttpApiBuilder.group(
  Api,
  "pauses",
  Effect.fn(function* (handlers) {
    const pauses = yield* Pauses
    const database = yield* Database
    const { PauseForbidden, SqlError } = makeToProblem()
    const problems = { PauseForbidden, SqlError }

    return handlers.handleAll({
      list: () =>
        pauses.list.pipe(
          Effect.map((open) => ({ pauses: open })),
          Effect.catchTags(problems),
          database.within(patience)
        ),

      pause: ({ params, payload }) =>
        pauses.pause([params.kind], payload.reason ?? null).pipe(
          Effect.flatMap(([opened]) => Effect.orDie(Effect.fromNullishOr(opened?.pause))),
          Effect.catchTags(problems),
          database.within(patience)
        ),

      resume: ({ params }) =>
        pauses.resume([params.kind]).pipe(Effect.asVoid, Effect.catchTags(problems), database.within(patience))
    })
  })
).pipe(Layer.provide(RequestValidation.layer), Layer.provide(Authentication.layer), Layer.provide(Writing.layer))
