/**
 * Everything that is on record of one game, also of one that was deleted: its rows, what was done with them, its events.
 *
 * The ledger has one row per batch and no index by game, so it is read from a given time on: a question for a person who
 * can wait a moment, never for a loop.
 */
import { Context, type DateTime, Effect, Layer, Option } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import type { DeadLetterKind } from "../domain/DeadLetter.ts"
import type { GameId } from "../domain/Game.ts"
import type { GameStatus } from "../domain/GameStatus.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import type { Hold } from "../domain/StatusTransition.ts"

/** Instants are ms since 1970, by the database's clock. */
export interface GameFacts {
  readonly title: string
  readonly guild_id: string
  readonly status: GameStatus
  readonly version: number
  readonly scheduled_at: number
  readonly created_at: number
}

export interface RowFacts {
  readonly kind: ScheduleKind
  /** The status that the game is to take, or the minutes of a reminder. */
  readonly target: string
  readonly due: number
  readonly done: boolean
  readonly done_at: number | null
  readonly outcome: string | null
  readonly hold: Hold | null
  readonly attempts: number
  readonly retry_at: number | null
}

/** What the clock did. */
export interface EffectFacts {
  readonly kind: ScheduleKind
  readonly target: string
  readonly due: number
  readonly at: number
  readonly outcome: string
  readonly replica: string
  readonly event_id: string | null
  /** When the broker's confirm of the event was recorded; null if it was not. */
  readonly confirmed_at: number | null
}

/** An event that waits in the outbox. */
export interface WaitingEventFacts {
  readonly event_id: string
  readonly type: string
  readonly occurred_at: number
  readonly attempts: number
  readonly retry_at: number | null
}

export interface LetterFacts {
  readonly id: string
  readonly kind: DeadLetterKind
  readonly created_at: number
  readonly error: string
  readonly message: string
  readonly attempts: number
  readonly resolved_at: number | null
  readonly resolution: string | null
  readonly resolved_by: string | null
}

/** A pause of a kind of schedule that is open, or ended in the time that was read. */
export interface PauseFacts {
  readonly kind: ScheduleKind
  readonly paused_at: number
  readonly paused_by: string
  readonly reason: string | null
  readonly resumed_at: number | null
}

export interface GameHistory {
  readonly now: number
  /** Another system does what is due, and Kickoff changes nothing. */
  readonly shadow: boolean
  readonly game: Option.Option<GameFacts>
  readonly rows: ReadonlyArray<RowFacts>
  readonly effects: ReadonlyArray<EffectFacts>
  readonly events: ReadonlyArray<WaitingEventFacts>
  readonly letters: ReadonlyArray<LetterFacts>
  readonly pauses: ReadonlyArray<PauseFacts>
}

export class GameHistoryRepository extends Context.Service<
  GameHistoryRepository,
  {
    /** What is on record of a game; of what the clock did, what it did since an instant. */
    readonly read: (id: GameId, since: DateTime.Utc) => Effect.Effect<GameHistory, SqlError.SqlError>
  }
>()("kickoff/operations/GameHistoryRepository") {
  static readonly layer = Layer.effect(
    GameHistoryRepository,
    Effect.map(SqlClient.SqlClient, (sql) => {
      const millis = (column: string) => sql.literal(`(extract(epoch FROM ${column}) * 1000)::float8`)

      return GameHistoryRepository.of({
        read: Effect.fn("GameHistoryRepository.read")(function* (id: GameId, since: DateTime.Utc) {
          const from = new Date(since.epochMilliseconds)
          const [server] = yield* sql<{ readonly now: number; readonly shadow: boolean }>`
            SELECT ${millis("statement_timestamp()")} AS now, to_regclass('shadow_run') IS NOT NULL AS shadow`
          const games = yield* sql<GameFacts>`
            SELECT title, guild_id, status, version, ${millis("scheduled_at")} AS scheduled_at,
              ${millis("created_at")} AS created_at
            FROM game_sessions WHERE id = ${id}::uuid`
          const rows = yield* sql<RowFacts>`
            SELECT 'status-transition' AS kind, target_status AS target, ${millis("transition_time")} AS due,
              executed AS done, ${millis("executed_at")} AS done_at, outcome, hold, attempts, ${millis("retry_at")} AS retry_at
            FROM game_status_schedule WHERE game_id = ${id}::uuid
            UNION ALL
            SELECT 'notification', reminder_minutes::text, ${millis("notification_time")}, sent, ${millis("sent_at")}, outcome,
              hold, attempts, ${millis("retry_at")}
            FROM notification_schedule WHERE game_id = ${id}::uuid
            ORDER BY due, target DESC`
          const effects = yield* sql<EffectFacts>`
            WITH effect AS (
              SELECT batch.kind, entry.target, entry.due, batch.recorded_at, entry.outcome, batch.replica, entry.event_id
              FROM ledger AS batch
              CROSS JOIN LATERAL unnest(
                batch.game_ids, batch.targets, batch.due_at, batch.outcomes, batch.event_ids
              ) AS entry (game_id, target, due, outcome, event_id)
              WHERE batch.recorded_at >= ${from}::timestamptz AND entry.game_id = ${id}::uuid
            )
            SELECT kind, target, ${millis("due")} AS due, ${millis("recorded_at")} AS at, outcome, replica, event_id,
              (
                SELECT ${millis("confirmed_at")} FROM confirmations
                WHERE confirmed_at >= effect.recorded_at AND effect.event_id = ANY(event_ids)
                ORDER BY confirmed_at LIMIT 1
              ) AS confirmed_at
            FROM effect
            ORDER BY recorded_at`
          const events = yield* sql<WaitingEventFacts>`
            SELECT event_id, type, ${millis("occurred_at")} AS occurred_at, attempts, ${millis("retry_at")} AS retry_at
            FROM outbox WHERE game_id = ${id}::uuid ORDER BY id`
          const letters = yield* sql<LetterFacts>`
            SELECT id, kind, ${millis("created_at")} AS created_at, error, message, attempts,
              ${millis("resolved_at")} AS resolved_at, resolution, resolved_by
            FROM dead_letters WHERE game_id = ${id}::uuid ORDER BY created_at`
          const pauses = yield* sql<PauseFacts>`
            SELECT kind, ${millis("paused_at")} AS paused_at, paused_by, reason, ${millis("resumed_at")} AS resumed_at
            FROM pauses WHERE resumed_at IS NULL OR resumed_at >= ${from}::timestamptz
            ORDER BY paused_at`
          const { now = 0, shadow = false } = server ?? {}
          return { now, shadow, game: Option.fromNullishOr(games[0]), rows, effects, events, letters, pauses }
        })
      })
    })
  )
}
