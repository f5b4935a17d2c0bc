/**
 * Fills Kickoff's tables with games to come, as fast as the server can: keys are not checked, nobody is notified, and
 * indexes are built afterwards. What lies there in the end is the same as if the API had planned them one by one.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"
import { readNumber } from "./sql.ts"

const tables = ["game_sessions", "game_status_schedule"] as const

/** Building indexes anew is faster than keeping them when at least so many games come to those that are there. */
const manyGames = 50_000
const manyToThose = 0.25

/**
 * Plans games, each with its start and its completion: for random times, or in the order in which they are inserted.
 * Intervals are PostgreSQL's.
 */
export const fillGames = Effect.fnUntraced(function* (
  database: PgConnection.PgConnection,
  options: { readonly games: number; readonly from: string; readonly within: string; readonly inOrder?: boolean }
) {
  const { from, games, inOrder = false, within } = options
  const share = inOrder ? `n / ${games}::float8` : "random()"
  const there = yield* readNumber(database, "SELECT reltuples::float8 FROM pg_class WHERE relname = 'game_sessions'")
  const rebuild = games >= Math.max(manyGames, manyToThose * there)
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
        date_trunc('milliseconds', now() + interval '${from}' + ${share} * interval '${within}')
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
