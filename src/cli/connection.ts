/**
 * How commands that look at, or repair, a running system reach its database: `DATABASE_URL`, which they require.
 *
 * They do not start the embedded server: the service that owns it has it open.
 */
import { Effect, Option, type Redacted, References } from "effect"
import { SqlError } from "effect/sql"
import * as Logging from "../observability/logging.ts"
import { Database, describeSqlError } from "../postgres/Database.ts"
import { readTls } from "../postgres/sockets.ts"
import { Settings } from "../Settings.ts"
import type { CertificateUnusable } from "../tls/certificates.ts"
import { ShadowRunRepository } from "../shadow/ShadowRunRepository.ts"
import { BadArgument, DatabaseFailed, DatabaseInShadow } from "./failures.ts"

/** Finds out at the start whether the files that a variable's URL names for its encryption can be used. */
export const requireCertificates = (
  name: string,
  url: Option.Option<Redacted.Redacted>,
  read: (url: Redacted.Redacted) => Effect.Effect<unknown, CertificateUnusable>
): Effect.Effect<void, BadArgument> =>
  Option.match(url, {
    onNone: () => Effect.void,
    onSome: (url) =>
      Effect.asVoid(Effect.mapError(read(url), ({ message }) => new BadArgument({ name, detail: message })))
  })

/** Runs an effect on one connection, with logs on standard error, so that standard output is the command's alone. */
export const withDatabase = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { databaseListenUrl, databaseUrl } = yield* Settings
    if (Option.isNone(databaseUrl)) {
      return yield* new BadArgument({
        name: "DATABASE_URL",
        detail:
          "Expected the URL of the service's database, this command starts none of its own; README.md has that of npm start"
      })
    }
    const url = databaseUrl.value
    yield* requireCertificates("DATABASE_URL", databaseUrl, readTls)
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
    Effect.mapError((error) =>
      SqlError.isSqlError(error) ? new DatabaseFailed({ detail: describeSqlError(error) }) : error
    ),
    Effect.provide(Logging.layer),
    Effect.provide(Settings.layer),
    Effect.provideService(References.LogToStderr, true)
  )

/** The same where another system does the work is refused, with these words for the reason and for what to do instead. */
export const withLiveDatabase =
  (because: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    withDatabase(
      Effect.gen(function* () {
        const shadow = yield* Effect.flatMap(ShadowRunRepository, ({ since }) => since).pipe(
          Effect.provide(ShadowRunRepository.layer)
        )
        if (Option.isSome(shadow)) yield* new DatabaseInShadow({ because })
        return yield* effect
      })
    )

/** Like {@link withLiveDatabase}, for what changes something that the other system should find as it is. */
export const withWritableDatabase = withLiveDatabase(
  'another system does the work, and this would change it; "kickoff shadow end" ends that'
)
