/** How a shadow begins and ends, on a real database: what it leaves, what it keeps from happening, what it hands over. */
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { Caller } from "../../src/domain/Caller.ts"
import { GameId } from "../../src/domain/Game.ts"
import { Games } from "../../src/games/Games.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { Database, sqlState } from "../../src/postgres/Database.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { ShadowRunRepository } from "../../src/shadow/ShadowRunRepository.ts"
import { eventually, getGame, getTransitions, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { makeTestDatabase, TestDatabase } from "../support/TestDatabase.ts"

const database = ShadowRunRepository.layer.pipe(Layer.provideMerge(TestDatabase.layer))

const begin = Effect.flatMap(ShadowRunRepository, (run) => run.begin)
const end = (until: Option.Option<number> = Option.none()) =>
  Effect.flatMap(ShadowRunRepository, (run) => run.end(until))
const since = Effect.flatMap(ShadowRunRepository, (run) => run.since)

/** All that the schema has, by name. */
const catalogue = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`
    SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    ORDER BY name`
})

/** A session with this name, until the scope closes. */
const session = (applicationName: string) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const connection = yield* PgConnection.make({ url, applicationName })
    const pinned = yield* connection.pin
    yield* pinned.query("SELECT 1")
    return pinned
  })

describe("a shadow", () => {
  it.live("leaves nothing behind when it ends", () =>
    Effect.gen(function* () {
      const before = yield* catalogue
      assert.isTrue(Option.isNone(yield* since))
      yield* begin
      const first = yield* since
      assert.isTrue(Option.isSome(first))
      assert.notDeepEqual(yield* catalogue, before)
      yield* begin
      assert.deepStrictEqual(yield* since, first, "begun twice, it is the same one")
      assert.isTrue(Option.isSome(yield* end()))
      assert.isTrue(Option.isNone(yield* since))
      assert.deepStrictEqual(yield* catalogue, before)
      assert.isTrue(Option.isNone(yield* end()), "there is nothing to end")
      yield* begin
    }).pipe(Effect.provide(database))
  )

  it.live("is begun once by several processes that start together", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* Effect.all(
        Array.from({ length: 4 }, () =>
          begin.pipe(
            Effect.provide(ShadowRunRepository.layer),
            Effect.provide(Database.layer({ url, connections: 1, name: "test" }))
          )
        ),
        { concurrency: "unbounded" }
      )
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`SELECT * FROM shadow_run`, 1)
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("is not begun while a live process is there, and not ended while one in shadow is", () =>
    Effect.gen(function* () {
      const live = yield* Effect.gen(function* () {
        yield* session("kickoff:notifications@host:1")
        return yield* Effect.flip(begin)
      }).pipe(Effect.scoped)
      assert.match(live.message, /^live processes work on this database, stop them first: notifications of host:1$/)
      assert.isTrue(Option.isNone(yield* since))

      const sql = yield* SqlClient.SqlClient
      const gone = eventually(
        sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%@host:_'`,
        (sessions) => sessions.length === 0
      )
      yield* gone
      yield* begin
      const shadow = yield* Effect.gen(function* () {
        yield* session("kickoff:shadow-reminders@host:2")
        return yield* Effect.flip(end())
      }).pipe(Effect.scoped)
      assert.match(shadow.message, /^processes in shadow work on this database, .*shadow-reminders of host:2$/)
      assert.isTrue(Option.isSome(yield* since))
      yield* gone
      assert.isTrue(Option.isSome(yield* end()))
    }).pipe(Effect.provide(database))
  )

  it.live("lets no live process do or tell anything, and counts it against no row", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(-1000)
      yield* insertTransition(game, "IN_PROGRESS", -1000)
      yield* begin

      const live = yield* StatusTransitionRepository
      const refused = yield* Effect.flip(live.applyDue(10, undefined))
      assert.strictEqual(sqlState(refused), "42501")
      assert.include(String(refused.reason.cause), "this database is in shadow")
      assert.isFalse((yield* getTransitions(game)).get("IN_PROGRESS")?.executed)

      const games = yield* Games
      yield* Effect.flip(Effect.provideService(games.cancel(GameId.make(game)), Caller, Caller.anybody))
      assert.deepInclude(yield* getGame(game), { status: "SCHEDULED", version: 1 })
      assert.deepStrictEqual(yield* sql`SELECT FROM outbox UNION ALL SELECT FROM ledger`, [])

      // What would be done without an event is refused as well: the other system may have done that half of it.
      yield* sql`UPDATE game_sessions SET status = 'IN_PROGRESS' WHERE id = ${game}`
      yield* Effect.flip(live.applyDue(10, undefined))
      assert.isFalse((yield* getTransitions(game)).get("IN_PROGRESS")?.executed)

      // Another application's changes are its own.
      yield* sql`UPDATE game_status_schedule SET transition_time = now() + interval '1 hour' WHERE game_id = ${game}`
      yield* end()
      assert.lengthOf(yield* live.listDue(10), 0)
    }).pipe(
      Effect.provide(
        Layer.mergeAll(
          StatusTransitionRepository.layer,
          Games.layer.pipe(Layer.provide(OutboxSignal.layerMemory))
        ).pipe(Layer.provideMerge(database))
      )
    )
  )

  it.live("gives up no row that a live process tried before the shadow began", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(-1000)
      yield* insertTransition(game, "IN_PROGRESS", -1000)
      yield* sql`
        UPDATE game_status_schedule SET hold = 'retry', attempts = 7, retry_at = now() - interval '1 second'
        WHERE game_id = ${game}`
      const rows = sql`SELECT hold, attempts, retry_at FROM game_status_schedule`
      const before = yield* rows
      // Others went through meanwhile, so the next failure would be the row's own.
      yield* sql`
        INSERT INTO ledger (replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
        SELECT 'other', 'status-transition', ARRAY[gen_random_uuid()], ARRAY[gen_random_uuid()], ARRAY['IN_PROGRESS'],
          ARRAY[now()], ARRAY['applied'], ARRAY[0], ARRAY[gen_random_uuid()]`
      yield* begin

      const live = yield* StatusTransitionRepository
      const [row] = yield* live.listRetries(10)
      assert.isDefined(row)
      if (row === undefined) return
      yield* Effect.flip(live.applyThese([row]))
      const failure = { error: "SqlError", message: "this database is in shadow" }
      const refused = yield* Effect.flip(live.recordFailure(row, failure, 8, false))
      assert.strictEqual(sqlState(refused), "42501")
      assert.deepStrictEqual(yield* rows, before)
      assert.lengthOf(yield* sql`SELECT FROM dead_letters`, 0)
      assert.isTrue(Option.isSome(yield* end()))
    }).pipe(Effect.provide(StatusTransitionRepository.layer.pipe(Layer.provideMerge(database))))
  )

  it.live("is noted by whoever changes games, without a right to its tables", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(-1000)
      yield* begin
      const role = `other_${game.replaceAll("-", "").slice(0, 12)}`
      yield* Effect.acquireRelease(sql`CREATE ROLE ${sql(role)}`, () =>
        Effect.orDie(Effect.andThen(sql`DROP OWNED BY ${sql(role)}`, sql`DROP ROLE ${sql(role)}`))
      )
      yield* sql`GRANT SELECT, UPDATE ON game_sessions TO ${sql(role)}`
      yield* (yield* Database).transaction(
        Effect.gen(function* () {
          yield* sql`SET LOCAL ROLE ${sql(role)}`
          yield* sql`UPDATE game_sessions SET status = 'IN_PROGRESS' WHERE id = ${game}`
        })
      )
      assert.lengthOf(yield* sql`SELECT FROM shadow_changes WHERE target = 'IN_PROGRESS'`, 1)
    }).pipe(Effect.scoped, Effect.provide(database))
  )

  it.live("begins once a transaction that holds the games has ended, and makes nobody wait behind it for long", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const holder = yield* session("reporting")
      yield* holder.query("BEGIN")
      yield* holder.query("UPDATE game_sessions SET title = title")
      const waiting = yield* Effect.forkScoped(begin)
      yield* eventually(
        sql`SELECT FROM pg_locks WHERE NOT granted AND relation = 'game_sessions'::regclass`,
        (locks) => locks.length > 0
      )
      yield* holder.query("COMMIT")
      yield* Fiber.join(waiting)
      assert.isTrue(Option.isSome(yield* since))
    }).pipe(
      Effect.scoped,
      Effect.provide(
        ShadowRunRepository.layerWith({
          lock: Duration.millis(100),
          retries: 1000,
          pause: Duration.millis(10)
        }).pipe(Layer.provideMerge(TestDatabase.layer))
      )
    )
  )

  it.live("does not begin while the games are held for longer, says so, and changes nothing", () =>
    Effect.gen(function* () {
      const before = yield* catalogue
      const holder = yield* session("reporting")
      yield* holder.query("BEGIN")
      yield* holder.query("LOCK TABLE game_sessions IN ROW EXCLUSIVE MODE")
      const error = yield* Effect.flip(begin)
      assert.strictEqual(error._tag, "TablesHeld")
      assert.include(error.message, "nothing was changed")
      assert.deepStrictEqual(yield* catalogue, before)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        ShadowRunRepository.layerWith({ lock: Duration.millis(50), retries: 2, pause: Duration.millis(10) }).pipe(
          Layer.provideMerge(TestDatabase.layer)
        )
      )
    )
  )
})

describe("the end of a shadow", () => {
  it.live("marks as done what the other system has done, and leaves what it has not", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* begin
      const hour = 3_600_000
      const plan = (startsIn: number, status: string) =>
        Effect.gen(function* () {
          const game = yield* insertGame(startsIn, { status })
          yield* insertTransition(game, "IN_PROGRESS", startsIn)
          yield* insertTransition(game, "COMPLETED", startsIn + hour)
          yield* insertReminder(game, 60, startsIn - hour)
          yield* insertReminder(game, 15, startsIn - hour / 4)
          return game
        })
      const upcoming = yield* plan(hour / 2, "SCHEDULED")
      const running = yield* plan(-hour / 2, "IN_PROGRESS")
      const over = yield* plan(-2 * hour, "COMPLETED")
      const cancelled = yield* plan(hour, "CANCELLED")
      const missed = yield* plan(-hour / 4, "SCHEDULED")
      const endless = yield* plan(-2 * hour, "IN_PROGRESS")

      const handover = Option.getOrThrow(yield* end())
      assert.deepStrictEqual(handover, {
        settled_transitions: 6,
        settled_reminders: 1 + 2 * 5,
        overdue_starts: 1,
        overdue_completions: 1,
        overdue_reminders: 0
      })
      const pending = (game: string) =>
        Effect.map(
          sql<{ readonly what: string }>`
            SELECT target_status AS what FROM game_status_schedule WHERE game_id = ${game} AND NOT executed
            UNION ALL SELECT reminder_minutes::text FROM notification_schedule WHERE game_id = ${game} AND NOT sent
            ORDER BY what`,
          (rows) => rows.map(({ what }) => what)
        )
      assert.deepStrictEqual(yield* pending(upcoming), ["15", "COMPLETED", "IN_PROGRESS"])
      assert.deepStrictEqual(yield* pending(running), ["COMPLETED"])
      assert.deepStrictEqual(yield* pending(over), [])
      assert.deepStrictEqual(yield* pending(cancelled), [])
      assert.deepStrictEqual(yield* pending(missed), ["COMPLETED", "IN_PROGRESS"])
      assert.deepStrictEqual(yield* pending(endless), ["COMPLETED"])
    }).pipe(Effect.provide(database))
  )

  it.live("leaves reminders that became due after the other system had stopped", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* begin
      const game = yield* insertGame(3_600_000)
      yield* insertReminder(game, 62, -120_000)
      const left = yield* insertReminder(game, 61, -60_000)
      const [row] = yield* sql<{ readonly now: number }>`SELECT extract(epoch FROM now())::float8 * 1000 AS now`
      const handover = Option.getOrThrow(yield* end(Option.some((row?.now ?? 0) - 90_000)))
      assert.deepInclude(handover, { settled_reminders: 1, overdue_reminders: 1 })
      const pending = yield* sql<{ readonly id: string }>`SELECT id FROM notification_schedule WHERE NOT sent`
      assert.deepStrictEqual(
        pending.map(({ id }) => id),
        [left]
      )
    }).pipe(Effect.provide(database))
  )

  it.live("leaves the reminders that are still to come, whatever instant it is told", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* begin
      yield* insertReminder(yield* insertGame(7_200_000), 60, 3_600_000)
      const handover = Option.getOrThrow(yield* end(Option.some(Date.UTC(2999, 0, 1))))
      assert.deepInclude(handover, { settled_reminders: 0, overdue_reminders: 0 })
      assert.lengthOf(yield* sql`SELECT FROM notification_schedule WHERE NOT sent`, 1)
    }).pipe(Effect.provide(database))
  )
})

const postgres15Url = inject("postgres15Url")

describe("a shadow on PostgreSQL 15", () => {
  it.live.skipIf(postgres15Url === null)("begins, notes and ends", () =>
    Effect.gen(function* () {
      const url = yield* makeTestDatabase({ server: postgres15Url ?? "" })
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* begin
        const game = yield* insertGame(-1000)
        yield* sql`UPDATE game_sessions SET status = 'IN_PROGRESS' WHERE id = ${game}`
        assert.lengthOf(yield* sql`SELECT FROM shadow_changes`, 1)
        assert.isTrue(Option.isSome(yield* end()))
      }).pipe(
        Effect.provide(ShadowRunRepository.layer),
        Effect.provide(Database.layer({ url, connections: 1, name: "test" }))
      )
    }).pipe(Effect.scoped)
  )
})
