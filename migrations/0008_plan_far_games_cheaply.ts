/**
 * Lets a statement that changes no row due soon pass by without a question: most games are planned for days ahead.
 *
 * A row that is due within five minutes leaves a mark in its transaction, and only then the triggers look for the earliest
 * of their statement. The mark is not taken back before the transaction ends: a statement within another would take it
 * from that one, and its wake-up would be lost. The triggers that leave it run after those that reset or reopen a row,
 * by their names. Nothing in the code asks for the index that goes: what rests is found by when it is tried again.
 * Locks: SHARE ROW EXCLUSIVE and ACCESS EXCLUSIVE on the two schedule tables, and the latter on the outbox, for a moment.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const schedules = [
  { table: "game_status_schedule", done: "executed", due: "transition_time" },
  { table: "notification_schedule", done: "sent", due: "notification_time" }
]

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE FUNCTION mark_due_soon() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM set_config('kickoff.due_soon', 'yes', TRUE);
      RETURN NEW;
    END $$`

  for (const { done, due, table } of schedules) {
    yield* sql`
      CREATE TRIGGER ${sql(`${table}_soon`)} BEFORE INSERT OR UPDATE ON ${sql(table)}
      FOR EACH ROW
      WHEN (NEW.${sql(done)} = FALSE AND NEW.hold IS NULL AND NEW.${sql(due)} <= clock_timestamp() + interval '5 minutes')
      EXECUTE FUNCTION mark_due_soon()`
    for (const event of ["INSERT", "UPDATE"]) {
      const name = sql(`${table}_notify_${event.toLowerCase()}`)
      yield* sql`DROP TRIGGER ${name} ON ${sql(table)}`
      yield* sql`
        CREATE TRIGGER ${name} AFTER ${sql.literal(event)} ON ${sql(table)}
        REFERENCING NEW TABLE AS changed_rows
        FOR EACH STATEMENT WHEN (current_setting('kickoff.due_soon', TRUE) = 'yes')
        EXECUTE FUNCTION ${sql(`notify_${table}_changed`)}()`
    }
  }

  yield* sql`DROP INDEX outbox_retry_idx`
})
