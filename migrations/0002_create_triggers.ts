/**
 * The triggers of the two schedule tables: wake-ups, the reset of failed rows, and the release of waiting completions.
 *
 * A wake-up is sent only for rows due within five minutes, because a NOTIFY takes a cluster-wide lock at commit; later
 * rows are found in time by the backstop, which is shorter. The rule looks at no other row: "only if it is now the
 * earliest" loses wake-ups. Functions that name a table keep the search path of the migration, because the writer of a
 * row may have another. Locks: SHARE ROW EXCLUSIVE on the two schedule tables while the triggers are created.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE FUNCTION notify_game_status_schedule_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      earliest record;
    BEGIN
      SELECT id, transition_time INTO earliest
      FROM changed_rows
      WHERE executed = FALSE AND hold IS NULL AND transition_time <= clock_timestamp() + interval '5 minutes'
      ORDER BY transition_time
      LIMIT 1;
      IF FOUND THEN
        PERFORM pg_notify('game_status_schedule_changed', jsonb_build_object(
          'id', earliest.id,
          'transition_time', to_char(earliest.transition_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        )::text);
      END IF;
      RETURN NULL;
    END $$`
  yield* sql`
    CREATE TRIGGER game_status_schedule_notify_insert AFTER INSERT ON game_status_schedule
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION notify_game_status_schedule_changed()`
  yield* sql`
    CREATE TRIGGER game_status_schedule_notify_update AFTER UPDATE ON game_status_schedule
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION notify_game_status_schedule_changed()`

  yield* sql`
    CREATE FUNCTION notify_notification_schedule_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      earliest record;
    BEGIN
      SELECT id, notification_time INTO earliest
      FROM changed_rows
      WHERE sent = FALSE AND hold IS NULL AND notification_time <= clock_timestamp() + interval '5 minutes'
      ORDER BY notification_time
      LIMIT 1;
      IF FOUND THEN
        PERFORM pg_notify('notification_schedule_changed', jsonb_build_object(
          'id', earliest.id,
          'notification_time', to_char(earliest.notification_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        )::text);
      END IF;
      RETURN NULL;
    END $$`
  yield* sql`
    CREATE TRIGGER notification_schedule_notify_insert AFTER INSERT ON notification_schedule
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION notify_notification_schedule_changed()`
  yield* sql`
    CREATE TRIGGER notification_schedule_notify_update AFTER UPDATE ON notification_schedule
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION notify_notification_schedule_changed()`

  // A change of a row's time or done flag, by anyone, makes it a fresh row: no attempts, no backoff, not parked.
  yield* sql`
    CREATE FUNCTION reset_changed_schedule_row() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
      IF OLD.hold = 'parked' THEN
        UPDATE dead_letters
        SET resolved_at = now(), resolved_by = 'schedule change', resolution = 'superseded'
        WHERE source_id = NEW.id AND resolved_at IS NULL;
      END IF;
      NEW.hold := NULL;
      NEW.attempts := 0;
      NEW.retry_at := NULL;
      RETURN NEW;
    END $$`
  yield* sql`
    CREATE TRIGGER game_status_schedule_reset BEFORE UPDATE ON game_status_schedule
    FOR EACH ROW
    WHEN ((OLD.transition_time <> NEW.transition_time OR OLD.executed <> NEW.executed)
      AND (OLD.hold IS NOT NULL OR OLD.attempts <> 0))
    EXECUTE FUNCTION reset_changed_schedule_row()`
  yield* sql`
    CREATE TRIGGER notification_schedule_reset BEFORE UPDATE ON notification_schedule
    FOR EACH ROW
    WHEN ((OLD.notification_time <> NEW.notification_time OR OLD.sent <> NEW.sent)
      AND (OLD.hold IS NOT NULL OR OLD.attempts <> 0))
    EXECUTE FUNCTION reset_changed_schedule_row()`

  // A completion that waits for its start is released when the start is executed, whoever does it. One that somebody
  // holds is left to the backstop: waiting for it would hold up every start of the statement.
  yield* sql`
    CREATE FUNCTION release_waiting_completions() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
      -- The second question also ends the recursion: the update below changes completions, never starts.
      IF EXISTS (SELECT FROM game_status_schedule WHERE executed = FALSE AND hold = 'waiting')
        AND EXISTS (SELECT FROM changed_rows WHERE target_status = 'IN_PROGRESS' AND executed) THEN
        UPDATE game_status_schedule AS completion
        SET hold = NULL
        FROM (
          SELECT waiting.id
          FROM changed_rows AS start
          JOIN game_status_schedule AS waiting ON waiting.game_id = start.game_id
          WHERE start.target_status = 'IN_PROGRESS' AND start.executed
            AND waiting.executed = FALSE AND waiting.hold = 'waiting'
          FOR NO KEY UPDATE OF waiting SKIP LOCKED
        ) AS free
        WHERE completion.id = free.id;
      END IF;
      RETURN NULL;
    END $$`
  yield* sql`
    CREATE TRIGGER game_status_schedule_release AFTER UPDATE ON game_status_schedule
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION release_waiting_completions()`

  // The same flag as `outcome`: a row that is pending again has no past.
  yield* sql`
    CREATE FUNCTION forget_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      NEW.outcome := NULL;
      IF TG_TABLE_NAME = 'notification_schedule' THEN NEW.sent_at := NULL; ELSE NEW.executed_at := NULL; END IF;
      RETURN NEW;
    END $$`
  yield* sql`
    CREATE TRIGGER game_status_schedule_reopen BEFORE UPDATE ON game_status_schedule
    FOR EACH ROW WHEN (OLD.executed AND NOT NEW.executed) EXECUTE FUNCTION forget_outcome()`
  yield* sql`
    CREATE TRIGGER notification_schedule_reopen BEFORE UPDATE ON notification_schedule
    FOR EACH ROW WHEN (OLD.sent AND NOT NEW.sent) EXECUTE FUNCTION forget_outcome()`
})
