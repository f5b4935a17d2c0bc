/** What every connection to PostgreSQL has in common, on a real one. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Database } from "../../src/postgres/Database.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

describe("a connection", () => {
  for (const kind of [{ name: "pool" }, { name: "migration", patient: true }, { name: "pooler", pooler: true }]) {
    it.live(`writes and reads instants in one notation, whatever the database's own is (${kind.name})`, () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { url } = yield* TestDatabase
        // As text, 08:34 in Calcutta ends in "IST", which PostgreSQL before 18 reads as the time of Israel.
        yield* sql`
          DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Calcutta''', current_database());
            EXECUTE format('ALTER DATABASE %I SET DateStyle = ''SQL, DMY''', current_database());
          END $$`
        const texts = Effect.flatMap(
          SqlClient.SqlClient,
          (other) => other`SELECT '2026-02-01T03:04:05.678901Z'::timestamptz::text AS instant`
        )
        assert.deepStrictEqual(
          yield* Effect.provide(texts, Layer.fresh(Database.layer({ url, connections: 1, ...kind }))),
          [{ instant: "2026-02-01 03:04:05.678901+00" }]
        )
      }).pipe(Effect.provide(TestDatabase.layer))
    )
  }

  for (const kind of [{ name: "pool" }, { name: "loop", steady: true }, { name: "migration", patient: true }]) {
    it.live(`is ended by the server within ten seconds of the moment that its host vanishes (${kind.name})`, () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const watch = Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql<{ readonly name: string; readonly seconds: number }>`
            SELECT name, setting::int / CASE unit WHEN 'ms' THEN 1000 ELSE 1 END AS seconds
            FROM pg_settings WHERE name LIKE 'tcp\_%' ORDER BY name`
        )
        const rows = yield* Effect.provide(watch, Layer.fresh(Database.layer({ url, connections: 1, ...kind })))
        const limits = Object.fromEntries(rows.map(({ name, seconds }) => [name, seconds]))
        const of = (name: string) => limits[`tcp_${name}`] ?? 0
        // Idle, and with an answer under way. Zero stands for what the system takes, two hours.
        const idle = of("keepalives_idle") + of("keepalives_interval") * of("keepalives_count")
        assert.isTrue(of("keepalives_idle") > 0 && idle <= 10, `${idle} s`)
        assert.isTrue(of("user_timeout") > 0 && of("user_timeout") <= 10, `${of("user_timeout")} s`)
      }).pipe(Effect.provide(TestDatabase.layer))
    )
  }
})
