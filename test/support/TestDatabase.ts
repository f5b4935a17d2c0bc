/**
 * A fresh, migrated database per test file or test, copied from the run's template and dropped at the end.
 *
 * A `layer(TestDatabase.layer)` block shares one database among its tests; `Effect.provide` within a test makes one for it.
 */
import type { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import { Database } from "../../src/postgres/Database.ts"

export interface TestDatabaseOptions {
  /** The run's PostgreSQL 18 unless given; see `postgres15Url`. */
  readonly server?: string
  /** Whether the schema is there already; it is unless told otherwise. */
  readonly migrated?: boolean
  /** Size of the pool that the layer provides. */
  readonly connections?: number
  /** Whether its sessions are those of loops. */
  readonly steady?: boolean
}

/** Makes a database that lives as long as the scope, and returns its URL. */
export const makeTestDatabase = (
  options: TestDatabaseOptions = {}
): Effect.Effect<Redacted.Redacted, never, Scope.Scope> =>
  Effect.suspend(() => {
    const server = options.server ?? inject("postgresUrl")
    const name = `test_${process.pid}_${randomBytes(6).toString("hex")}`
    const statement = (text: string) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(text)
      }).pipe(
        Effect.provide(Database.layer({ url: Redacted.make(server), connections: 1, name: "test-setup" })),
        Effect.orDie
      )
    const url = new URL(server)
    url.pathname = `/${name}`
    return Effect.acquireRelease(
      statement(
        `CREATE DATABASE ${name} TEMPLATE ${options.migrated === false ? "template0" : inject("postgresTemplate")}`
      ),
      () => statement(`DROP DATABASE ${name} WITH (FORCE)`)
    ).pipe(Effect.as(Redacted.make(url.href)))
  })

/** The address of the test's database, for those who open connections of their own. */
export class TestDatabase extends Context.Service<TestDatabase, { readonly url: Redacted.Redacted }>()(
  "kickoff/test/support/TestDatabase"
) {
  /** A fresh database and a pool on it. */
  static readonly layerWith = (
    options: TestDatabaseOptions
  ): Layer.Layer<TestDatabase | Database | PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> =>
    Layer.unwrap(
      Effect.map(makeTestDatabase(options), (url) =>
        Layer.merge(
          Layer.succeed(TestDatabase, TestDatabase.of({ url })),
          Database.layer({ url, connections: options.connections ?? 10, name: "test", steady: options.steady === true })
        )
      )
    )

  /** A fresh migrated database on PostgreSQL 18. */
  static readonly layer = TestDatabase.layerWith({})
}
