/** The one statement that an embedded server needs before it can be used like any other. */
import { Effect, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { Database } from "./Database.ts"

/** Creates a database if the server does not have it; `url` is of one that it has. */
export const ensureDatabase = Effect.fn("EmbeddedPostgres.ensureDatabase")((url: Redacted.Redacted, name: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const found = yield* sql`SELECT FROM pg_database WHERE datname = ${name}`
    if (found.length === 0) yield* sql`CREATE DATABASE ${sql(name)}`
  }).pipe(Effect.provide(Database.layer({ url, connections: 1, name: "embedded" })))
)
