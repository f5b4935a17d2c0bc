/** The part of an event's `data` that every event carries: the game as it stands in the row `game`. */
import type { SqlClient, Statement } from "effect/sql"

/**
 * An SQL expression of type json over a row of `game_sessions` under the alias `game`, with further names and values in
 * `more`. Instants are written as RFC 3339 in UTC with milliseconds, whatever the session's time zone. It is json and not
 * jsonb, because an event is only ever carried: the text is made once and sent as it is.
 */
export const gameEventData = (
  sql: SqlClient.SqlClient,
  more: Statement.Fragment = sql``
): Statement.Fragment => sql`json_build_object(
  'game_id', game.id,
  'title', game.title,
  'guild_id', game.guild_id,
  'channel_id', game.channel_id,
  'host_id', game.host_id,
  'status', game.status,
  'scheduled_at', ${instantText(sql, sql`game.scheduled_at`)},
  'version', game.version${more}
)`

/** An SQL expression that writes a `timestamptz` as RFC 3339 in UTC with milliseconds. */
export const instantText = (sql: SqlClient.SqlClient, instant: Statement.Fragment): Statement.Fragment =>
  sql`to_char(${instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
