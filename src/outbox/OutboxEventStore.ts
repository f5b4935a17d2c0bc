/**
 * Writes the events of what the API did, in the transaction of the change.
 *
 * The order of a game's events is the order of their ids, so the caller must hold the lock on the game's row.
 */
import { Effect, type Schema } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { GameEventType } from "../domain/GameEvent.ts"
import { gameEventData } from "./gameEventData.ts"

/** Tells of the game as it stands; `extra` is added to the event's data and replaces members of the same name. */
export const appendGameEvent = (
  sql: SqlClient.SqlClient,
  gameId: string,
  type: GameEventType,
  extra: Readonly<Record<string, Schema.Json>> = {}
): Effect.Effect<void, SqlError.SqlError> =>
  // The transaction may have waited for the lock, so the statement's time is nearer to the change than now().
  Effect.asVoid(sql`
    INSERT INTO outbox (game_id, type, occurred_at, data)
    SELECT game.id, ${type}, statement_timestamp(), ${gameEventData(sql)} || ${JSON.stringify(extra)}::jsonb
    FROM game_sessions AS game
    WHERE game.id = ${gameId}::uuid`)
