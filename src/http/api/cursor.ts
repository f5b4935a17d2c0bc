/**
 * The cursor of a list: opaque to clients, inside the place of the last entry they saw.
 *
 * It carries microseconds, as the column does: with milliseconds, entries of the same millisecond would be skipped.
 */
import { Effect, Option, Schema, SchemaGetter, SchemaIssue, SchemaTransformation } from "effect"

const Position = Schema.Struct({ scheduled_micros: Schema.BigInt, id: Schema.String })

/** Beyond these PostgreSQL has no instants. */
const lastMicros = 9_000_000_000_000_000_000n

const fromCursor = (cursor: string): Option.Option<typeof Position.Type> => {
  const text = Buffer.from(cursor, "base64url").toString("latin1")
  const parts = /^(-?\d{1,19})_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(text)
  if (parts === null || toCursor({ scheduled_micros: BigInt(parts[1] ?? ""), id: parts[2] ?? "" }) !== cursor) {
    return Option.none()
  }
  const scheduled_micros = BigInt(parts[1] ?? "")
  return scheduled_micros > lastMicros || scheduled_micros < -lastMicros / 50n
    ? Option.none()
    : Option.some({ scheduled_micros, id: parts[2] ?? "" })
}

const toCursor = (position: typeof Position.Type): string =>
  Buffer.from(`${position.scheduled_micros}_${position.id}`, "latin1").toString("base64url")

export const Cursor = Schema.String.annotate({ description: "`next_cursor` of the page before" }).pipe(
  Schema.decodeTo(Position, {
    decode: SchemaGetter.transformEffect((cursor: string) =>
      Option.match(fromCursor(cursor), {
        onNone: () => Effect.fail(new SchemaIssue.InvalidValue({ message: "Expected a next_cursor of this service" })),
        onSome: Effect.succeed
      })
    ),
    encode: SchemaGetter.transform(toCursor)
  })
)

/** The same for lists in the order in which their entries were created. */
export const CreationCursor = Cursor.pipe(
  Schema.decodeTo(
    Schema.Struct({ created_micros: Schema.BigInt, id: Schema.String }),
    SchemaTransformation.transform({
      decode: ({ id, scheduled_micros }) => ({ created_micros: scheduled_micros, id }),
      encode: ({ created_micros, id }) => ({ scheduled_micros: created_micros, id })
    })
  )
)
