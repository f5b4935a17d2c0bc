import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"
import { Database } from "../../src/postgres/Database.ts"
import { latestMigration, migrate, migrationsTable } from "../../src/postgres/migrations.ts"
import { makeTestDatabase } from "../support/TestDatabase.ts"

/** Connections of their own for each, as in a process of its own. */
const emptyDatabase = Effect.gen(function* () {
  const url = yield* makeTestDatabase({ migrated: false })
  return {
    connected: <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
      Effect.provide(effect, Database.layer({ url, connections: 1, name: "test" }))
  }
})

const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly name: string }>`
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname`
  return rows.map(({ name }) => name)
})

describe("Migrations", () => {
  it.live("are all applied once when several processes migrate an empty database at the same time", () =>
    Effect.gen(function* () {
      const { connected } = yield* emptyDatabase
      const applied = yield* Effect.all(
        Array.from({ length: 4 }, () => connected(migrate)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(applied.flat(), [
        "0001_create_tables",
        "0002_create_triggers",
        "0003_create_ledger",
        "0004_make_updates_cheap",
        "0005_keep_traces",
        "0006_create_pauses",
        "0007_let_new_events_pass",
        "0008_plan_far_games_cheaply",
        "0009_order_ids_by_time"
      ])
      const ids = yield* connected(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          return yield* sql<{ readonly id: number }>`
            SELECT migration_id AS id FROM ${sql(migrationsTable)} ORDER BY migration_id`
        })
      )
      assert.deepStrictEqual(
        ids.map(({ id }) => id),
        Array.from({ length: latestMigration }, (_, index) => index + 1)
      )
    })
  )

  it.live("apply nothing to a database that has them", () =>
    Effect.gen(function* () {
      const { connected } = yield* emptyDatabase
      assert.lengthOf(yield* connected(migrate), latestMigration)
      assert.isEmpty(yield* connected(migrate))
    })
  )

  it.live("change nothing when one of them fails, and say what the database disliked", () =>
    Effect.gen(function* () {
      const { connected } = yield* emptyDatabase
      yield* connected(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* sql`CREATE TABLE dead_letters (somebody text)`
        })
      )
      const error = yield* Effect.flip(connected(migrate))
      assert.strictEqual(error._tag, "MigrationFailed")
      assert.include(error.message, 'relation "dead_letters" already exists')
      assert.include(error.message, "nothing was changed")
      assert.include(error.message, "create_tables")
      assert.notInclude(yield* connected(tables), "game_sessions")
    })
  )

  it.live("let others at a table that somebody uses for long, and are applied when that is over", () =>
    Effect.gen(function* () {
      const { connected } = yield* emptyDatabase
      yield* connected(migrate)
      const query = (statement: string) =>
        connected(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)))
      // As after the restore of an older backup: what the last migration made is there.
      yield* query(`DELETE FROM ${migrationsTable} WHERE migration_id = ${latestMigration}`)
      const held = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const backup = yield* Effect.forkScoped(
        connected(
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            yield* sql.withTransaction(
              Effect.gen(function* () {
                yield* sql`SET LOCAL idle_in_transaction_session_timeout = 0`
                yield* sql`LOCK TABLE game_sessions IN ACCESS SHARE MODE`
                yield* Deferred.succeed(held, undefined)
                yield* Deferred.await(release)
              })
            )
          })
        )
      )
      yield* Deferred.await(held)
      const migration = yield* Effect.forkScoped(connected(migrate))
      yield* query(
        "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted AND relation = 'game_sessions'::regclass"
      ).pipe(Effect.repeat({ until: (waiting) => waiting.length > 0 }))
      // Behind the migration that waits, and not until the end of the backup.
      yield* query("SELECT FROM game_sessions")
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(backup)
      assert.deepStrictEqual(yield* Fiber.join(migration), ["0009_order_ids_by_time"])
    }).pipe(Effect.scoped)
  )

  it.live("say what the database disliked also when they could not begin", () =>
    Effect.gen(function* () {
      const { connected } = yield* emptyDatabase
      const error = yield* Effect.flip(
        connected(
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            yield* sql`SET default_transaction_read_only = on`
            yield* migrate
          })
        )
      )
      assert.strictEqual(
        error.message,
        "The database could not be migrated, nothing was changed: cannot execute CREATE TABLE in a read-only transaction"
      )
      assert.isEmpty(yield* connected(tables))
    })
  )
})
