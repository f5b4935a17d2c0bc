/**
 * Fills Kickoff's tables with games to come, as fast as the server can: keys are not checked, nobody is notified, and
 * indexes are built afterwards. What lies there in the end is the same as if the API had planned them one by one.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"

const tables = ["game_sessions", "game_status_schedule"] as const

/** From how many rows on it is faster to build the indexes anew than to keep them. */
const manyGames = 50_000

/** Plans games for random times, each with its start and its completion. Intervals are PostgreSQL's. */
export const fillGames = Effect.fnUntraced(function* (
  database: PgConnection.PgConnection,
  options: { readonly games: number; readonly from: string; readonly within: string }
) {
  const { from, games, within } = options
  const rebuild = games > manyGames
  const run = (text: string) => database.query(text)
  yield* run("SET session_replication_role = replica")
  yield* run("SET maintenance_work_mem = '512MB'")
  if (rebuild) {
    // An index that is not ready is not written to; REINDEX makes it whole again.
    for (const table of tables) {
      yield* run(`UPDATE pg_index SET indisready = FALSE, indisvalid = FALSE WHERE indrelid = '${table}'::regclass`)
    }
  }
  yield* run(`
    WITH game AS (
      INSERT INTO game_sessions (guild_id, title, scheduled_at)
      SELECT 'guild ' || n % 10000, 'Game ' || n,
        date_trunc('milliseconds', now() + interval '${from}' + random() * interval '${within}')
      FROM generate_series(1, ${games}) AS n
      RETURNING id, scheduled_at
    )
    INSERT INTO game_status_schedule (game_id, target_status, transition_time)
    SELECT id, target_status, scheduled_at + later
    FROM game CROSS JOIN (VALUES ('IN_PROGRESS', interval '0'), ('COMPLETED', interval '1 hour')) AS row (target_status, later)`)
  if (rebuild) for (const table of tables) yield* run(`REINDEX TABLE ${table}`)
  yield* run("RESET maintenance_work_mem")
  yield* run("RESET session_replication_role")
  for (const table of tables) yield* run(`VACUUM (ANALYZE) ${table}`)
  yield* run("CHECKPOINT")
})
