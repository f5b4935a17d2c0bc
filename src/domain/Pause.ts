/** A pause of a kind of schedule: the row of `pauses`. While one is open, nothing of its kind is done. */
import { Schema } from "effect"
import { Model } from "effect/schema"
import { InstantColumn, NullableInstantColumn } from "./Instant.ts"
import { ScheduleKind } from "./ScheduleKind.ts"
import { text } from "./text.ts"

/** Why somebody pauses, for those who find it so. */
export const PauseReason = text({ min: 1, max: 500 }).pipe(
  Schema.check(Schema.isPattern(/\S/u, { message: "Expected more than white space" }))
)

export class Pause extends Model.Class<Pause>("Pause")({
  kind: ScheduleKind,
  paused_at: InstantColumn,
  paused_by: Schema.String,
  reason: Schema.NullOr(Schema.String),
  /** Null while the pause is open. */
  resumed_at: NullableInstantColumn,
  resumed_by: Schema.NullOr(Schema.String)
}) {}
