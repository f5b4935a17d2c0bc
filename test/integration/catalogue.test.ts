/**
 * The migrated catalogue, object by object, on each PostgreSQL that the run has.
 *
 * What is written here is what other programs rely on: a migration that loses a trigger, a default or the predicate of
 * an index fails here, and one that adds something says so here.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { migrationsTable } from "../../src/postgres/migrations.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** Table, column, type, and what stands there when a writer names fewer columns. */
const columns = `
confirmations.id bigint NOT NULL IDENTITY
confirmations.confirmed_at timestamptz NOT NULL DEFAULT clock_timestamp()
confirmations.replica text NOT NULL
confirmations.event_ids uuid[] NOT NULL

dead_letters.id uuid NOT NULL DEFAULT gen_random_uuid()
dead_letters.kind text NOT NULL
dead_letters.source_id uuid NOT NULL
dead_letters.game_id uuid
dead_letters.due_at timestamptz
dead_letters.error text NOT NULL
dead_letters.message text NOT NULL
dead_letters.attempts integer NOT NULL
dead_letters.payload jsonb NOT NULL
dead_letters.created_at timestamptz NOT NULL DEFAULT now()
dead_letters.resolved_at timestamptz
dead_letters.resolved_by text
dead_letters.resolution text

game_sessions.id uuid NOT NULL DEFAULT time_ordered_id()
game_sessions.guild_id text NOT NULL
game_sessions.channel_id text
game_sessions.host_id text
game_sessions.title text NOT NULL
game_sessions.description text
game_sessions.location text
game_sessions.status text NOT NULL DEFAULT 'SCHEDULED'
game_sessions.scheduled_at timestamptz NOT NULL
game_sessions.expected_duration_minutes integer NOT NULL DEFAULT 60
game_sessions.max_players integer
game_sessions.reminder_minutes integer[] NOT NULL DEFAULT '{60,15}'
game_sessions.version integer NOT NULL DEFAULT 1
game_sessions.created_at timestamptz NOT NULL DEFAULT now()
game_sessions.updated_at timestamptz NOT NULL DEFAULT now()

game_status_schedule.id uuid NOT NULL DEFAULT time_ordered_id()
game_status_schedule.game_id uuid NOT NULL
game_status_schedule.target_status text NOT NULL
game_status_schedule.transition_time timestamptz NOT NULL
game_status_schedule.executed boolean NOT NULL DEFAULT false
game_status_schedule.executed_at timestamptz
game_status_schedule.outcome text
game_status_schedule.hold text
game_status_schedule.attempts integer NOT NULL DEFAULT 0
game_status_schedule.retry_at timestamptz
game_status_schedule.created_at timestamptz NOT NULL DEFAULT now()
game_status_schedule.traceparent text

idempotency_keys.key text NOT NULL
idempotency_keys.request_hash text NOT NULL
idempotency_keys.game_id uuid NOT NULL
idempotency_keys.created_at timestamptz NOT NULL DEFAULT now()

ledger.id bigint NOT NULL IDENTITY
ledger.recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
ledger.replica text NOT NULL
ledger.kind text NOT NULL
ledger.source_ids uuid[] NOT NULL
ledger.game_ids uuid[] NOT NULL
ledger.targets text[] NOT NULL
ledger.due_at timestamptz[] NOT NULL
ledger.outcomes text[] NOT NULL
ledger.attempts integer[] NOT NULL
ledger.event_ids uuid[] NOT NULL

notification_schedule.id uuid NOT NULL DEFAULT time_ordered_id()
notification_schedule.game_id uuid NOT NULL
notification_schedule.reminder_minutes integer NOT NULL
notification_schedule.notification_time timestamptz NOT NULL
notification_schedule.sent boolean NOT NULL DEFAULT false
notification_schedule.sent_at timestamptz
notification_schedule.outcome text
notification_schedule.hold text
notification_schedule.attempts integer NOT NULL DEFAULT 0
notification_schedule.retry_at timestamptz
notification_schedule.created_at timestamptz NOT NULL DEFAULT now()
notification_schedule.traceparent text

outbox.id bigint NOT NULL IDENTITY
outbox.event_id uuid NOT NULL DEFAULT gen_random_uuid()
outbox.game_id uuid NOT NULL
outbox.type text NOT NULL
outbox.occurred_at timestamptz NOT NULL DEFAULT now()
outbox.due_at timestamptz
outbox.data json NOT NULL
outbox.attempts integer NOT NULL DEFAULT 0
outbox.retry_at timestamptz
outbox.traceparent text

pauses.id bigint NOT NULL IDENTITY
pauses.kind text NOT NULL
pauses.paused_at timestamptz NOT NULL DEFAULT now()
pauses.paused_by text NOT NULL DEFAULT CURRENT_USER
pauses.reason text
pauses.resumed_at timestamptz
pauses.resumed_by text
`

/** Checks, keys and references. */
const constraints = `
confirmations: PRIMARY KEY (id)
dead_letters: CHECK ((kind = ANY (ARRAY['status-transition', 'notification', 'event'])))
dead_letters: CHECK ((resolution = ANY (ARRAY['replayed', 'discarded', 'superseded'])))
dead_letters: PRIMARY KEY (id)
game_sessions: CHECK ((expected_duration_minutes >= 0))
game_sessions: CHECK (((max_players >= 1) AND (max_players <= 100)))
game_sessions: CHECK ((array_position(reminder_minutes, NULL::integer) IS NULL))
game_sessions: CHECK ((isfinite(scheduled_at) AND (scheduled_at < '10000-01-01 00:00:00+00'::timestamptz)))
game_sessions: CHECK ((status = ANY (ARRAY['SCHEDULED', 'IN_PROGRESS', 'COMPLETED', 'CANCELLED'])))
game_sessions: CHECK (((char_length(title) >= 1) AND (char_length(title) <= 200)))
game_sessions: PRIMARY KEY (id)
game_status_schedule: CHECK ((hold = ANY (ARRAY['retry', 'waiting', 'parked'])))
game_status_schedule: CHECK ((outcome = ANY (ARRAY['applied', 'superseded'])))
game_status_schedule: CHECK (isfinite(retry_at))
game_status_schedule: CHECK ((target_status = ANY (ARRAY['SCHEDULED', 'IN_PROGRESS', 'COMPLETED', 'CANCELLED'])))
game_status_schedule: CHECK (((traceparent ~~ '00-________________________________-________________-__') AND (traceparent ~ ('^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$' COLLATE "C")))) NOT VALID
game_status_schedule: CHECK (isfinite(transition_time))
game_status_schedule: FOREIGN KEY (game_id) REFERENCES game_sessions(id) ON DELETE CASCADE
game_status_schedule: PRIMARY KEY (id)
game_status_schedule: UNIQUE (game_id, target_status)
idempotency_keys: PRIMARY KEY (key)
ledger: CHECK ((kind = ANY (ARRAY['status-transition', 'notification'])))
ledger: PRIMARY KEY (id)
notification_schedule: CHECK ((hold = ANY (ARRAY['retry', 'waiting', 'parked'])))
notification_schedule: CHECK (isfinite(notification_time))
notification_schedule: CHECK ((outcome = ANY (ARRAY['sent', 'skipped'])))
notification_schedule: CHECK (isfinite(retry_at))
notification_schedule: CHECK (((traceparent ~~ '00-________________________________-________________-__') AND (traceparent ~ ('^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$' COLLATE "C")))) NOT VALID
notification_schedule: FOREIGN KEY (game_id) REFERENCES game_sessions(id) ON DELETE CASCADE
notification_schedule: PRIMARY KEY (id)
notification_schedule: UNIQUE (game_id, reminder_minutes)
outbox: CHECK (((traceparent ~~ '00-________________________________-________________-__') AND (traceparent ~ ('^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$' COLLATE "C")))) NOT VALID
outbox: PRIMARY KEY (id)
pauses: CHECK ((kind = ANY (ARRAY['status-transition', 'notification'])))
pauses: CHECK (((char_length(reason) >= 1) AND (char_length(reason) <= 500)))
pauses: PRIMARY KEY (id)
`

/** Indexes with their predicates. */
const indexes = `
confirmations_confirmed_idx ON confirmations (confirmed_at)
confirmations_pkey UNIQUE ON confirmations (id)
dead_letters_game_idx ON dead_letters (game_id) WHERE (resolved_at IS NULL)
dead_letters_open_idx ON dead_letters (created_at, id) WHERE (resolved_at IS NULL)
dead_letters_pkey UNIQUE ON dead_letters (id)
dead_letters_source_idx ON dead_letters (source_id) WHERE (resolved_at IS NULL)
game_sessions_guild_idx ON game_sessions (guild_id, scheduled_at, id)
game_sessions_pkey UNIQUE ON game_sessions (id)
game_sessions_scheduled_idx ON game_sessions (scheduled_at, id)
game_status_schedule_due_idx ON game_status_schedule (transition_time) WHERE ((executed = false) AND (hold IS NULL))
game_status_schedule_game_id_target_status_key UNIQUE ON game_status_schedule (game_id, target_status)
game_status_schedule_pkey UNIQUE ON game_status_schedule (id)
game_status_schedule_retry_idx ON game_status_schedule (retry_at) WHERE ((executed = false) AND (hold = 'retry'))
game_status_schedule_waiting_idx ON game_status_schedule (game_id) WHERE ((executed = false) AND (hold = 'waiting'))
idempotency_keys_created_idx ON idempotency_keys (created_at)
idempotency_keys_pkey UNIQUE ON idempotency_keys (key)
ledger_pkey UNIQUE ON ledger (id)
ledger_recorded_idx ON ledger (recorded_at)
notification_schedule_due_idx ON notification_schedule (notification_time) WHERE ((sent = false) AND (hold IS NULL))
notification_schedule_game_id_reminder_minutes_key UNIQUE ON notification_schedule (game_id, reminder_minutes)
notification_schedule_pkey UNIQUE ON notification_schedule (id)
notification_schedule_retry_idx ON notification_schedule (retry_at) WHERE ((sent = false) AND (hold = 'retry'))
outbox_game_idx ON outbox (game_id)
outbox_latest_idx ON outbox (COALESCE(due_at, occurred_at)) WHERE (retry_at IS NULL)
outbox_pkey UNIQUE ON outbox (id)
outbox_retry_at_idx ON outbox (retry_at) WHERE (retry_at IS NOT NULL)
pauses_open_idx UNIQUE ON pauses (kind) WHERE (resumed_at IS NULL)
pauses_pkey UNIQUE ON pauses (id)
`

/** Triggers: when they run, and what they run. */
const triggers = `
game_status_schedule_notify_insert AFTER INSERT ON game_status_schedule REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT WHEN ((current_setting('kickoff.due_soon', true) = 'yes')) EXECUTE FUNCTION notify_game_status_schedule_changed()
game_status_schedule_notify_update AFTER UPDATE ON game_status_schedule REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT WHEN ((current_setting('kickoff.due_soon', true) = 'yes')) EXECUTE FUNCTION notify_game_status_schedule_changed()
game_status_schedule_release AFTER UPDATE ON game_status_schedule REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION release_waiting_completions()
game_status_schedule_reopen BEFORE UPDATE ON game_status_schedule FOR EACH ROW WHEN ((old.executed AND (NOT new.executed))) EXECUTE FUNCTION forget_outcome()
game_status_schedule_reset BEFORE UPDATE ON game_status_schedule FOR EACH ROW WHEN ((((old.transition_time <> new.transition_time) OR (old.executed <> new.executed)) AND ((old.hold IS NOT NULL) OR (old.attempts <> 0)))) EXECUTE FUNCTION reset_changed_schedule_row()
game_status_schedule_soon BEFORE INSERT OR UPDATE ON game_status_schedule FOR EACH ROW WHEN (((new.executed = false) AND (new.hold IS NULL) AND (new.transition_time <= (clock_timestamp() + '00:05:00'::interval)))) EXECUTE FUNCTION mark_due_soon()
notification_schedule_notify_insert AFTER INSERT ON notification_schedule REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT WHEN ((current_setting('kickoff.due_soon', true) = 'yes')) EXECUTE FUNCTION notify_notification_schedule_changed()
notification_schedule_notify_update AFTER UPDATE ON notification_schedule REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT WHEN ((current_setting('kickoff.due_soon', true) = 'yes')) EXECUTE FUNCTION notify_notification_schedule_changed()
notification_schedule_reopen BEFORE UPDATE ON notification_schedule FOR EACH ROW WHEN ((old.sent AND (NOT new.sent))) EXECUTE FUNCTION forget_outcome()
notification_schedule_reset BEFORE UPDATE ON notification_schedule FOR EACH ROW WHEN ((((old.notification_time <> new.notification_time) OR (old.sent <> new.sent)) AND ((old.hold IS NOT NULL) OR (old.attempts <> 0)))) EXECUTE FUNCTION reset_changed_schedule_row()
notification_schedule_soon BEFORE INSERT OR UPDATE ON notification_schedule FOR EACH ROW WHEN (((new.sent = false) AND (new.hold IS NULL) AND (new.notification_time <= (clock_timestamp() + '00:05:00'::interval)))) EXECUTE FUNCTION mark_due_soon()
pauses_notify AFTER INSERT OR DELETE OR UPDATE ON pauses FOR EACH ROW EXECUTE FUNCTION notify_pauses_changed()
`

/** Functions; those that name a table keep a search path of their own. */
const functions = `
forget_outcome() trigger plpgsql
mark_due_soon() trigger plpgsql
notify_game_status_schedule_changed() trigger plpgsql
notify_notification_schedule_changed() trigger plpgsql
notify_pauses_changed() trigger plpgsql
release_waiting_completions() trigger plpgsql SET search_path
reset_changed_schedule_row() trigger plpgsql SET search_path
time_ordered_id() uuid sql
`

const lines = (text: string): ReadonlyArray<string> => text.split("\n").filter((line) => line !== "")

const read = Effect.fnUntraced(function* (
  query: (sql: SqlClient.SqlClient) => Effect.Effect<ReadonlyArray<{ readonly line: string }>, unknown>
) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* Effect.orDie(query(sql))
  return rows.map(({ line }) =>
    line
      .replaceAll("timestamp with time zone", "timestamptz")
      .replaceAll("::text", "")
      .replaceAll("::integer[]", "")
      .replaceAll("public.", "")
  )
})

const readColumns = read(
  (sql) => sql<{ readonly line: string }>`
  SELECT format('%s.%s %s%s%s', relname, attname, format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN ' NOT NULL' END,
    CASE attidentity WHEN 'a' THEN ' IDENTITY' ELSE ' DEFAULT ' || pg_get_expr(adbin, adrelid) END) AS line
  FROM pg_attribute
  JOIN pg_class ON pg_class.oid = attrelid AND relkind = 'r'
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  WHERE relnamespace = 'public'::regnamespace AND relname <> ${migrationsTable} AND attnum > 0 AND NOT attisdropped
  ORDER BY relname, attnum`
)

// PostgreSQL 18 lists NOT NULL among the constraints; here it stands with the columns.
const readConstraints = read(
  (sql) => sql<{ readonly line: string }>`
  SELECT format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid)) AS line
  FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid <> ${migrationsTable}::regclass
  ORDER BY conrelid::regclass::text, contype, conname`
)

const readIndexes = read(
  (sql) => sql<{ readonly line: string }>`
  SELECT regexp_replace(indexdef, '^CREATE (UNIQUE )?INDEX (\\S+) ON (\\S+) USING btree', '\\2 \\1ON \\3') AS line
  FROM pg_indexes
  WHERE schemaname = 'public' AND tablename <> ${migrationsTable}
  ORDER BY indexname`
)

const readTriggers = read(
  (sql) => sql<{ readonly line: string }>`
  SELECT replace(pg_get_triggerdef(oid), 'CREATE TRIGGER ', '') AS line
  FROM pg_trigger
  WHERE NOT tgisinternal
  ORDER BY tgname`
)

const readFunctions = read(
  (sql) => sql<{ readonly line: string }>`
  SELECT format('%s(%s) %s %s%s', proname, pg_get_function_arguments(pg_proc.oid), prorettype::regtype, lanname,
    CASE WHEN proconfig::text LIKE '%search_path=%' THEN ' SET search_path' END) AS line
  FROM pg_proc
  JOIN pg_language ON pg_language.oid = prolang
  WHERE pronamespace = 'public'::regnamespace
  ORDER BY proname`
)

const postgres15Url = inject("postgres15Url")
const servers = [
  { version: 18, server: inject("postgresUrl") },
  ...(postgres15Url === null ? [] : [{ version: 15, server: postgres15Url }])
]

describe.each(servers)("The migrated catalogue on PostgreSQL $version", ({ server, version }) => {
  const database = TestDatabase.layerWith({ server })

  it.effect("is that of the version it is named after", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{
        readonly major: number
      }>`SELECT current_setting('server_version_num')::int / 10000 AS major`
      assert.strictEqual(row?.major, version)
    }).pipe(Effect.provide(database))
  )

  it.effect("has these columns, with these types and defaults", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* readColumns, lines(columns))
    }).pipe(Effect.provide(database))
  )

  it.effect("has these constraints", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* readConstraints, lines(constraints))
    }).pipe(Effect.provide(database))
  )

  it.effect("has these indexes, with these predicates", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* readIndexes, lines(indexes))
    }).pipe(Effect.provide(database))
  )

  it.effect("has these triggers and functions", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* readTriggers, lines(triggers))
      assert.deepStrictEqual(yield* readFunctions, lines(functions))
    }).pipe(Effect.provide(database))
  )

  it.effect(
    "gives games and schedule rows ids of version 7, which begin with the millisecond in which they were made",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const clock = Effect.map(
          sql<{
            readonly millis: string
          }>`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint::text AS millis`,
          ([row]) => Number(row?.millis)
        )
        const before = yield* clock
        const ids = yield* sql<{ readonly id: string }>`
        WITH game AS (
          INSERT INTO game_sessions (guild_id, title, scheduled_at)
          SELECT 'guild', 'a game', now() + interval '1 day' FROM generate_series(1, 100)
          RETURNING id
        ), transition AS (
          INSERT INTO game_status_schedule (game_id, target_status, transition_time)
          SELECT id, 'IN_PROGRESS', now() + interval '1 day' FROM game
          RETURNING id
        ), reminder AS (
          INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
          SELECT id, 60, now() + interval '1 day' FROM game
          RETURNING id
        )
        SELECT id FROM game UNION ALL SELECT id FROM transition UNION ALL SELECT id FROM reminder`
        const after = yield* clock
        assert.strictEqual(new Set(ids.map(({ id }) => id)).size, 300)
        for (const { id } of ids) {
          assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
          const made = parseInt(id.replace("-", "").slice(0, 12), 16)
          assert.isAtLeast(made, before)
          assert.isAtMost(made, after)
        }
      }).pipe(Effect.provide(database))
  )
})
