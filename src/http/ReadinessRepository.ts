/** What `/health/ready` asks the database. */
import { Context, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { sqlState } from "../postgres/Database.ts"
import { migrationsTable } from "../postgres/migrations.ts"

/** SQLSTATE of a table that does not exist. */
const undefinedTable = "42P01"

export class ReadinessRepository extends Context.Service<
  ReadinessRepository,
  {
    /** The id of the newest migration that was applied; 0 if there was none. */
    readonly appliedMigration: Effect.Effect<number, SqlError.SqlError>
  }
>()("kickoff/http/ReadinessRepository") {
  static readonly layer = Layer.effect(
    ReadinessRepository,
    Effect.map(SqlClient.SqlClient, (sql) =>
      ReadinessRepository.of({
        appliedMigration: sql<{ readonly id: number }>`
          SELECT coalesce(max(migration_id), 0)::int AS id FROM ${sql(migrationsTable)}`.pipe(
          Effect.map((rows) => rows[0]?.id ?? 0),
          Effect.catchTag("SqlError", (error) =>
            sqlState(error) === undefinedTable ? Effect.succeed(0) : Effect.fail(error)
          ),
          // The first query after the server came back fails on a stale connection, the second does not.
          Effect.retry({ times: 1 })
        )
      })
    )
  )
}
