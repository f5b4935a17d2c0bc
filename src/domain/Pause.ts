/** A pause of a kind of schedule: the row of `pauses`. While one is open, nothing of its kind is done. */
import { Schema } from "effect"
import { Model } from "effect/schema"
import { InstantColumn, NullableInstantColumn } from "./Instant.ts"
import { ScheduleKind } from "./ScheduleKind.ts"

/** Why somebody pauses, for those who find it so. */
export const PauseReason = Schema.String.pipe(
  Schema.check(
    Schema.makeFilter((text: string) =>
      text.trim().length >= 1 && text.length <= 500 && !text.includes("\0") ? undefined : "Expected 1 to 500 characters"
    )
  )
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
