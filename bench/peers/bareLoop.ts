/**
 * The least that can start a game on time: sleep until the earliest due time, one UPDATE, publish, wait for the confirm.
 *
 * It has no outbox, no locks, no notifications and no second table, so a crash loses events. Nothing correct is faster.
 * Set to one row per loop it is the plain plan, as one would write it at first.
 */
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"
import { gamesTable, insertGames, type Peer, runPeer, startedColumns } from "../peer.ts"

const loop: Omit<Peer, "name"> = {
  file: fileURLToPath(import.meta.url),
  schema: [gamesTable, "CREATE INDEX games_due_idx ON games (due_at) WHERE status = 'SCHEDULED'"],
  plan: (answer) => `WITH planned AS (${insertGames}) ${answer}`,
  clear: "TRUNCATE games"
}

export const bareLoop: Peer = { ...loop, name: "bare loop" }

export const plainPlan: Peer = { ...loop, name: "plain plan, a row per loop", args: ["one"] }

const startAll = `
  UPDATE games SET status = 'IN_PROGRESS', version = version + 1
  WHERE status = 'SCHEDULED' AND due_at <= now()
  RETURNING ${startedColumns}`

const startOne = `
  UPDATE games SET status = 'IN_PROGRESS', version = version + 1
  WHERE id = (SELECT id FROM games WHERE status = 'SCHEDULED' AND due_at <= now() ORDER BY due_at LIMIT 1)
  RETURNING ${startedColumns}`

if (import.meta.main) {
  const start = process.argv.includes("one") ? startOne : startAll
  runPeer(
    Effect.fnUntraced(function* ({ connect, publish }) {
      const database = yield* connect
      return Effect.fnUntraced(function* () {
        for (;;) {
          const [next] = yield* database.queryValues(
            `SELECT (extract(epoch FROM min(due_at) - clock_timestamp()) * 1000)::float8 FROM games
             WHERE status = 'SCHEDULED'`
          )
          const wait = next?.[0]
          if (typeof wait !== "number") return
          if (wait > 0) yield* Effect.sleep(Duration.millis(Math.ceil(wait)))
          const started = yield* database.queryValues(start)
          if (started.length > 0) {
            yield* Effect.promise(() =>
              publish(
                started.map(([id, time, data]) => ({
                  id: randomUUID(),
                  game_id: String(id),
                  time: String(time),
                  data: String(data)
                }))
              )
            )
          }
        }
      })
    })
  )
}
