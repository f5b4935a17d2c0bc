/**
 * Finds the newest events of a backlog, and whether an earlier one of the same game waits, so that what happens now need not
 * wait until all has been told that happened before.
 *
 * Two indexes that every event enters. The one by games has no condition, so that no other can take its place in a plan that
 * was made while the outbox was empty.
 * Locks: SHARE on the outbox while they are built, which takes as long as it is full.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`CREATE INDEX outbox_latest_idx ON outbox (coalesce(due_at, occurred_at)) WHERE retry_at IS NULL`
  yield* sql`CREATE INDEX outbox_game_idx ON outbox (game_id)`
})
