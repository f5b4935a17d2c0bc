/**
 * Keeps the trace that a game was planned in with its schedule, and that of a change with the event that tells of it, as a W3C
 * `traceparent`.
 *
 * No index has the column. Its check is asked at every change of a row, so it is one that is quick: lengths as a LIKE,
 * because counting them in the regular expression takes ten times as long. Locks: ACCESS EXCLUSIVE on the three tables for a
 * moment; the check is NOT VALID, because the rows that are there need not be read to know that they have no trace.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  for (const table of ["game_status_schedule", "notification_schedule", "outbox"]) {
    yield* sql`ALTER TABLE ${sql(table)} ADD COLUMN traceparent text`
    yield* sql`
      ALTER TABLE ${sql(table)} ADD CHECK (
        traceparent LIKE '00-________________________________-________________-__'
        AND traceparent ~ '^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$' COLLATE "C"
      ) NOT VALID`
  }
})
