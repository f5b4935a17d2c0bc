/**
 * A game session: the row of `game_sessions`, and what an API client may say of it.
 *
 * Columns, JSON members and event members carry the same snake_case names, so a field is spelled once everywhere.
 */
import { Schema } from "effect"
import { Model } from "effect/schema"
import { GameStatus } from "./GameStatus.ts"
import { InstantColumn, InstantFromString } from "./Instant.ts"
import { text } from "./text.ts"

/** Any UUID that PostgreSQL knows, whatever its version: other applications insert games with ids of their own. */
export const GameId = Schema.String.annotate({ format: "uuid" }).pipe(
  Schema.check(Schema.isGUID({ expected: "a UUID" })),
  Schema.brand("GameId")
)
export type GameId = typeof GameId.Type

/** Longest time before the start that a reminder may name, and the longest game: 365 days, in minutes. */
export const maxMinutes = 525_600

/** Most reminders a game may have. */
export const maxReminders = 20

/** How long a game is that does not say so, in minutes: the default of its column. */
export const defaultDurationMinutes = 60

const DurationMinutes = Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: maxMinutes })))

/** Minutes before the start; duplicates are folded when the game is written. */
const ReminderMinutes = Schema.Array(
  Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 1, maximum: maxMinutes })))
).pipe(Schema.check(Schema.isMaxLength(maxReminders)))

const MaxPlayers = Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 1, maximum: 100 })))

/** A row of `game_sessions`; `Game.json` is the game as the API shows it. */
export class Game extends Model.Class<Game>("Game")({
  id: GameId,
  guild_id: Schema.String,
  channel_id: Schema.NullOr(Schema.String),
  host_id: Schema.NullOr(Schema.String),
  title: Schema.String,
  description: Schema.NullOr(Schema.String),
  location: Schema.NullOr(Schema.String),
  status: GameStatus,
  scheduled_at: InstantColumn,
  expected_duration_minutes: Schema.Int,
  max_players: Schema.NullOr(Schema.Int),
  reminder_minutes: Schema.Array(Schema.Int),
  version: Schema.Int,
  created_at: InstantColumn,
  updated_at: InstantColumn
}) {}

const editable = {
  channel_id: Schema.optionalKey(Schema.NullOr(text({ max: 200 }))),
  host_id: Schema.optionalKey(Schema.NullOr(text({ max: 200 }))),
  description: Schema.optionalKey(Schema.NullOr(text({ max: 4000 }))),
  location: Schema.optionalKey(Schema.NullOr(text({ max: 500 }))),
  expected_duration_minutes: Schema.optionalKey(DurationMinutes),
  max_players: Schema.optionalKey(Schema.NullOr(MaxPlayers)),
  reminder_minutes: Schema.optionalKey(ReminderMinutes)
}

/** What a client says to plan a game. */
export const NewGame = Schema.Struct({
  guild_id: text({ min: 1, max: 200 }),
  title: text({ min: 1, max: 200 }),
  scheduled_at: InstantFromString,
  ...editable
}).annotate({ identifier: "NewGame" })
export type NewGame = typeof NewGame.Type

/** What a client says to change a game: any subset of the editable fields; `status` goes through the state machine. */
export const GamePatch = Schema.Struct({
  guild_id: Schema.optionalKey(text({ min: 1, max: 200 })),
  title: Schema.optionalKey(text({ min: 1, max: 200 })),
  scheduled_at: Schema.optionalKey(InstantFromString),
  status: Schema.optionalKey(GameStatus),
  ...editable
}).annotate({ identifier: "GamePatch" })
export type GamePatch = typeof GamePatch.Type
