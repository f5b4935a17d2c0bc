/** Which migrations a database has had; one that has had none is not migrated, and no failure. */
import { Context, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { sqlState } from "./Database.ts"
import { migrationsTable } from "./migrations.ts"

/** SQLSTATE of a table that does not exist. */
const undefinedTable = "42P01"

export class MigrationRepository extends Context.Service<
  MigrationRepository,
  {
    /** The id of the newest one; 0 if there was none. */
    readonly newest: Effect.Effect<number, SqlError.SqlError>
  }
>()("kickoff/postgres/MigrationRepository") {
  static readonly layer = Layer.effect(
    MigrationRepository,
    Effect.map(SqlClient.SqlClient, (sql) =>
      MigrationRepository.of({
        newest: sql<{ readonly id: number }>`
          SELECT coalesce(max(migration_id), 0)::int AS id FROM ${sql(migrationsTable)}`.pipe(
          Effect.map((rows) => rows[0]?.id ?? 0),
          Effect.catchTag("SqlError", (error) =>
            sqlState(error) === undefinedTable ? Effect.succeed(0) : Effect.fail(error)
          )
        )
      })
    )
  )
}
