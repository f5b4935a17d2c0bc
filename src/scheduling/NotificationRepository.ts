/**
 * The kind of schedule that reminds of games: `notification_schedule`.
 *
 * A reminder changes nothing of its game, which is locked all the same: its status must not change under the judgement,
 * and the event must get its place in the game's order.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Replica } from "../observability/Replica.ts"
import { SpanExport } from "../observability/traceContext.ts"
import { gameEventData, instantText } from "../outbox/gameEventData.ts"
import { channels } from "../postgres/channels.ts"
import type { DueRepository, Processed } from "./DueRepository.ts"
import { makeScheduleRepository, ownTraceparent, recordBatch, type ScheduleTable } from "./ScheduleRepository.ts"

export const notificationTable: ScheduleTable = {
  kind: "notification",
  channel: channels.notifications,
  table: "notification_schedule",
  due: "notification_time",
  done: "sent",
  target: "reminder_minutes"
}

export class NotificationRepository extends Context.Service<NotificationRepository, DueRepository>()(
  "kickoff/scheduling/NotificationRepository"
) {
  static readonly layer = Layer.effect(
    NotificationRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const replica = yield* Replica
      const traceparent = ownTraceparent(sql, (yield* SpanExport) !== undefined)
      return yield* makeScheduleRepository({
        ...notificationTable,
        waits: false,

        // The event tells of the game as it was locked, not of the older version that the statement's snapshot may see.
        apply: (condition, limit) => sql<Processed>`
          WITH claimed AS MATERIALIZED (
            SELECT row.id, row.game_id, row.reminder_minutes, row.notification_time, row.attempts, row.traceparent,
              game, game.status = 'SCHEDULED' AND game.scheduled_at > now() AS wanted
            FROM notification_schedule AS row
            JOIN game_sessions AS game ON game.id = row.game_id
            WHERE ${condition}
            ORDER BY row.notification_time
            LIMIT ${limit}
            FOR NO KEY UPDATE OF row, game SKIP LOCKED
          ), judged AS MATERIALIZED (
            SELECT DISTINCT ON (game_id) *, CASE WHEN wanted THEN 'sent' ELSE 'skipped' END AS outcome,
              gen_random_uuid() AS event_id
            FROM claimed
            ORDER BY game_id, notification_time
          ), done AS (
            UPDATE notification_schedule AS row
            SET sent = TRUE, sent_at = clock_timestamp(), outcome = judged.outcome
            FROM judged
            WHERE row.id = judged.id
          ), told AS (
            INSERT INTO outbox (event_id, game_id, type, due_at, traceparent, data)
            SELECT judged.event_id, game.id, 'game.reminder_due', judged.notification_time,
              ${traceparent},
              ${gameEventData(
                sql,
                sql`,
                'reminder_minutes', judged.reminder_minutes,
                'notification_time', ${instantText(sql, sql`judged.notification_time`)},
                'lateness_ms', round(extract(epoch FROM clock_timestamp() - judged.notification_time) * 1000, 3)`
              )}
            FROM judged
            CROSS JOIN LATERAL (SELECT (judged.game).*) AS game
            WHERE judged.outcome = 'sent'
          ), recorded AS (
            ${recordBatch(sql, {
              replica,
              kind: "notification",
              target: sql`judged.reminder_minutes::text`,
              due: sql`judged.notification_time`,
              event: sql`CASE WHEN judged.outcome = 'sent' THEN judged.event_id END`,
              done: sql`TRUE`
            })}
          )
          SELECT id, game_id, reminder_minutes::text AS target, notification_time::text AS due_at, outcome,
            (extract(epoch FROM clock_timestamp() - notification_time) * 1000)::float8 AS lateness_ms,
            traceparent AS planned_in, ${traceparent} AS traceparent
          FROM judged`,

        releaseStalled: Effect.void
      })
    })
  )
}
