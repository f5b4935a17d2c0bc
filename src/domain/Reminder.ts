/** A planned reminder of a game: the row of `notification_schedule`. */
import { Schema } from "effect"
import { Model } from "effect/schema"
import { GameId } from "./Game.ts"
import { InstantColumn, NullableInstantColumn } from "./Instant.ts"
import { Hold } from "./StatusTransition.ts"

/** `skipped`: at its time the game was not SCHEDULED any more, or its start had passed. */
export const ReminderOutcome = Schema.Literals(["sent", "skipped"])

export class Reminder extends Model.Class<Reminder>("Reminder")({
  id: Schema.String,
  game_id: GameId,
  reminder_minutes: Schema.Int,
  notification_time: InstantColumn,
  sent: Schema.Boolean,
  sent_at: NullableInstantColumn,
  outcome: Schema.NullOr(ReminderOutcome),
  hold: Schema.NullOr(Hold),
  attempts: Schema.Int,
  retry_at: NullableInstantColumn,
  created_at: InstantColumn,
  /** The trace of the request that planned it, if any; it is nothing for clients. */
  traceparent: Model.Sensitive(Schema.NullOr(Schema.String))
}) {}
