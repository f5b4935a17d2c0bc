/**
 * Keeps the trace that a game was planned in with its schedule, and that of a change with the event that tells of it, as a W3C
 * `traceparent`.
 *
 * No index has the column, so it costs an update nothing. Locks: ACCESS EXCLUSIVE on the three tables for a moment; the check
 * is NOT VALID, because the rows that are there need not be read to know that they have no trace.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  for (const table of ["game_status_schedule", "notification_schedule", "outbox"]) {
    yield* sql`ALTER TABLE ${sql(table)} ADD COLUMN traceparent text`
    yield* sql`
      ALTER TABLE ${sql(table)} ADD CHECK (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$') NOT VALID`
  }
})
