/**
 * Instants as they cross our borders: `timestamptz` to the database, RFC 3339 to everybody else.
 *
 * The built-in string schemas accept times without an offset and turn 30 February into 2 March; a schedule that guesses
 * is worse than one that refuses, so the text form is checked here.
 */
import { DateTime, Schema, SchemaTransformation } from "effect"
import { Model } from "effect/schema"

const rfc3339 =
  /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/

const firstInstant = Date.UTC(1970, 0, 1)
const endOfInstants = Date.UTC(10000, 0, 1)

/** The last instant that RFC 3339 can say, in ms since 1970. */
export const lastInstant = endOfInstants - 1

/** Why a text is no instant that we accept, or `undefined`. */
const objection = (text: string): string | undefined => {
  const parts = rfc3339.exec(text)
  if (parts === null) return "an RFC 3339 date-time with an offset, like 2026-12-31T20:00:00Z"
  const [year, month, day, hour, minute, second] = parts.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number
  ]
  // The Gregorian calendar repeats every 400 years; the shift keeps Date.UTC from reading years below 100 as 19xx.
  if (month < 1 || month > 12 || day < 1 || day > new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate()) {
    return "a day that exists in the calendar"
  }
  if (hour > 23 || minute > 59 || second > 59) return "a time of day between 00:00:00 and 23:59:59"
  const millis = Date.parse(text)
  if (Number.isNaN(millis) || millis < firstInstant || millis >= endOfInstants) return "a year from 1970 to 9999"
  return undefined
}

/**
 * The same instant in whole milliseconds, rounded up: cut off, a game would start before the time that was asked for.
 * Only in the very last millisecond of the calendar there is nothing to round up to.
 */
const toMillis = (text: string): string => {
  const beyond = /\.\d{3}\d*[1-9]/.test(text) ? 1 : 0
  return new Date(Math.min(Date.parse(text) + beyond, lastInstant)).toISOString()
}

/** An instant in JSON and in the query string: RFC 3339 with an offset in, UTC with milliseconds out. */
export const InstantFromString = Schema.String.annotate({ format: "date-time" }).pipe(
  Schema.check(
    Schema.makeFilter(
      (text: string) => {
        const expected = objection(text)
        return expected === undefined ? undefined : `Expected ${expected}`
      },
      // A pattern knows no calendar.
      { toJsonSchema: () => [{ pattern: rfc3339.source }, true] }
    )
  ),
  Schema.decodeTo(Schema.String, SchemaTransformation.transform({ decode: toMillis, encode: (text: string) => text })),
  Schema.decodeTo(Schema.DateTimeUtc, SchemaTransformation.dateTimeUtcFromString)
)

/** The last instant that a `Date` can say, ms. PostgreSQL's go on: of those, and of both infinities, the driver makes no date. */
const lastDate = 8.64e15

/** What a column holds, also what another application has put there: it must not keep the rest from being read. */
const StoredInstant = Schema.instanceOf(Date).pipe(
  Schema.decodeTo(
    Schema.DateTimeUtc,
    SchemaTransformation.transform({
      decode: (stored) => DateTime.makeUnsafe(Number.isNaN(stored.getTime()) ? lastDate : stored),
      encode: DateTime.toDateUtc
    })
  )
)

/** What the database says in ms since 1970, for people; beyond what a `Date` can say, the last instant that it can. */
export const formatMillis = (millis: number): string =>
  new Date(Math.max(-lastDate, Math.min(millis, lastDate))).toISOString()

/** A `timestamptz` column that is RFC 3339 in the JSON variants of a model. */
export const InstantColumn = Model.Field({
  select: StoredInstant,
  insert: Schema.DateTimeUtcFromDate,
  update: Schema.DateTimeUtcFromDate,
  json: InstantFromString
})

/** Like {@link InstantColumn}, for a column that may be NULL. */
export const NullableInstantColumn = Model.Field({
  select: Schema.NullOr(StoredInstant),
  insert: Schema.NullOr(Schema.DateTimeUtcFromDate),
  update: Schema.NullOr(Schema.DateTimeUtcFromDate),
  json: Schema.NullOr(InstantFromString)
})
