/**
 * Writes the events of what the API did, in the transaction of the change.
 *
 * The order of a game's events is the order of their ids, so the caller must hold the lock on the game's row.
 */
import { Effect, type Schema } from "effect"
import type { SqlClient, SqlError, Statement } from "effect/sql"
import type { GameEventType } from "../domain/GameEvent.ts"
import { currentTraceparent } from "../observability/traceContext.ts"
import { gameEventData } from "./gameEventData.ts"

/**
 * The statement that tells of the game in the row `game`, to be completed with its FROM clause, in a trace if there is one;
 * `extra` is added to the event's data and replaces members of the same name.
 */
export const insertGameEvent = (
  sql: SqlClient.SqlClient,
  type: GameEventType,
  traceparent: string | null,
  extra?: Readonly<Record<string, Schema.Json>>
): Statement.Fragment =>
  // The transaction may have waited for the lock, so the statement's time is nearer to the change than now().
  sql`
    INSERT INTO outbox (game_id, type, occurred_at, traceparent, data)
    SELECT game.id, ${type}, statement_timestamp(), ${traceparent}::text, ${
      extra === undefined
        ? gameEventData(sql)
        : sql`(${gameEventData(sql)}::jsonb || ${JSON.stringify(extra)}::jsonb)::json`
    }`

/** Tells of the game as it stands. */
export const appendGameEvent = (
  sql: SqlClient.SqlClient,
  gameId: string,
  type: GameEventType,
  extra?: Readonly<Record<string, Schema.Json>>
): Effect.Effect<void, SqlError.SqlError> =>
  Effect.flatMap(currentTraceparent, (traceparent) =>
    Effect.asVoid(sql`
      ${insertGameEvent(sql, type, traceparent, extra)}
      FROM game_sessions AS game
      WHERE game.id = ${gameId}::uuid`)
  )
