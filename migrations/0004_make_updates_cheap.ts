/**
 * Makes what happens to every game cheap: its two transitions, and the event that tells of each.
 *
 * Half of each page of games is left free, so that a new version of a game fits beside the old one and no index needs to
 * know of it. Events are json, because they are carried and never asked: jsonb would be made, and unmade to be sent.
 * Locks: ACCESS EXCLUSIVE on the outbox while it is rewritten, which takes as long as it is full; SHARE UPDATE EXCLUSIVE
 * on the games for a moment. Pages that are full already stay so until their games are gone.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE game_sessions SET (fillfactor = 50)`
  yield* sql`ALTER TABLE outbox ALTER COLUMN data TYPE json`
})
