/** Faults of the two servers, and of other clients of PostgreSQL that are in the way. */
import { Clock, Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { acceptGames, refuseGames, startsOf } from "../support/refuse.ts"
import type { Fault, Injected } from "./Fault.ts"
import { attempt, FaultError } from "./FaultError.ts"
import { Site } from "./Site.ts"
import { makeStandby } from "./standby.ts"

const over = Effect.map(Clock.currentTimeMillis, (at): Injected => ({ over: at }))

/** Ends every session but the one that asks for it. */
export const killBackends =
  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"

const poisonedGames = 4

export const serverFaults: ReadonlyArray<Fault> = [
  {
    name: "kill-sessions",
    summary: "`pg_terminate_backend` on every session, five times within about 2 s",
    subject: "postgres",
    inject: Effect.fnUntraced(function* (_replica, dice) {
      const sql = yield* SqlClient.SqlClient
      for (let n = 0; n < 5; n++) {
        yield* Effect.retry(sql.unsafe(killBackends), { times: 3 })
        yield* Effect.sleep(dice.between(200, 600))
      }
      return yield* over
    })
  },
  {
    name: "restart-postgres",
    summary: "PostgreSQL stopped at once (SIGQUIT), down for 2 s, started again",
    subject: "postgres",
    inject: Effect.fnUntraced(function* () {
      const postgres = yield* (yield* Site).postgres
      yield* attempt("PostgreSQL was not halted", postgres.halt)
      yield* Effect.sleep("2 seconds")
      yield* attempt("PostgreSQL did not come back", postgres.resume)
      return yield* over
    })
  },
  {
    name: "promote-standby",
    summary:
      "PostgreSQL stopped at once (SIGQUIT) beside a synchronous standby, which is promoted 1 s later behind its address",
    subject: "postgres",
    inject: Effect.fnUntraced(function* (_replica, dice) {
      const primary = yield* (yield* Site).postgres
      const { promote } = yield* makeStandby
      yield* Effect.sleep(dice.between(1000, 2000))
      const began = yield* Clock.currentTimeMillis
      yield* attempt("PostgreSQL was not halted", primary.halt)
      yield* Effect.sleep("1 second")
      yield* promote
      const injected = yield* over
      yield* attempt("The former PostgreSQL was not cleared away", primary.stop)
      return { began, ...injected }
    })
  },
  {
    name: "no-connections",
    summary: "every session killed and all connections of the server taken by another client for 3 s",
    subject: "postgres",
    inject: Effect.fnUntraced(function* () {
      const { connect } = yield* Site
      yield* Effect.scoped(
        Effect.gen(function* () {
          const first = yield* connect
          const greedy = Effect.forever(Effect.andThen(Effect.ignore(connect), Effect.sleep("2 millis")))
          yield* first.query(killBackends)
          yield* Effect.all(
            Array.from({ length: 6 }, () => greedy),
            { concurrency: "unbounded" }
          ).pipe(Effect.timeoutOption("3 seconds"))
        })
      )
      return yield* over
    })
  },
  {
    name: "idle-transaction",
    summary: "a transaction that holds xmin and locks on every second game that is about to start, idle for 5 s",
    subject: "rows",
    inject: Effect.fnUntraced(function* () {
      const session = yield* (yield* Site).connect
      yield* session.query("BEGIN")
      yield* session.query(`
        SELECT pg_current_xact_id()::text FROM game_sessions
        WHERE status = 'SCHEDULED' AND scheduled_at < now() + interval '8 seconds' AND ascii(right(id::text, 1)) % 2 = 0
        FOR UPDATE SKIP LOCKED`)
      yield* Effect.sleep("5 seconds")
      yield* session.query("COMMIT")
      return yield* over
    })
  },
  {
    name: "exclusive-lock",
    summary: "ACCESS EXCLUSIVE lock on `game_status_schedule` for 3 s",
    subject: "rows",
    inject: Effect.fnUntraced(function* () {
      const session = yield* (yield* Site).connect
      yield* session.query("BEGIN")
      yield* session.query("LOCK TABLE game_status_schedule IN ACCESS EXCLUSIVE MODE")
      yield* Effect.sleep("3 seconds")
      yield* session.query("COMMIT")
      return yield* over
    })
  },
  {
    name: "poison-rows",
    summary:
      "four games whose start always fails (trigger), due among others, until they are dead letters; then replayed",
    subject: "rows",
    inject: Effect.fnUntraced(function* (replica) {
      const sql = yield* SqlClient.SqlClient
      yield* refuseGames({ when: startsOf("poison"), state: "23514" })
      const games = yield* sql<{ readonly id: string }>`
        WITH game AS (
          INSERT INTO game_sessions (guild_id, title, scheduled_at, expected_duration_minutes)
          SELECT 'sql', 'poison', statement_timestamp() + interval '500 milliseconds', 0
          FROM generate_series(1, ${poisonedGames}::int)
          RETURNING id, scheduled_at
        ), transitions AS (
          INSERT INTO game_status_schedule (game_id, target_status, transition_time)
          SELECT id, target, scheduled_at FROM game, unnest(ARRAY['IN_PROGRESS', 'COMPLETED']) AS target
        )
        SELECT id FROM game`
      const ids = games.map(({ id }) => id)
      const letters = sql<{ readonly id: string }>`
        SELECT id FROM dead_letters WHERE game_id = ANY(${ids}::uuid[]) AND resolved_at IS NULL`
      yield* letters.pipe(
        Effect.repeat({ until: (found) => found.length >= poisonedGames, schedule: Schedule.spaced("100 millis") }),
        Effect.timeoutOrElse({
          duration: "20 seconds",
          orElse: () => Effect.fail(new FaultError({ detail: "The poisoned games did not become dead letters" }))
        })
      )
      yield* acceptGames
      const at = yield* Clock.currentTimeMillis
      const repair = Effect.gen(function* () {
        for (const { id } of yield* letters) {
          const text = yield* attempt("A dead letter was not replayed", async () => {
            const response = await fetch(`${replica.url()}/v1/dead-letters/${id}/replay`, { method: "POST" })
            return response.ok ? "" : response.text()
          })
          if (text !== "") yield* new FaultError({ detail: `A dead letter was not replayed: ${text}` })
        }
      })
      return { over: at, repair, excused: new Set(ids) }
    })
  },
  {
    name: "disk-full",
    summary: "every change of a game fails with `disk_full` for 3 s",
    subject: "rows",
    inject: Effect.fnUntraced(function* () {
      yield* refuseGames({ when: "TRUE", state: "53100" })
      yield* Effect.sleep("3 seconds")
      yield* acceptGames
      return yield* over
    })
  },
  {
    name: "deadlocks",
    summary: "transactions that lock schedule row and game in the wrong order, and pairs of games crosswise, for 4 s",
    subject: "rows",
    inject: Effect.fnUntraced(function* (_replica, dice) {
      const { connect } = yield* Site
      // Rows of games that are about to start, in an order that collides with everybody else's.
      const quarrel = Effect.gen(function* () {
        const session = yield* connect
        yield* session.query("SET deadlock_timeout = '100ms'")
        const direction = dice.chance(0.5) ? "ASC" : "DESC"
        const once = Effect.gen(function* () {
          yield* session.query("BEGIN")
          yield* session.query(`
            SELECT id FROM game_status_schedule
            WHERE executed = FALSE AND transition_time < now() + interval '2 seconds'
            ORDER BY id ${direction} LIMIT 20 FOR UPDATE`)
          yield* Effect.sleep(dice.between(5, 50))
          yield* session.query(`
            UPDATE game_sessions SET location = 'elsewhere' WHERE id IN (
              SELECT game_id FROM game_status_schedule
              WHERE executed = FALSE AND transition_time < now() + interval '2 seconds'
              ORDER BY id ${direction} LIMIT 20)`)
          yield* session.query("COMMIT")
        }).pipe(Effect.catch(() => Effect.ignore(session.query("ROLLBACK"))))
        yield* Effect.forever(Effect.andThen(once, Effect.sleep(dice.between(5, 50))))
      }).pipe(Effect.scoped)
      yield* Effect.all([quarrel, quarrel, quarrel, quarrel], { concurrency: "unbounded" }).pipe(
        Effect.timeoutOption("4 seconds")
      )
      return yield* over
    })
  },
  {
    name: "kill-broker",
    summary: "`kill -9` of RabbitMQ, down for 2 s, started again",
    subject: "broker",
    inject: Effect.fnUntraced(function* () {
      const { broker } = yield* Site
      yield* attempt("RabbitMQ was not flushed", broker.flush)
      yield* attempt("RabbitMQ was not killed", broker.kill)
      yield* Effect.sleep("2 seconds")
      yield* attempt("RabbitMQ did not come back", broker.start)
      return yield* over
    })
  },
  {
    name: "memory-alarm",
    summary: "RabbitMQ's memory alarm for 4 s",
    subject: "broker",
    inject: Effect.fnUntraced(function* () {
      const { broker } = yield* Site
      const set = (share: string) =>
        attempt("RabbitMQ's watermark was not set", () => broker.ctl("set_vm_memory_high_watermark", share))
      yield* Effect.acquireUseRelease(
        set("0.0000001"),
        () => Effect.sleep("4 seconds"),
        () => Effect.orDie(set("0.4"))
      )
      return yield* over
    })
  }
]
