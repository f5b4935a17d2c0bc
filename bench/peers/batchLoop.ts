/**
 * The fastest correct way through many games that are due at once: one set-based statement per 1,000 games with an
 * outbox row for each event, publishing with a window of 1,000 while the next batch is claimed, deletion behind it.
 *
 * It lacks what makes a service of it: events are not read back from the outbox, and nothing is handled that goes wrong.
 */
import { Duration, Effect, Queue } from "effect"
import { fileURLToPath } from "node:url"
import { gamesTable, insertGames, type OutgoingEvent, type Peer, runPeer } from "../peer.ts"

export const batchLoop: Peer = {
  name: "limit loop",
  file: fileURLToPath(import.meta.url),
  schema: [
    gamesTable,
    `CREATE TABLE schedule (
      id uuid PRIMARY KEY DEFAULT gen_random_uuid(), game_id uuid NOT NULL, target_status text NOT NULL,
      transition_time timestamptz NOT NULL, executed boolean NOT NULL DEFAULT FALSE)`,
    "CREATE INDEX schedule_due_idx ON schedule (transition_time) WHERE executed = FALSE",
    `CREATE TABLE outbox (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL DEFAULT gen_random_uuid(),
      game_id uuid NOT NULL, type text NOT NULL, occurred_at timestamptz NOT NULL DEFAULT now(), data jsonb NOT NULL)`
  ],
  plan: (answer) => `
    WITH planned AS (${insertGames}), scheduled AS (
      INSERT INTO schedule (game_id, target_status, transition_time) SELECT id, 'IN_PROGRESS', due_at FROM planned
    )
    ${answer}`,
  clear: "TRUNCATE games, schedule, outbox"
}

const claim = `
  WITH claimed AS MATERIALIZED (
    SELECT row.id, row.game_id, row.target_status, row.transition_time
    FROM schedule AS row JOIN games AS game ON game.id = row.game_id
    WHERE row.executed = FALSE AND row.transition_time <= now()
    ORDER BY row.transition_time LIMIT 1000
    FOR NO KEY UPDATE OF row, game SKIP LOCKED
  ), moved AS (
    UPDATE games AS game SET status = claimed.target_status, version = game.version + 1
    FROM claimed WHERE game.id = claimed.game_id AND game.status = 'SCHEDULED'
    RETURNING game.*, claimed.transition_time
  ), executed AS (
    UPDATE schedule AS row SET executed = TRUE FROM claimed WHERE row.id = claimed.id
  )
  INSERT INTO outbox (game_id, type, data)
  SELECT id, 'game.started', jsonb_build_object(
    'game_id', id, 'title', title, 'guild_id', guild_id, 'channel_id', NULL, 'host_id', NULL, 'status', status,
    'scheduled_at', due_at, 'version', version, 'transition_time', transition_time,
    'lateness_ms', round(extract(epoch FROM clock_timestamp() - transition_time) * 1000, 3))
  FROM moved
  RETURNING id::text, event_id, game_id, occurred_at::text, data::text`

interface Batch {
  readonly ids: ReadonlyArray<string>
  readonly events: ReadonlyArray<OutgoingEvent>
}

if (import.meta.main) {
  runPeer(
    Effect.fnUntraced(function* ({ connect, publish }) {
      const claims = yield* connect
      const deletions = yield* connect

      return Effect.fnUntraced(function* () {
        const batches = yield* Queue.bounded<Batch | undefined>(4)

        const claimAll = Effect.gen(function* () {
          for (;;) {
            const [next] = yield* claims.queryValues(
              `SELECT (extract(epoch FROM min(transition_time) - clock_timestamp()) * 1000)::float8 FROM schedule
               WHERE executed = FALSE`
            )
            const wait = next?.[0]
            if (typeof wait !== "number") return yield* Queue.offer(batches, undefined)
            if (wait > 0) yield* Effect.sleep(Duration.millis(Math.ceil(wait)))
            for (;;) {
              const rows = yield* claims.queryValues(claim)
              if (rows.length === 0) break
              yield* Queue.offer(batches, {
                ids: rows.map(([id]) => String(id)),
                events: rows.map(([, id, game_id, time, data]) => ({
                  id: String(id),
                  game_id: String(game_id),
                  time: String(time),
                  data: String(data)
                }))
              })
            }
          }
        })

        const confirmed = yield* Queue.bounded<ReadonlyArray<string> | undefined>(4)
        const publishEach = Effect.gen(function* () {
          for (;;) {
            const batch = yield* Queue.take(batches)
            if (batch === undefined) return yield* Queue.offer(confirmed, undefined)
            yield* Effect.promise(() => publish(batch.events))
            yield* Queue.offer(confirmed, batch.ids)
          }
        })
        const deleteEach = Effect.gen(function* () {
          for (;;) {
            const ids = yield* Queue.take(confirmed)
            if (ids === undefined) return
            yield* deletions.query("DELETE FROM outbox WHERE id = ANY($1::bigint[])", [ids])
          }
        })
        yield* Effect.all([claimAll, publishEach, deleteEach], { concurrency: "unbounded", discard: true })
      })
    })
  )
}
