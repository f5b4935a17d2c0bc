/** Fields that several groups of routes share. */
import { Schema, SchemaTransformation } from "effect"
import { lastInstant } from "../../domain/Instant.ts"

const first = "0000-01-01T00:00:00.000Z"
const last = new Date(lastInstant).toISOString()

/** RFC 3339 has the years 0 to 9999, and plain SQL may plan in others: they are shown as far as it can say. */
const toRfc3339 = (text: string): string => (text.startsWith("-") ? first : text.startsWith("+") ? last : text)

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
