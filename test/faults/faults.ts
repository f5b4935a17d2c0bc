/**
 * The faults. Each is injected while the replicas work, and answers when it was over: for something that was killed that
 * is the moment of the kill, because from then on the others are to do its work.
 */
import { Effect, Schedule, type Scope } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { acceptGames, refuseGames, startsOf } from "../support/refuse.ts"
import type { Dice } from "./Dice.ts"
import { FaultError } from "./FaultError.ts"
import type { Replica } from "./Site.ts"
import { Site } from "./Site.ts"

/** What became of an injected fault. */
export interface Injected {
  /** When it was over, milliseconds since 1970. */
  readonly over: number
  /** Puts back what the fault has broken; it is no part of the recovery. */
  readonly repair?: Effect.Effect<void, FaultError | SqlError.SqlError, SqlClient.SqlClient | Scope.Scope>
  /** Games that this fault made late for longer than itself. */
  readonly excused?: ReadonlySet<string>
}

export interface Fault {
  readonly name: string
  readonly summary: string
  readonly inject: (
    dice: Dice
  ) => Effect.Effect<Injected, FaultError | SqlError.SqlError, Site | SqlClient.SqlClient | Scope.Scope>
}

const now = Effect.sync(() => Date.now())

const over = Effect.map(now, (at): Injected => ({ over: at }))

const ask = <A>(what: string, act: () => Promise<A>) =>
  Effect.tryPromise({ try: act, catch: (error) => new FaultError({ detail: `${what}: ${String(error)}` }) })

const another = Effect.fnUntraced(function* (dice: Dice) {
  const { leader, replicas } = yield* Site
  const first = yield* leader
  const others = replicas.filter((replica) => replica !== first)
  const chosen = dice.draw(others)
  if (chosen === undefined) return yield* new FaultError({ detail: "There is only one replica" })
  return chosen
})

const anyone = Effect.fnUntraced(function* (dice: Dice) {
  const { leader } = yield* Site
  return dice.chance(0.5) ? yield* leader : yield* another(dice)
})

type Choose = (dice: Dice) => Effect.Effect<Replica, FaultError, Site>
const leading: Choose = () => Effect.flatMap(Site, ({ leader }) => leader)

const kill = (choose: Choose) =>
  Effect.fnUntraced(function* (dice: Dice) {
    const replica = yield* choose(dice)
    const at = yield* now
    yield* replica.signal("SIGKILL")
    return { over: at, repair: Effect.andThen(Effect.sleep("2 seconds"), replica.restart) }
  })

const freeze = (choose: Choose) =>
  Effect.fnUntraced(function* (dice: Dice) {
    const replica = yield* choose(dice)
    yield* Effect.acquireUseRelease(
      replica.signal("SIGSTOP"),
      () => Effect.sleep("10 seconds"),
      () => replica.signal("SIGCONT")
    )
    return yield* over
  })

const silence = (choose: Choose, which: "postgres" | "broker") =>
  Effect.fnUntraced(function* (dice: Dice) {
    const proxy = (yield* choose(dice))[which]
    yield* proxy.silence
    yield* Effect.sleep("10 seconds")
    yield* proxy.heal
    return yield* over
  })

const cut = (choose: Choose, which: "postgres" | "broker") =>
  Effect.fnUntraced(function* (dice: Dice) {
    const proxy = (yield* choose(dice))[which]
    for (let n = 0; n < 4; n++) {
      yield* proxy.cut
      yield* Effect.sleep(dice.between(100, 500))
    }
    yield* proxy.cut
    return yield* over
  })

const killBackends = (sql: SqlClient.SqlClient) =>
  sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`

const poisonedGames = 4

const every100ms = Schedule.spaced("100 millis")

export const faults: ReadonlyArray<Fault> = [
  {
    name: "kill-leader",
    summary: "`kill -9` of the replica that relays",
    inject: kill(leading)
  },
  {
    name: "kill-other",
    summary: "`kill -9` of another replica",
    inject: kill(another)
  },
  {
    name: "freeze-leader",
    summary: "SIGSTOP of the replica that relays, for 10 s",
    inject: freeze(leading)
  },
  {
    name: "freeze-other",
    summary: "SIGSTOP of another replica, for 10 s",
    inject: freeze(another)
  },
  {
    name: "kill-sessions",
    summary: "`pg_terminate_backend` on every session, five times within about 2 s",
    inject: Effect.fnUntraced(function* (dice) {
      const sql = yield* SqlClient.SqlClient
      for (let n = 0; n < 5; n++) {
        yield* Effect.retry(killBackends(sql), { times: 3 })
        yield* Effect.sleep(dice.between(200, 600))
      }
      return yield* over
    })
  },
  {
    name: "restart-postgres",
    summary: "PostgreSQL stopped at once (SIGQUIT), down for 2 s, started again",
    inject: Effect.fnUntraced(function* () {
      const { postgres } = yield* Site
      yield* ask("PostgreSQL was not halted", postgres.halt)
      yield* Effect.sleep("2 seconds")
      yield* ask("PostgreSQL did not come back", postgres.resume)
      return yield* over
    })
  },
  {
    name: "idle-transaction",
    summary: "a transaction that holds xmin and locks on every second game that is about to start, idle for 5 s",
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
    name: "no-connections",
    summary: "every session killed and all connections of the server taken by another client for 3 s",
    inject: Effect.fnUntraced(function* () {
      const { connect } = yield* Site
      yield* Effect.scoped(
        Effect.gen(function* () {
          const first = yield* connect
          const greedy = Effect.forever(Effect.andThen(Effect.ignore(connect), Effect.sleep("2 millis")))
          yield* first.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
          )
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
    name: "poison-rows",
    summary:
      "four games whose start always fails (trigger), due among others, until they are dead letters; then replayed",
    inject: Effect.fnUntraced(function* () {
      const sql = yield* SqlClient.SqlClient
      const { replicas } = yield* Site
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
        Effect.repeat({ until: (found) => found.length >= poisonedGames, schedule: every100ms }),
        Effect.timeoutOrElse({
          duration: "20 seconds",
          orElse: () => Effect.fail(new FaultError({ detail: "The poisoned games did not become dead letters" }))
        })
      )
      yield* acceptGames
      const at = yield* now
      const repair = Effect.gen(function* () {
        for (const { id } of yield* letters) {
          const url = replicas[0]?.url() ?? ""
          const response = yield* ask("A dead letter was not replayed", () =>
            fetch(`${url}/v1/dead-letters/${id}/replay`, { method: "POST" })
          )
          const text = yield* ask("A dead letter was not replayed", () => response.text())
          if (!response.ok) yield* new FaultError({ detail: `A dead letter was not replayed: ${text}` })
        }
      })
      return { over: at, repair, excused: new Set(ids) }
    })
  },
  {
    name: "disk-full",
    summary: "every change of a game fails with `disk_full` for 3 s",
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
    inject: Effect.fnUntraced(function* (dice) {
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
    inject: Effect.fnUntraced(function* () {
      const { broker } = yield* Site
      yield* ask("RabbitMQ was not flushed", broker.flush)
      yield* ask("RabbitMQ was not killed", broker.kill)
      yield* Effect.sleep("2 seconds")
      yield* ask("RabbitMQ did not come back", broker.start)
      return yield* over
    })
  },
  {
    name: "memory-alarm",
    summary: "RabbitMQ's memory alarm for 4 s",
    inject: Effect.fnUntraced(function* () {
      const { broker } = yield* Site
      const set = (share: string) =>
        ask("RabbitMQ's watermark was not set", () => broker.ctl("set_vm_memory_high_watermark", share))
      yield* Effect.acquireUseRelease(
        set("0.0000001"),
        () => Effect.sleep("4 seconds"),
        () => Effect.orDie(set("0.4"))
      )
      return yield* over
    })
  },
  {
    name: "silent-postgres",
    summary: "nothing passes between the replica that relays and PostgreSQL for 10 s, connections stay open",
    inject: silence(leading, "postgres")
  },
  {
    name: "cut-postgres",
    summary: "all connections between a replica and PostgreSQL cut, five times within about 2 s",
    inject: cut(anyone, "postgres")
  },
  {
    name: "silent-broker",
    summary: "nothing passes between the replica that relays and RabbitMQ for 10 s, connections stay open",
    inject: silence(leading, "broker")
  },
  {
    name: "cut-broker",
    summary: "all connections between the replica that relays and RabbitMQ cut, five times within about 2 s",
    inject: cut(leading, "broker")
  }
]
