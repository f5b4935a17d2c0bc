/** What the database says for the metrics, on each PostgreSQL that the run has. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import {
  countedExactly,
  DatabaseMetricsRepository,
  fromTheBeginning,
  tables
} from "../../src/operations/DatabaseMetricsRepository.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { Database } from "../../src/postgres/Database.ts"
import { migrationsTable } from "../../src/postgres/migrations.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { parkEvent, parkReminder, parkTransition } from "../support/deadLetters.ts"
import { eventually, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const backlogs = Effect.flatMap(DatabaseMetricsRepository, (repository) =>
  Effect.map(repository.listBacklogs(fromTheBeginning), (rows) => new Map(rows.map((row) => [row.kind, row])))
)

/** Who holds vacuum back the most. */
const oldest = Effect.flatMap(DatabaseMetricsRepository, ({ listHolders }) =>
  Effect.map(listHolders, ([holder]) => Option.fromUndefinedOr(holder))
)

/** Another application's connection to the test's database. */
const another = (name: string, change: (url: URL) => void = () => {}) =>
  Effect.map(TestDatabase, ({ url }) => {
    const address = new URL(Redacted.value(url))
    change(address)
    return Layer.fresh(Database.layer({ url: Redacted.make(address.href), connections: 1, name }))
  })

/** Lets an application take a snapshot and keep it while an effect runs. */
const whileHeld = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>, change?: (url: URL) => void) =>
  Effect.gen(function* () {
    const session = yield* Layer.build(yield* another(name, change))
    return yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`BEGIN ISOLATION LEVEL REPEATABLE READ`
      yield* sql`SELECT FROM game_sessions`
    }).pipe(
      Effect.provide(session),
      Effect.andThen(effect),
      Effect.ensuring(
        Effect.orDie(
          Effect.provide(
            Effect.flatMap(SqlClient.SqlClient, (sql) => sql`ROLLBACK`),
            session
          )
        )
      )
    )
  }).pipe(Effect.scoped)

const servers: ReadonlyArray<readonly [string, string]> = [
  ["18", inject("postgresUrl")],
  ...Option.toArray(Option.map(Option.fromNullOr(inject("postgres15Url")), (url) => ["15", url] as const))
]

describe.each(servers)("PostgreSQL %s", (_version, server) => {
  const onServer = Effect.provide(
    Layer.mergeAll(
      DatabaseMetricsRepository.layer,
      StatusTransitionRepository.layer,
      NotificationRepository.layer,
      OutboxRepository.layer
    ).pipe(Layer.provideMerge(TestDatabase.layerWith({ server, connections: 2, steady: true })))
  )

  it.live("tells of nothing where there is nothing", () =>
    Effect.gen(function* () {
      const repository = yield* DatabaseMetricsRepository
      const nothing = { pending: 0, overdue: 0, next_due: null, retrying: 0, waiting: 0, paused: false }
      const found = yield* backlogs
      assert.deepInclude(found.get("status-transition"), nothing)
      assert.deepInclude(found.get("notification"), nothing)
      assert.deepStrictEqual(yield* repository.outbox, { events: 0, refused: 0, oldest: 0 })
      assert.strictEqual((yield* repository.countOpenLetters).size, 0)
      // The server itself may look around in a new database.
      yield* eventually(repository.listHolders, (holders) => holders.length === 0)
    }).pipe(onServer)
  )

  it.live("tells what is pending, overdue and next, and apart from it what rests", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(3_600_000)
      yield* insertTransition(game, "IN_PROGRESS", 3_600_000)
      const before = yield* backlogs
      assert.deepInclude(before.get("status-transition"), { pending: 1, overdue: 0 })
      assert.closeTo(before.get("status-transition")?.next_due ?? 0, 3600, 60)

      const late = yield* insertGame(-90_000)
      yield* insertTransition(late, "IN_PROGRESS", -90_000)
      const resting = yield* insertTransition(late, "COMPLETED", -30_000)
      yield* insertReminder(game, 60, -1000)
      const failed = yield* insertReminder(game, 30, -1000)
      yield* sql`UPDATE game_status_schedule SET hold = 'waiting' WHERE id = ${resting}`
      yield* sql`
        UPDATE notification_schedule SET hold = 'retry', retry_at = now() + interval '10 seconds' WHERE id = ${failed}`
      yield* insertReminder(game, 15, 60_000)
      yield* sql`UPDATE notification_schedule SET sent = TRUE WHERE reminder_minutes = 15`
      const after = yield* backlogs
      assert.deepInclude(after.get("status-transition"), { pending: 2, overdue: 1, retrying: 0, waiting: 1 })
      assert.closeTo(after.get("status-transition")?.next_due ?? 0, -90, 60)
      assert.deepInclude(after.get("notification"), { pending: 1, overdue: 1, retrying: 1, waiting: 0 })
      yield* sql`INSERT INTO pauses (kind) VALUES ('notification')`
      const paused = yield* backlogs
      assert.deepInclude(paused.get("notification"), { pending: 1, overdue: 1, paused: true })
      assert.isFalse(paused.get("status-transition")?.paused)
    }).pipe(onServer)
  )

  it.live("begins again where the earliest pending row is, or now", () =>
    Effect.gen(function* () {
      const repository = yield* DatabaseMetricsRepository
      const late = yield* insertGame(-90_000)
      yield* insertTransition(late, "IN_PROGRESS", -90_000)
      const found = yield* backlogs
      const from = {
        "status-transition": found.get("status-transition")?.from ?? 0,
        notification: found.get("notification")?.from ?? 0
      }
      assert.isAbove(from.notification - from["status-transition"], 80_000)
      const again = yield* repository.listBacklogs(from)
      assert.strictEqual(again.find(({ kind }) => kind === "status-transition")?.overdue, 1)
      yield* insertReminder(late, 15, -60_000)
      assert.strictEqual((yield* repository.listBacklogs(from)).find(({ kind }) => kind === "notification")?.pending, 0)
      assert.strictEqual((yield* backlogs).get("notification")?.pending, 1)
    }).pipe(onServer)
  )

  it.live("counts so many rows one by one and estimates what is more", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const repository = yield* DatabaseMetricsRepository
      const games = 2 * countedExactly
      for (const table of ["game_status_schedule", "outbox"]) {
        yield* sql`ALTER TABLE ${sql(table)} SET (autovacuum_enabled = false)`
      }
      const { transaction } = yield* Database
      yield* transaction(
        Effect.andThen(
          sql`
            WITH game AS (
              INSERT INTO game_sessions (guild_id, title, scheduled_at)
              SELECT 'guild', 'a game', now() + interval '1 day' FROM generate_series(1, ${games}::int)
              RETURNING id, scheduled_at
            ), event AS (
              INSERT INTO outbox (game_id, type, data) SELECT id, 'game.created', '{}' FROM game
            )
            INSERT INTO game_status_schedule (game_id, target_status, transition_time)
            SELECT id, 'IN_PROGRESS', scheduled_at FROM game`,
          // What a session reports only after others have analysed the table is counted twice.
          sql`SELECT pg_stat_force_next_flush()`
        )
      )
      const unknown = (yield* backlogs).get("status-transition")?.pending ?? 0
      assert.isAtLeast(unknown, countedExactly)
      yield* sql`ANALYZE game_status_schedule, outbox`
      assert.closeTo((yield* backlogs).get("status-transition")?.pending ?? 0, games, games / 10)
      yield* eventually(repository.outbox, ({ events }) => Math.abs(events - games) < games / 10)
      yield* sql`UPDATE game_status_schedule SET executed = TRUE WHERE id IN (SELECT id FROM game_status_schedule LIMIT ${games - 5}::int)`
      // What can be counted is, whatever the statistics say.
      assert.strictEqual((yield* backlogs).get("status-transition")?.pending, 5)
    }).pipe(onServer)
  )

  it.live("tells how deep the outbox is and how old its first event", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const repository = yield* DatabaseMetricsRepository
      const game = yield* insertGame(0)
      yield* sql`
        INSERT INTO outbox (game_id, type, occurred_at, data, retry_at)
        VALUES (${game}, 'game.created', now() - interval '100 seconds', '{}', now()),
          (${game}, 'game.updated', now() - interval '50 seconds', '{}', NULL)`
      const depth = yield* repository.outbox
      assert.deepInclude(depth, { events: 2, refused: 1 })
      assert.closeTo(depth.oldest, 100, 30)
    }).pipe(onServer)
  )

  it.live("counts open dead letters by kind", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const repository = yield* DatabaseMetricsRepository
      const game = yield* insertGame(3_600_000)
      yield* parkTransition(game, "IN_PROGRESS")
      const { letter } = yield* parkTransition(game, "COMPLETED")
      yield* parkReminder(game)
      yield* sql`INSERT INTO outbox (game_id, type, data) VALUES (${game}, 'game.created', '{}')`
      yield* parkEvent(game)
      yield* sql`UPDATE dead_letters SET resolved_at = now(), resolution = 'discarded' WHERE id = ${letter}`
      assert.deepStrictEqual(
        yield* repository.countOpenLetters,
        new Map([
          ["event", 1],
          ["notification", 1],
          ["status-transition", 1]
        ])
      )
    }).pipe(onServer)
  )

  it.live("tells of the rows of every table, the dead ones apart", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const repository = yield* DatabaseMetricsRepository
      const existing = yield* sql<{ readonly name: string }>`
        SELECT table_name AS name FROM information_schema.tables
        WHERE table_schema = current_schema() AND table_name <> ${migrationsTable}`
      assert.sameMembers(
        tables,
        existing.map(({ name }) => name)
      )
      yield* sql`ALTER TABLE game_sessions SET (autovacuum_enabled = false)`
      const game = yield* insertGame(0)
      yield* insertGame(0)
      yield* sql`DELETE FROM game_sessions WHERE id = ${game}`
      const rows = yield* eventually(repository.listTables, (rows) => rows.some(({ dead }) => dead > 0))
      assert.sameMembers(
        rows.map(({ table }) => table),
        tables
      )
      assert.deepInclude(rows, { table: "game_sessions", autovacuum: false, dead: 1, live: 1 })
    }).pipe(onServer)
  )

  it.live("names the application whose snapshot is the oldest", () =>
    Effect.gen(function* () {
      const found = yield* whileHeld(
        "reports",
        Effect.gen(function* () {
          yield* insertGame(0)
          yield* insertGame(0)
          // The younger one is not to blame.
          return yield* whileHeld("dashboard", oldest)
        })
      )
      assert.isTrue(Option.isSome(found))
      const { age, held, name } = Option.getOrThrow(found)
      assert.match(name, /^kickoff:reports@/)
      assert.isAtLeast(age ?? 0, 2)
      assert.isAtLeast(held ?? -1, 0)
    }).pipe(onServer)
  )

  it.live("names a transaction that has written and waits, though it keeps no snapshot", () =>
    Effect.gen(function* () {
      const session = yield* Layer.build(yield* another("importer"))
      yield* Effect.provide(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* sql`BEGIN`
          yield* insertGame(0)
        }),
        session
      )
      yield* insertGame(0)
      assert.match(Option.getOrThrow(yield* oldest).name, /^kickoff:importer@/)
    }).pipe(Effect.scoped, onServer)
  )

  it.live("names the application also to a role that may not see when it began", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const role = `observer_${randomBytes(6).toString("hex")}`
      yield* Effect.acquireRelease(sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'`), () =>
        Effect.orDie(sql.unsafe(`DROP ROLE ${role}`))
      )
      const session = yield* Layer.build(
        yield* another("observer", (url) => {
          url.username = role
          url.password = role
        })
      )
      const found = yield* whileHeld(
        "reports",
        Effect.provide(oldest, Layer.fresh(DatabaseMetricsRepository.layer)).pipe(Effect.provide(session))
      )
      const { held, name } = Option.getOrThrow(found)
      assert.match(name, /^kickoff:reports@/)
      assert.isNull(held)
    }).pipe(Effect.scoped, onServer)
  )
})
