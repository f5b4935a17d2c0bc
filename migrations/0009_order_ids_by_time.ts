/**
 * Lets the ids of games and schedule rows begin with when they were made (UUID version 7), so that what is planned together lies
 * together in every index by id: far fewer pages are written to, and kept in memory, than by ids that are random from the first digit.
 *
 * An id gives away when its row was made, which the row tells anyway; 74 bits stay random. PostgreSQL has such a function
 * only since 18, so this is one of our own, and it names nothing that a search path could give another meaning. Whoever may
 * insert needs it, so everybody may call it. It may be there already, where the backup of an older schema was restored.
 * Locks: ACCESS EXCLUSIVE on the three tables for a moment; rows that are there keep their ids.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // 48 bits of milliseconds before a random UUID of version 4; two bits make it one of version 7.
  yield* sql`
    CREATE OR REPLACE FUNCTION time_ordered_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN encode(
      set_bit(
        set_bit(
          overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            FROM 1 FOR 6
          ), 52, 1
        ), 53, 1
      ), 'hex'
    )::uuid`
  yield* sql`GRANT EXECUTE ON FUNCTION time_ordered_id() TO PUBLIC`
  // In the order in which the loops come to them.
  for (const table of ["notification_schedule", "game_status_schedule", "game_sessions"]) {
    yield* sql`ALTER TABLE ${sql(table)} ALTER COLUMN id SET DEFAULT time_ordered_id()`
  }
})
