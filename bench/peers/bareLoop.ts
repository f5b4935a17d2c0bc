/**
 * The least that can start a game on time: sleep until the earliest due time, one UPDATE, publish, wait for the confirm.
 *
 * It has no outbox, no locks, no notifications and no second table, so a crash loses events. Nothing correct is faster.
 */
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"
import { type Peer, runPeer } from "../peer.ts"

export const bareLoop: Peer = {
  name: "bare loop",
  file: fileURLToPath(import.meta.url),
  schema: [
    `CREATE TABLE games (
      id uuid PRIMARY KEY DEFAULT gen_random_uuid(), guild_id text NOT NULL, title text NOT NULL,
      status text NOT NULL DEFAULT 'SCHEDULED', due_at timestamptz NOT NULL, version integer NOT NULL DEFAULT 1)`,
    "CREATE INDEX games_due_idx ON games (due_at) WHERE status = 'SCHEDULED'"
  ],
  plan: `
    INSERT INTO games (guild_id, title, due_at)
    SELECT 'bench', 'Game ' || n,
      date_trunc('milliseconds', statement_timestamp()) + ($2::float8 + due) * interval '1 millisecond'
    FROM unnest($1::float8[]) WITH ORDINALITY AS game (due, n)
    RETURNING id, (extract(epoch FROM due_at) * 1000)::float8`,
  clear: "TRUNCATE games"
}

if (import.meta.main) {
  runPeer(
    Effect.fnUntraced(function* ({ connect, publish }) {
      const database = yield* connect
      return Effect.gen(function* () {
        for (;;) {
          const [next] = yield* database.queryValues(
            `SELECT (extract(epoch FROM min(due_at) - clock_timestamp()) * 1000)::float8 FROM games
             WHERE status = 'SCHEDULED'`
          )
          const wait = next?.[0]
          if (typeof wait !== "number") return
          if (wait > 0) yield* Effect.sleep(Duration.millis(Math.ceil(wait)))
          const started = yield* database.queryValues(
            `UPDATE games SET status = 'IN_PROGRESS', version = version + 1
             WHERE status = 'SCHEDULED' AND due_at <= now()
             RETURNING id, now()::text, jsonb_build_object(
               'game_id', id, 'title', title, 'guild_id', guild_id, 'channel_id', NULL, 'host_id', NULL,
               'status', status, 'scheduled_at', due_at, 'version', version, 'transition_time', due_at,
               'lateness_ms', round(extract(epoch FROM clock_timestamp() - due_at) * 1000, 3))::text`
          )
          if (started.length > 0) {
            yield* publish(
              started.map(([id, time, data]) => ({
                id: randomUUID(),
                game_id: String(id),
                time: String(time),
                data: String(data)
              }))
            )
          }
        }
      })
    })
  )
}
