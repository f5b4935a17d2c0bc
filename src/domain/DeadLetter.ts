/** What could not be done and was given up: the row of `dead_letters`, kept until a person resolves it. */
import { Schema, SchemaTransformation } from "effect"
import { Model } from "effect/schema"
import { InstantColumn, NullableInstantColumn } from "./Instant.ts"
import { ScheduleKind } from "./ScheduleKind.ts"

export const DeadLetterKind = Schema.Literals([...ScheduleKind.literals, "event"])
export type DeadLetterKind = typeof DeadLetterKind.Type

export const DeadLetterId = Schema.String.annotate({ format: "uuid" }).pipe(
  Schema.check(Schema.isGUID({ expected: "a UUID" })),
  Schema.brand("DeadLetterId")
)
export type DeadLetterId = typeof DeadLetterId.Type

/** JSON of any writer as we can write it again: a number that is too large becomes null, and what is too deep is not shown. */
const writable = (stored: unknown): Schema.Json => {
  try {
    return JSON.parse(JSON.stringify(stored))
  } catch {
    return "This payload cannot be shown: it is nested too deeply"
  }
}

const StoredJson = Schema.Unknown.pipe(
  Schema.decodeTo(
    Schema.Json,
    SchemaTransformation.transform({
      decode: writable,
      encode: (json): unknown => json
    })
  )
)

export class DeadLetter extends Model.Class<DeadLetter>("DeadLetter")({
  id: DeadLetterId,
  kind: DeadLetterKind,
  source_id: Schema.String,
  game_id: Schema.NullOr(Schema.String),
  due_at: NullableInstantColumn,
  /** The error's tag, like `ConstraintError`. */
  error: Schema.String,
  message: Schema.String,
  attempts: Schema.Int,
  payload: Model.Field({ select: StoredJson, json: Schema.Json }),
  created_at: InstantColumn,
  resolved_at: NullableInstantColumn,
  resolved_by: Schema.NullOr(Schema.String),
  resolution: Schema.NullOr(Schema.Literals(["replayed", "discarded", "superseded"]))
}) {}
