/** Fields that several groups of routes share. */
import { Schema, SchemaTransformation } from "effect"

/** Instants in answers: whatever the column holds, also what another application has put there. */
export const Instant = Schema.DateTimeUtcFromString.annotate({ format: "date-time" })

/** How many entries a page of a list has at most. */
export const Limit = Schema.String.annotate({ description: "1 to 200, default 50" }).pipe(
  Schema.check(
    Schema.makeFilter((text: string) =>
      /^\d{1,3}$/.test(text) && Number(text) >= 1 && Number(text) <= 200
        ? undefined
        : "Expected a whole number from 1 to 200"
    )
  ),
  Schema.decodeTo(Schema.Int, SchemaTransformation.transform({ decode: Number, encode: String }))
)
