/** Statements of the benchmark's own, on a bare session: nothing of what is measured is in the way. */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted, type Scope } from "effect"
import type { SqlError } from "effect/sql"

/** A session that lives as long as the scope. */
export const connect = (url: string): Effect.Effect<PgConnection.PgConnection, SqlError.SqlError, Scope.Scope> =>
  PgConnection.make({ url: Redacted.make(url), applicationName: "kickoff-bench" })

/** The one number that a query answers. */
export const readNumber = (database: PgConnection.PgConnection, text: string) =>
  Effect.map(database.queryValues(text), ([row]) => Number(row?.[0]))

/** The one text that a query answers. */
export const readText = (database: PgConnection.PgConnection, text: string) =>
  Effect.map(database.queryValues(text), ([row]) => String(row?.[0]))
