/** Fields that several groups of routes share. */
import { Schema, SchemaTransformation } from "effect"

/** RFC 3339 has no years before 0, in which plain SQL may plan all the same: they are shown as early as it can say. */
const toRfc3339 = (text: string): string => (text.startsWith("-") ? "0000-01-01T00:00:00.000Z" : text)

/** Instants in answers: whatever the column holds, also what another application has put there. */
export const Instant = Schema.String.annotate({ format: "date-time" }).pipe(
  Schema.decodeTo(Schema.String, SchemaTransformation.transform({ decode: (text: string) => text, encode: toRfc3339 })),
  Schema.decodeTo(Schema.DateTimeUtc, SchemaTransformation.dateTimeUtcFromString)
)

/** How many entries a page of a list has at most. */
export const Limit = Schema.String.annotate({ description: "1 to 200, default 50" }).pipe(
  Schema.check(
    Schema.isPattern(/^0{0,2}(?:[1-9]\d?|1\d\d|200)$/u, { message: "Expected a whole number from 1 to 200" })
  ),
  Schema.decodeTo(Schema.Int, SchemaTransformation.transform({ decode: Number, encode: String }))
)
