/**
 * What was done, for those who want proof: which schedule rows took effect when and by which replica, and which events
 * the broker has confirmed.
 *
 * One row per batch with parallel arrays, so that keeping the record costs next to nothing in a burst. No foreign keys:
 * deleting a game must not erase the evidence. Locks: creates only; nothing that exists is touched.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE ledger (
      id          bigint        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      recorded_at timestamptz   NOT NULL DEFAULT clock_timestamp(),
      replica     text          NOT NULL,
      kind        text          NOT NULL CHECK (kind IN ('status-transition', 'notification')),
      source_ids  uuid[]        NOT NULL,
      game_ids    uuid[]        NOT NULL,
      targets     text[]        NOT NULL,
      due_at      timestamptz[] NOT NULL,
      outcomes    text[]        NOT NULL,
      attempts    integer[]     NOT NULL,
      event_ids   uuid[]        NOT NULL
    )`
  yield* sql`CREATE INDEX ledger_recorded_idx ON ledger (recorded_at)`

  yield* sql`
    CREATE TABLE confirmations (
      id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      confirmed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      replica      text        NOT NULL,
      event_ids    uuid[]      NOT NULL
    )`
  yield* sql`CREATE INDEX confirmations_confirmed_idx ON confirmations (confirmed_at)`
})
