/** What each failure of a real PostgreSQL counts as, and what the engine makes of it. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Metric, Redacted } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { randomUUID } from "node:crypto"
import * as Metrics from "../../src/observability/Metrics.ts"
import { Database, sqlState } from "../../src/postgres/Database.ts"
import { classify, type FailureClass } from "../../src/postgres/failures.ts"
import { run as runLoop } from "../../src/scheduling/DueLoop.ts"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { engine, engineLayer } from "../support/engine.ts"
import { eventually, getTransitions, insertGame } from "../support/games.ts"
import { acceptGames, refuseGames, startsOf } from "../support/refuse.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** What a statement fails with. */
type Provoked = Effect.Effect<unknown, SqlError.SqlError, Database | SqlClient.SqlClient | TestDatabase>

const run = (statement: string): Provoked => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement))

/** Statements of one transaction. */
const transaction = (...statements: ReadonlyArray<string>): Provoked =>
  Effect.flatMap(Database, (database) => database.transaction(Effect.forEach(statements, run, { discard: true })))

const onConnectionOf = (user: string, effect: Provoked): Provoked =>
  Effect.gen(function* () {
    const address = new URL(Redacted.value((yield* TestDatabase).url))
    address.username = user
    address.password = "secret"
    return yield* Effect.provide(
      effect,
      Layer.fresh(Database.layer({ url: Redacted.make(address.href), connections: 1, name: "other" }))
    )
  })

/** A user with no rights, made for the purpose. */
const asStranger = (effect: Provoked, ...statements: ReadonlyArray<string>): Provoked =>
  Effect.gen(function* () {
    const user = `stranger_${randomUUID().slice(0, 8)}`
    for (const statement of [`CREATE ROLE USER LOGIN PASSWORD 'secret'`, ...statements]) {
      yield* run(statement.replaceAll("USER", user))
    }
    return yield* Effect.ensuring(
      onConnectionOf(user, effect),
      Effect.orDie(Effect.andThen(run(`DROP OWNED BY ${user}`), run(`DROP ROLE ${user}`)))
    )
  })

/** Two transactions that each want what the other has. */
const deadlock: Provoked = Effect.gen(function* () {
  const [first, second] = [yield* insertGame(0), yield* insertGame(0)]
  const touch = (id: string) => run(`UPDATE game_sessions SET location = 'here' WHERE id = '${id}'`)
  const database = yield* Database
  const [here, there] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const quarrel = (a: string, b: string, mine: Deferred.Deferred<void>, theirs: Deferred.Deferred<void>) =>
    database.transaction(
      Effect.gen(function* () {
        yield* touch(a)
        yield* Deferred.succeed(mine, undefined)
        yield* Deferred.await(theirs)
        yield* touch(b)
      })
    )
  yield* Effect.all([quarrel(first, second, here, there), quarrel(second, first, there, here)], {
    concurrency: "unbounded"
  })
})

/** A transaction that has seen what another one has changed since. */
const serialization: Provoked = Effect.gen(function* () {
  const id = yield* insertGame(0)
  const database = yield* Database
  const other = (yield* TestDatabase).url
  const change = `UPDATE game_sessions SET location = 'there' WHERE id = '${id}'`
  yield* database.transaction(
    Effect.gen(function* () {
      yield* run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
      yield* run("SELECT count(*) FROM game_sessions")
      yield* Effect.provide(run(change), Layer.fresh(Database.layer({ url: other, connections: 1, name: "other" })))
      yield* run(change)
    })
  )
})

/** Runs a statement while another transaction holds a game. */
const whileHeld = (make: (id: string) => Provoked): Provoked =>
  Effect.gen(function* () {
    const id = yield* insertGame(0)
    const database = yield* Database
    const [held, over] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const holder = yield* Effect.forkChild(
      database.transaction(
        Effect.gen(function* () {
          yield* run(`SELECT FROM game_sessions WHERE id = '${id}' FOR UPDATE`)
          yield* Deferred.succeed(held, undefined)
          yield* Deferred.await(over)
        })
      )
    )
    yield* Deferred.await(held)
    return yield* Effect.ensuring(make(id), Effect.andThen(Deferred.succeed(over, undefined), Fiber.await(holder)))
  })

/** Ends a session in the middle of its statement. */
const terminated: Provoked = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const sleeping = yield* Effect.forkChild(run("SELECT pg_sleep(60) AS ended_by_test"))
  const end = sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE query = 'SELECT pg_sleep(60) AS ended_by_test' AND pid <> pg_backend_pid()`
  yield* Effect.orDie(eventually(end, (rows) => rows.length > 0))
  return yield* Fiber.join(sleeping)
})

/** A trigger on games that answers a change with this. */
const byTrigger = (by: string): Provoked =>
  Effect.gen(function* () {
    const id = yield* insertGame(0, { title: "poison" })
    yield* refuseGames({ when: startsOf("poison"), by })
    return yield* Effect.ensuring(
      run(`UPDATE game_sessions SET status = 'IN_PROGRESS' WHERE id = '${id}'`),
      Effect.orDie(acceptGames)
    )
  })

const game = "INSERT INTO game_sessions (guild_id, title, scheduled_at"

const failures: ReadonlyArray<readonly [what: string, state: string | undefined, class_: FailureClass, Provoked]> = [
  ["a deadlock", "40P01", "passing", deadlock],
  ["a serialization failure", "40001", "passing", serialization],
  [
    "a lock that is not free",
    "55P03",
    "passing",
    whileHeld((id) => run(`SELECT FROM game_sessions WHERE id = '${id}' FOR UPDATE NOWAIT`))
  ],
  [
    "a lock that is waited for too long",
    "55P03",
    "passing",
    whileHeld((id) =>
      transaction("SET LOCAL lock_timeout = '20ms'", `SELECT FROM game_sessions WHERE id = '${id}' FOR UPDATE`)
    )
  ],
  [
    "a statement that takes too long",
    "57014",
    "passing",
    transaction("SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(10)")
  ],
  ["a session that an operator ends", undefined, "infrastructure", terminated],
  [
    "too many connections",
    "53300",
    "infrastructure",
    asStranger(run("SELECT 1"), "ALTER ROLE USER CONNECTION LIMIT 0")
  ],
  ["a user who may not log in", "28000", "infrastructure", asStranger(run("SELECT 1"), "ALTER ROLE USER NOLOGIN")],
  ["a full disk", "53100", "doubtful", byTrigger("RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'")],
  ["a missing privilege", "42501", "doubtful", asStranger(run("SELECT FROM game_sessions"))],
  ["a missing table", "42P01", "doubtful", run("SELECT FROM no_such_table")],
  ["a read-only server", "25006", "doubtful", transaction("SET TRANSACTION READ ONLY", "DELETE FROM game_sessions")],
  [
    "an error inside the server",
    "XX000",
    "doubtful",
    byTrigger("RAISE EXCEPTION 'bug' USING ERRCODE = 'internal_error'")
  ],
  ["a check that is violated", "23514", "row", run(`${game}) VALUES ('g', '', now())`)],
  ["a value that is missing", "23502", "row", run(`${game}) VALUES ('g', NULL, now())`)],
  [
    "a value that is taken",
    "23505",
    "row",
    run(
      "INSERT INTO idempotency_keys (key, request_hash, game_id) SELECT 'k', 'h', gen_random_uuid() FROM generate_series(1, 2)"
    )
  ],
  [
    "a game that is not there",
    "23503",
    "row",
    run(
      "INSERT INTO game_status_schedule (game_id, target_status, transition_time) VALUES (gen_random_uuid(), 'COMPLETED', now())"
    )
  ],
  ["an exception of a trigger", "P0001", "row", byTrigger("RAISE EXCEPTION 'no'")],
  ["a division by zero in a trigger", "22012", "row", byTrigger("PERFORM 1 / 0")],
  ["a number that is too large", "22003", "row", run("SELECT 2147483647 + 1")],
  ["a text that is no value of its type", "22P02", "row", run("SELECT 'tomorrow'::uuid")]
]

layer(TestDatabase.layer, { excludeTestServices: true })("PostgreSQL's", (it) => {
  it.effect.each(failures)("%s (%s) counts as %s", ([, state, expected, provoked]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(provoked)
      assert.isTrue(SqlError.isSqlError(error))
      assert.deepStrictEqual([sqlState(error), classify(error)], [state, expected])
    })
  )

  it.effect("refusal of a connection, without a word of the server's, counts as infrastructure", () =>
    Effect.gen(function* () {
      const nobody = Database.layer({ url: Redacted.make("postgres://k@127.0.0.1:9/k"), connections: 1, name: "test" })
      const error = yield* Effect.flip(
        Effect.provide(
          Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT 1`),
          nobody
        )
      )
      assert.deepStrictEqual([sqlState(error), classify(error)], [undefined, "infrastructure"])
    })
  )
})

/** Plans games that are due, of which these titles, and returns their ids in that order. */
const planDue = (titles: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly id: string }>`
      INSERT INTO game_sessions (guild_id, title, scheduled_at)
      SELECT 'guild', title, now() FROM unnest(${titles}::text[]) WITH ORDINALITY AS game (title, n) ORDER BY n
      RETURNING id`
    const ids = rows.map(({ id }) => id)
    // Due in this order, so that those in the middle are in the middle of a batch.
    yield* sql`
      INSERT INTO game_status_schedule (game_id, target_status, transition_time)
      SELECT id, 'IN_PROGRESS', now() - interval '1 hour' + n * interval '1 millisecond'
      FROM unnest(${ids}::uuid[]) WITH ORDINALITY AS game (id, n)`
    return ids
  })

const startOf = (id: string) => Effect.map(getTransitions(id), (rows) => rows.get("IN_PROGRESS"))

const started = (ids: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const count = sql<{ readonly count: number }>`
      SELECT count(*)::int AS count FROM game_sessions WHERE id = ANY(${ids}::uuid[]) AND status = 'IN_PROGRESS'`
    yield* eventually(count, ([row]) => row?.count === ids.length)
  })

const poison = { when: startsOf("poison") }

describe("the engine", () => {
  it.live.each(["P0001", "23514", "22012", "53100", "42501", "42P01", "40001", "55P03", "57014", "08006", "XX000"])(
    "starts the others when one game fails with %s, counts an attempt of that one, and starts it when the cause is gone",
    (state) =>
      Effect.gen(function* () {
        yield* refuseGames({ ...poison, state })
        const ids = yield* planDue(Array.from({ length: 9 }, (_, n) => (n === 0 ? "poison" : "fine")))
        yield* Effect.forkScoped(engine)
        const [bad = "", ...others] = ids
        yield* started(others)
        const row = yield* eventually(startOf(bad), (row) => row?.hold === "retry")
        assert.isAtLeast(row?.attempts ?? 0, 1)
        // It keeps nobody waiting either who comes later.
        yield* started(yield* planDue(["fine"]))
        yield* acceptGames
        yield* started([bad])
      }).pipe(Effect.provide(engineLayer()))
  )

  it.live("gives up a game that alone fails for want of a privilege, with the reason in its dead letter", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* refuseGames({ ...poison, state: "42501" })
      const [bad = "", ...others] = yield* planDue(["poison", "fine", "fine"])
      yield* Effect.forkScoped(engine)
      yield* started(others)
      const letters = sql<object>`SELECT error, message, attempts FROM dead_letters WHERE game_id = ${bad}`
      // Others show that the privilege is missing for this game alone.
      const givenUp = Effect.tap(letters, (rows) =>
        rows.length > 0 ? Effect.void : Effect.flatMap(planDue(["fine"]), started)
      )
      assert.deepStrictEqual(yield* eventually(givenUp, (rows) => rows.length > 0), [
        { error: "AuthorizationError", message: "this game is refused", attempts: 3 }
      ])
    }).pipe(Effect.provide(engineLayer({ maxAttempts: 3 })))
  )

  it.live.each(["53100", "42501", "55P03"])(
    "tries a game that failed with %s again and again, and counts no attempt while nobody else goes through",
    (state) =>
      Effect.gen(function* () {
        yield* refuseGames({ ...poison, state })
        const [bad = "", good = ""] = yield* planDue(["poison", "fine"])
        const failures = Effect.map(
          Metric.value(Metric.withAttributes(Metrics.scheduleRows, { kind: "status-transition", outcome: "failed" })),
          ({ count }) => count
        )
        const before = yield* failures
        yield* Effect.forkScoped(engine)
        yield* started([good])
        yield* eventually(failures, (count) => count >= before + 4)
        assert.deepInclude(yield* startOf(bad), { attempts: 1, hold: "retry" })
        yield* acceptGames
        yield* started([bad])
      }).pipe(Effect.provide(engineLayer({ maxAttempts: 2 })))
  )

  it.live.each(["53100", "42501", "40001", "57014"])(
    "waits and counts no attempt while every game fails with %s, and starts them when the cause is gone",
    (state) =>
      Effect.gen(function* () {
        yield* refuseGames({ when: "TRUE", state })
        const ids = yield* planDue(Array.from({ length: 20 }, () => "fine"))
        const tries = Effect.map(
          Effect.forEach(
            ["UnknownError", "AuthorizationError", "SerializationError", "StatementTimeoutError"],
            (error) => Metric.value(Metric.withAttributes(Metrics.loopErrors, { loop: "status-transitions", error }))
          ),
          (states) => states.reduce((sum, { count }) => sum + count, 0)
        )
        const before = yield* tries
        yield* Effect.forkScoped(engine)
        yield* eventually(tries, (count) => count >= before + 3)
        for (const id of ids) assert.deepInclude(yield* startOf(id), { attempts: 0, hold: null })
        yield* acceptGames
        yield* started(ids)
        for (const id of ids) assert.deepInclude(yield* startOf(id), { attempts: 0, outcome: "applied" })
      }).pipe(Effect.provide(engineLayer()))
  )

  it.live("needs few statements more, and does little in vain, for 4 bad games among 10,000", () =>
    Effect.gen(function* () {
      const repository = yield* StatusTransitionRepository
      yield* refuseGames(poison)
      const ids = yield* planDue(Array.from({ length: 10_000 }, (_, n) => (n % 2500 === 1234 ? "poison" : "fine")))
      const bad = ids.filter((_, n) => n % 2500 === 1234)
      let statements = 0
      let inVain = 0
      const counted = <A>(rows: number, statement: Effect.Effect<A, SqlError.SqlError>) =>
        Effect.suspend(() => {
          statements++
          return Effect.tapError(statement, () => Effect.sync(() => (inVain += rows)))
        })
      const loop: DueRepository = {
        ...repository,
        applyDue: (limit, from, except) => counted(limit, repository.applyDue(limit, from, except)),
        applyThese: (rows) => counted(rows.length, repository.applyThese(rows)),
        listDue: (limit, except) => counted(0, repository.listDue(limit, except)),
        recordFailure: (...failure) => counted(0, repository.recordFailure(...failure))
      }
      yield* Effect.forkScoped(runLoop(loop))
      yield* started(ids.filter((id) => !bad.includes(id)))
      for (const id of bad) yield* eventually(startOf(id), (row) => row?.hold === "retry")
      assert.isBelow(statements, 200)
      assert.isBelow(inVain, 4000)
    }).pipe(Effect.provide(engineLayer()))
  )
})
