/**
 * How commands that look at, or repair, a running system reach its database: `DATABASE_URL`, which they require.
 *
 * They do not start the embedded server: the service that owns it has it open.
 */
import { Effect, Option, References } from "effect"
import * as Logging from "../observability/logging.ts"
import { Database } from "../postgres/Database.ts"
import { Settings } from "../Settings.ts"
import { BadArgument } from "./failures.ts"

/** Runs an effect on one connection, with logs on standard error, so that standard output is the command's alone. */
export const withDatabase = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { databaseListenUrl, databaseUrl } = yield* Settings
    if (Option.isNone(databaseUrl)) {
      return yield* new BadArgument({
        name: "DATABASE_URL",
        detail: "Expected the URL of the service's database, this command starts none of its own"
      })
    }
    const url = databaseUrl.value
    return yield* Effect.andThen(Database.awaitReachable(url), effect).pipe(
      Effect.provide(
        Database.layer({
          url,
          connections: 1,
          name: "command",
          pooler: Option.isSome(databaseListenUrl),
          patient: true
        })
      )
    )
  }).pipe(
    Effect.provide(Logging.layer),
    Effect.provide(Settings.layer),
    Effect.provideService(References.LogToStderr, true)
  )
