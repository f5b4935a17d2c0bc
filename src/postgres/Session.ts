/**
 * A session with PostgreSQL outside every pool, kept for as long as its owner runs: for LISTEN and for advisory locks.
 *
 * Its socket is ours: when it ends, the socket is destroyed before anything polite is tried, because saying goodbye to a
 * server that is gone never returns. The server keeps watch too, so that a lock is freed when our host vanishes.
 */
import { PgConnection } from "@effect/sql-pg"
import { Clock, Duration, Effect, type Redacted, type Scope } from "effect"
import type { SqlError } from "effect/sql"
import { Replica } from "../observability/Replica.ts"
import { type Failure, type Outages, reconnecting } from "./outages.ts"
import { sessionName } from "./sessionName.ts"
import { makeSockets, readTls, serverKeepalives } from "./sockets.ts"

export interface Session {
  readonly connection: PgConnection.PgConnection
  /** To be said once the session does what it is for: it ends the outage. */
  readonly up: Effect.Effect<void>
  /** Fails an effect that uses the session, by destroying the socket, when it takes longer. */
  readonly within: (limit: Duration.Duration) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** How long to rest after a session that was up, so that one which is killed again and again cannot spin. */
const rest = Duration.millis(50)

/** Frees our locks when this process is frozen: whoever keeps a session uses it every few seconds. */
const idleLimit = { idle_session_timeout: "8000" }

/** Opens a session, serves on it, and does so again whenever it ends. */
export const keepSession = <E extends Failure>(
  options: { readonly url: Redacted.Redacted; readonly name: string; readonly outages: Outages },
  serve: (session: Session) => Effect.Effect<unknown, E | SqlError.SqlError, Scope.Scope>
): Effect.Effect<never> => {
  const once = Effect.suspend(() => {
    const sockets = makeSockets(options.url)
    let wasUp = false
    return Effect.gen(function* () {
      const connection = yield* PgConnection.make({
        url: options.url,
        stream: sockets.open,
        ssl: yield* readTls(options.url),
        connectTimeout: Duration.seconds(3),
        applicationName: sessionName(options.name, yield* Replica),
        startupParameters: { ...serverKeepalives, ...idleLimit }
      })
      return yield* serve({
        connection: yield* connection.pin,
        up: Effect.suspend(() => {
          wasUp = true
          return options.outages.succeeded
        }),
        within: (limit) => (effect) =>
          Effect.acquireUseRelease(
            Effect.sync(() => setTimeout(sockets.destroyAll, Duration.toMillis(limit))),
            () => effect,
            (timer) => Effect.sync(() => clearTimeout(timer))
          )
      })
    }).pipe(
      Effect.ensuring(Effect.sync(sockets.destroyAll)),
      Effect.scoped,
      Effect.tapError(options.outages.failed),
      // A session that was up ends an attempt, so that the next one starts with the shortest pause again.
      Effect.catchIf(
        () => wasUp,
        () => Effect.sleep(rest)
      )
    )
  })
  return Effect.forever(Effect.orDie(Effect.retry(once, reconnecting)))
}

/** Runs an effect on the session every so often, each within its deadline; fails with the session. */
export const heartbeat = <E>(
  session: Session,
  options: { readonly every: Duration.Duration; readonly deadline: Duration.Duration },
  beat: Effect.Effect<unknown, E>,
  report: (roundTrip: Duration.Duration) => Effect.Effect<void>
): Effect.Effect<never, E> =>
  Effect.gen(function* () {
    const began = yield* Clock.monotonicTimeNanos
    yield* session.within(options.deadline)(beat)
    yield* report(Duration.nanos((yield* Clock.monotonicTimeNanos) - began))
    yield* Effect.sleep(options.every)
  }).pipe(Effect.forever)
