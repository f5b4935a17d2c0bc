/**
 * The kind of schedule that starts and completes games: `game_status_schedule`.
 *
 * The statement judges each claimed row by the status of its game, which it has locked: nothing can start a game that
 * was cancelled, moved or started by hand a moment before.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Replica } from "../observability/Replica.ts"
import { SpanExport } from "../observability/traceContext.ts"
import { gameEventData, instantText } from "../outbox/gameEventData.ts"
import { channels } from "../postgres/channels.ts"
import type { DueRepository, Processed } from "./DueRepository.ts"
import { makeScheduleRepository, ownTraceparent, recordBatch, type ScheduleTable } from "./ScheduleRepository.ts"

export const statusTransitionTable: ScheduleTable = {
  kind: "status-transition",
  channel: channels.statusTransitions,
  table: "game_status_schedule",
  due: "transition_time",
  done: "executed",
  target: "target_status"
}

export class StatusTransitionRepository extends Context.Service<StatusTransitionRepository, DueRepository>()(
  "kickoff/scheduling/StatusTransitionRepository"
) {
  static readonly layer = Layer.effect(
    StatusTransitionRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const replica = yield* Replica
      const traceparent = ownTraceparent(sql, (yield* SpanExport) !== undefined)
      return yield* makeScheduleRepository({
        ...statusTransitionTable,
        waits: true,

        // `FOR NO KEY UPDATE` does not conflict with the key locks that inserting child rows takes, and `SKIP LOCKED`
        // never waits: a row that is skipped is still due at the next look. Of a game with both rows due only the start
        // is chosen; a completion whose start is not in the batch is put aside, so that it is not claimed for ever. Events
        // are numbered after their game's lock is held, so the order per game is that of the commits.
        apply: (condition, limit) => sql<Processed>`
          WITH claimed AS MATERIALIZED (
            SELECT row.id, row.game_id, row.target_status, row.transition_time, row.attempts, row.traceparent,
              game.status
            FROM game_status_schedule AS row
            JOIN game_sessions AS game ON game.id = row.game_id
            WHERE ${condition}
            ORDER BY row.transition_time
            LIMIT ${limit}
            FOR NO KEY UPDATE OF row, game SKIP LOCKED
          ), chosen AS (
            SELECT DISTINCT ON (game_id) *
            FROM claimed
            ORDER BY game_id, (target_status <> 'IN_PROGRESS'), transition_time
          ), judged AS MATERIALIZED (
            SELECT chosen.*,
              CASE
                WHEN chosen.target_status = 'IN_PROGRESS' AND chosen.status = 'SCHEDULED' THEN 'applied'
                WHEN chosen.target_status = 'COMPLETED' AND chosen.status = 'IN_PROGRESS' THEN 'applied'
                WHEN chosen.target_status NOT IN ('IN_PROGRESS', 'COMPLETED') THEN 'parked'
                WHEN chosen.target_status = 'IN_PROGRESS' OR chosen.status <> 'SCHEDULED' THEN 'superseded'
                WHEN (
                  SELECT start.id FROM game_status_schedule AS start
                  WHERE start.game_id = chosen.game_id AND start.target_status = 'IN_PROGRESS' AND start.executed = FALSE
                ) IS NULL THEN 'parked'
                ELSE 'waiting'
              END AS outcome,
              gen_random_uuid() AS event_id
            FROM chosen
          ), moved AS (
            UPDATE game_sessions AS game
            SET status = judged.target_status, version = game.version + 1, updated_at = now()
            FROM judged
            WHERE judged.outcome = 'applied' AND game.id = judged.game_id
            RETURNING game.*, judged.transition_time, judged.event_id, ${traceparent} AS traceparent
          ), executed AS (
            UPDATE game_status_schedule AS row
            SET executed = TRUE, executed_at = clock_timestamp(), outcome = judged.outcome
            FROM judged
            WHERE judged.outcome IN ('applied', 'superseded') AND row.id = judged.id
          ), held AS (
            UPDATE game_status_schedule AS row
            SET hold = judged.outcome
            FROM judged
            WHERE judged.outcome IN ('waiting', 'parked') AND row.id = judged.id
          ), letters AS (
            INSERT INTO dead_letters (kind, source_id, game_id, due_at, error, message, attempts, payload)
            SELECT 'status-transition', id, game_id, transition_time,
              CASE WHEN target_status = 'COMPLETED' THEN 'StartMissing' ELSE 'UnsupportedTarget' END,
              CASE WHEN target_status = 'COMPLETED'
                THEN 'The game is due to be completed but was never started, and no start is planned'
                ELSE 'The clock starts and completes games; it cannot make one ' || target_status
              END,
              attempts, to_jsonb(judged)
            FROM judged
            WHERE outcome = 'parked'
          ), told AS (
            INSERT INTO outbox (event_id, game_id, type, due_at, traceparent, data)
            SELECT game.event_id, game.id,
              CASE game.status WHEN 'IN_PROGRESS' THEN 'game.started' ELSE 'game.completed' END,
              game.transition_time, game.traceparent,
              ${gameEventData(
                sql,
                sql`,
                'transition_time', ${instantText(sql, sql`game.transition_time`)},
                'lateness_ms', round(extract(epoch FROM clock_timestamp() - game.transition_time) * 1000, 3)`
              )}
            FROM moved AS game
          ), recorded AS (
            ${recordBatch(sql, {
              replica,
              kind: "status-transition",
              target: sql`judged.target_status`,
              due: sql`judged.transition_time`,
              event: sql`CASE WHEN judged.outcome = 'applied' THEN judged.event_id END`,
              done: sql`judged.outcome IN ('applied', 'superseded')`
            })}
          )
          SELECT id, game_id, target_status AS target, transition_time::text AS due_at, outcome,
            (extract(epoch FROM clock_timestamp() - transition_time) * 1000)::float8 AS lateness_ms,
            traceparent AS planned_in, ${traceparent} AS traceparent
          FROM judged`,

        // Scalar subqueries are looked up by index for each row that waits; a join might read whole tables instead.
        releaseStalled: Effect.asVoid(sql`
          UPDATE game_status_schedule AS completion
          SET hold = NULL
          FROM (
            SELECT row.id FROM game_status_schedule AS row
            WHERE row.executed = FALSE AND row.hold = 'waiting'
              AND (
                (SELECT game.status FROM game_sessions AS game WHERE game.id = row.game_id) <> 'SCHEDULED'
                OR (
                  SELECT start.id FROM game_status_schedule AS start
                  WHERE start.game_id = row.game_id AND start.target_status = 'IN_PROGRESS' AND start.executed = FALSE
                ) IS NULL
              )
            FOR NO KEY UPDATE SKIP LOCKED
          ) AS stalled
          WHERE completion.id = stalled.id`)
      })
    })
  )
}
