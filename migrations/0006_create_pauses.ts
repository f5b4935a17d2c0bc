/**
 * Who has paused a kind of schedule, when and why, and who has ended it. While a pause is open, which at most one of a
 * kind is, nothing of that kind is claimed.
 *
 * Every loop hears of a change, whoever makes it, because the end of a pause must not wait for the backstop. Those that
 * are over stay on record for as long as the ledger does. Locks: creates only; nothing that exists is touched.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE pauses (
      id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      kind       text        NOT NULL CHECK (kind IN ('status-transition', 'notification')),
      paused_at  timestamptz NOT NULL DEFAULT now(),
      paused_by  text        NOT NULL DEFAULT current_user,
      reason     text        CHECK (char_length(reason) BETWEEN 1 AND 500),
      resumed_at timestamptz,
      resumed_by text
    )`
  yield* sql`CREATE UNIQUE INDEX pauses_open_idx ON pauses (kind) WHERE resumed_at IS NULL`

  yield* sql`
    CREATE FUNCTION notify_pauses_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_notify('pauses_changed', '');
      RETURN NULL;
    END $$`
  // For each row, so that a statement that changes none tells nobody.
  yield* sql`
    CREATE TRIGGER pauses_notify AFTER INSERT OR UPDATE OR DELETE ON pauses
    FOR EACH ROW EXECUTE FUNCTION notify_pauses_changed()`
})
