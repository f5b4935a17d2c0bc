/**
 * The tables: games, their two schedules, the outbox, dead letters and idempotency keys.
 *
 * Locks: creates only; nothing that exists is touched.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE game_sessions (
      id                        uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
      guild_id                  text        NOT NULL,
      channel_id                text,
      host_id                   text,
      title                     text        NOT NULL CHECK (char_length(title) BETWEEN 1 AND 200),
      description               text,
      location                  text,
      status                    text        NOT NULL DEFAULT 'SCHEDULED'
                                            CHECK (status IN ('SCHEDULED', 'IN_PROGRESS', 'COMPLETED', 'CANCELLED')),
      scheduled_at              timestamptz NOT NULL
                                            CHECK (isfinite(scheduled_at) AND scheduled_at < '10000-01-01T00:00:00Z'),
      expected_duration_minutes integer     NOT NULL DEFAULT 60 CHECK (expected_duration_minutes >= 0),
      max_players               integer     CHECK (max_players BETWEEN 1 AND 100),
      reminder_minutes          integer[]   NOT NULL DEFAULT '{60,15}'
                                            CHECK (array_position(reminder_minutes, NULL) IS NULL),
      version                   integer     NOT NULL DEFAULT 1,
      created_at                timestamptz NOT NULL DEFAULT now(),
      updated_at                timestamptz NOT NULL DEFAULT now()
    )`
  // The two orders in which games are listed; the status is not indexed, so that a transition stays a heap-only update.
  yield* sql`CREATE INDEX game_sessions_scheduled_idx ON game_sessions (scheduled_at, id)`
  yield* sql`CREATE INDEX game_sessions_guild_idx ON game_sessions (guild_id, scheduled_at, id)`

  yield* sql`
    CREATE TABLE game_status_schedule (
      id              uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
      game_id         uuid        NOT NULL REFERENCES game_sessions (id) ON DELETE CASCADE,
      target_status   text        NOT NULL
                                  CHECK (target_status IN ('SCHEDULED', 'IN_PROGRESS', 'COMPLETED', 'CANCELLED')),
      transition_time timestamptz NOT NULL CHECK (isfinite(transition_time)),
      executed        boolean     NOT NULL DEFAULT FALSE,
      executed_at     timestamptz,
      outcome         text        CHECK (outcome IN ('applied', 'superseded')),
      hold            text        CHECK (hold IN ('retry', 'waiting', 'parked')),
      attempts        integer     NOT NULL DEFAULT 0,
      retry_at        timestamptz CHECK (isfinite(retry_at)),
      created_at      timestamptz NOT NULL DEFAULT now(),
      UNIQUE (game_id, target_status)
    )`
  yield* sql`
    CREATE INDEX game_status_schedule_due_idx ON game_status_schedule (transition_time)
    WHERE executed = FALSE AND hold IS NULL`
  yield* sql`
    CREATE INDEX game_status_schedule_retry_idx ON game_status_schedule (retry_at)
    WHERE executed = FALSE AND hold = 'retry'`
  yield* sql`
    CREATE INDEX game_status_schedule_waiting_idx ON game_status_schedule (game_id)
    WHERE executed = FALSE AND hold = 'waiting'`

  yield* sql`
    CREATE TABLE notification_schedule (
      id                uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
      game_id           uuid        NOT NULL REFERENCES game_sessions (id) ON DELETE CASCADE,
      reminder_minutes  integer     NOT NULL,
      notification_time timestamptz NOT NULL CHECK (isfinite(notification_time)),
      sent              boolean     NOT NULL DEFAULT FALSE,
      sent_at           timestamptz,
      outcome           text        CHECK (outcome IN ('sent', 'skipped')),
      hold              text        CHECK (hold IN ('retry', 'waiting', 'parked')),
      attempts          integer     NOT NULL DEFAULT 0,
      retry_at          timestamptz CHECK (isfinite(retry_at)),
      created_at        timestamptz NOT NULL DEFAULT now(),
      UNIQUE (game_id, reminder_minutes)
    )`
  yield* sql`
    CREATE INDEX notification_schedule_due_idx ON notification_schedule (notification_time)
    WHERE sent = FALSE AND hold IS NULL`
  yield* sql`
    CREATE INDEX notification_schedule_retry_idx ON notification_schedule (retry_at)
    WHERE sent = FALSE AND hold = 'retry'`

  // No foreign key: deleting a game must not take along the events that tell of it.
  yield* sql`
    CREATE TABLE outbox (
      id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      event_id    uuid        NOT NULL DEFAULT gen_random_uuid(),
      game_id     uuid        NOT NULL,
      type        text        NOT NULL,
      occurred_at timestamptz NOT NULL DEFAULT now(),
      due_at      timestamptz,
      data        jsonb       NOT NULL,
      attempts    integer     NOT NULL DEFAULT 0,
      retry_at    timestamptz
    )`
  // An event that failed holds back the later ones of its game; this finds the few that failed.
  yield* sql`CREATE INDEX outbox_retry_idx ON outbox (game_id, id) WHERE retry_at IS NOT NULL`
  // When the first of them is tried again.
  yield* sql`CREATE INDEX outbox_retry_at_idx ON outbox (retry_at) WHERE retry_at IS NOT NULL`

  yield* sql`
    CREATE TABLE dead_letters (
      id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
      kind        text        NOT NULL CHECK (kind IN ('status-transition', 'notification', 'event')),
      source_id   uuid        NOT NULL,
      game_id     uuid,
      due_at      timestamptz,
      error       text        NOT NULL,
      message     text        NOT NULL,
      attempts    integer     NOT NULL,
      payload     jsonb       NOT NULL,
      created_at  timestamptz NOT NULL DEFAULT now(),
      resolved_at timestamptz,
      resolved_by text,
      resolution  text        CHECK (resolution IN ('replayed', 'discarded', 'superseded'))
    )`
  yield* sql`CREATE INDEX dead_letters_open_idx ON dead_letters (created_at, id) WHERE resolved_at IS NULL`
  yield* sql`CREATE INDEX dead_letters_source_idx ON dead_letters (source_id) WHERE resolved_at IS NULL`
  yield* sql`CREATE INDEX dead_letters_game_idx ON dead_letters (game_id) WHERE resolved_at IS NULL`

  yield* sql`
    CREATE TABLE idempotency_keys (
      key          text        PRIMARY KEY,
      request_hash text        NOT NULL,
      game_id      uuid        NOT NULL,
      created_at   timestamptz NOT NULL DEFAULT now()
    )`
  yield* sql`CREATE INDEX idempotency_keys_created_idx ON idempotency_keys (created_at)`
})
