import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Schema } from "effect"
import { InstantColumn, InstantFromString, NullableInstantColumn } from "../../src/domain/Instant.ts"

const decode = Schema.decodeUnknownEffect(InstantFromString)
const encode = Schema.encodeEffect(InstantFromString)

const lastMillisecond = Date.UTC(9999, 11, 31, 23, 59, 59, 999)

/** Every millisecond that an instant may be. */
const Millis = Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: lastMillisecond })))

const OffsetMinutes = Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: -1439, maximum: 1439 })))

const two = (value: number) => String(value).padStart(2, "0")

/** `+05:30` and the like. */
const offsetText = (minutes: number) =>
  `${minutes < 0 ? "-" : "+"}${two(Math.trunc(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`

const accepted: ReadonlyArray<readonly [text: string, utc: string]> = [
  ["2026-12-31T20:00:00Z", "2026-12-31T20:00:00.000Z"],
  ["2026-12-31T20:00:00+00:00", "2026-12-31T20:00:00.000Z"],
  ["2026-12-31T20:00:00-00:00", "2026-12-31T20:00:00.000Z"],
  ["2026-12-31T20:00:00+05:30", "2026-12-31T14:30:00.000Z"],
  ["2026-12-31T20:00:00-08:00", "2027-01-01T04:00:00.000Z"],
  ["2026-12-31T20:00:00+23:59", "2026-12-30T20:01:00.000Z"],
  ["2026-12-31t20:00:00z", "2026-12-31T20:00:00.000Z"],
  ["2026-12-31t20:00:00.5z", "2026-12-31T20:00:00.500Z"],
  ["2026-12-31T20:00:00.1Z", "2026-12-31T20:00:00.100Z"],
  ["2026-12-31T20:00:00.123Z", "2026-12-31T20:00:00.123Z"],
  ["2026-12-31T20:00:00.123456Z", "2026-12-31T20:00:00.124Z"],
  ["2026-12-31T20:00:00.123456789Z", "2026-12-31T20:00:00.124Z"],
  ["2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"],
  ["2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000Z"],
  ["2026-12-31T23:59:59.999Z", "2026-12-31T23:59:59.999Z"],
  ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"],
  ["1969-12-31T23:30:00-01:00", "1970-01-01T00:30:00.000Z"],
  ["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"]
]

const refused: ReadonlyArray<readonly [why: string, text: unknown, expected: string]> = [
  ["without an offset", "2026-12-31T20:00:00", "with an offset"],
  ["that is a date alone", "2026-12-31", "with an offset"],
  ["with a space for the T", "2026-12-31 20:00:00Z", "with an offset"],
  ["without seconds", "2026-12-31T20:00Z", "with an offset"],
  ["with an offset without minutes", "2026-12-31T20:00:00+02", "with an offset"],
  ["with an offset without a colon", "2026-12-31T20:00:00+0200", "with an offset"],
  ["with an offset of a whole day", "2026-12-31T20:00:00+24:00", "with an offset"],
  ["with an offset of sixty minutes", "2026-12-31T20:00:00+01:60", "with an offset"],
  ["with a named zone", "2026-12-31T20:00:00[Europe/Berlin]", "with an offset"],
  ["with an empty fraction", "2026-12-31T20:00:00.Z", "with an offset"],
  ["with ten digits of a fraction", "2026-12-31T20:00:00.1234567890Z", "with an offset"],
  ["with a comma for the point", "2026-12-31T20:00:00,5Z", "with an offset"],
  ["with a space around it", " 2026-12-31T20:00:00Z", "with an offset"],
  ["with a line break after it", "2026-12-31T20:00:00Z\n", "with an offset"],
  ["with digits of another script", "２０２６-12-31T20:00:00Z", "with an offset"],
  ["in words", "tomorrow", "with an offset"],
  ["that is empty", "", "with an offset"],
  ["on 30 February", "2026-02-30T20:00:00Z", "exists in the calendar"],
  ["on 29 February of a common year", "2026-02-29T20:00:00Z", "exists in the calendar"],
  ["on 29 February of a century that is none", "2100-02-29T20:00:00Z", "exists in the calendar"],
  ["on 31 April", "2026-04-31T20:00:00Z", "exists in the calendar"],
  ["on day 0", "2026-04-00T20:00:00Z", "exists in the calendar"],
  ["in month 13", "2026-13-01T20:00:00Z", "exists in the calendar"],
  ["in month 0", "2026-00-01T20:00:00Z", "exists in the calendar"],
  ["at 24:00", "2026-12-31T24:00:00Z", "time of day"],
  ["at minute 60", "2026-12-31T20:60:00Z", "time of day"],
  ["in a leap second, which no clock of ours shows", "2016-12-31T23:59:60Z", "time of day"],
  ["before 1970", "1969-12-31T23:59:59.999Z", "a year from 1970 to 9999"],
  ["before 1970 by its offset", "1970-01-01T00:30:00+01:00", "a year from 1970 to 9999"],
  ["in year 0", "0000-01-01T00:00:00Z", "a year from 1970 to 9999"],
  ["after 9999 by its offset", "9999-12-31T23:30:00-01:00", "a year from 1970 to 9999"],
  ["in year 10000", "10000-01-01T00:00:00Z", "with an offset"],
  ["that is a number", 1_798_747_200_000, "string"],
  ["that is null", null, "string"]
]

describe("an instant in JSON", () => {
  it.effect.each(accepted)("%s is %s", ([text, utc]) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* encode(yield* decode(text)), utc)
    })
  )

  it.effect.each(refused)("is refused when it is a time %s", ([, text, expected]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(decode(text))
      assert.include(error.message, expected)
    })
  )

  it.effect.prop("keeps its millisecond through text and back", [Millis], ([millis]) =>
    Effect.gen(function* () {
      const instant = DateTime.makeUnsafe(millis)
      const text = yield* encode(instant)
      assert.match(text, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      assert.strictEqual(DateTime.toEpochMillis(yield* decode(text)), millis)
    })
  )

  it.effect.prop("means the same in every offset", [Millis, OffsetMinutes], ([millis, offset]) =>
    Effect.gen(function* () {
      // The wall clock of the offset may leave the years that four digits can write.
      const local = millis + offset * 60_000
      if (local < 0 || local > lastMillisecond) return
      const text = new Date(local).toISOString().replace("Z", offsetText(offset))
      assert.strictEqual(DateTime.toEpochMillis(yield* decode(text)), millis)
    })
  )
})

describe("an instant of a table", () => {
  const Row = Schema.Struct({ at: InstantColumn.schemas.select, maybe: NullableInstantColumn.schemas.select })
  const Json = Schema.Struct({ at: InstantColumn.schemas.json, maybe: NullableInstantColumn.schemas.json })

  it.effect.prop("is a Date to the database and text to everybody else", [Millis], ([millis]) =>
    Effect.gen(function* () {
      const row = { at: new Date(millis), maybe: null }
      const decoded = yield* Schema.decodeEffect(Row)(row)
      assert.deepStrictEqual(yield* Schema.encodeEffect(Row)(decoded), row)
      assert.deepStrictEqual(yield* Schema.encodeEffect(Json)(decoded), {
        at: new Date(millis).toISOString(),
        maybe: null
      })
    })
  )

  it.effect("that is beyond what a Date can say is the last that it can", () =>
    Effect.gen(function* () {
      const { at } = yield* Schema.decodeEffect(Row)({ at: new Date(NaN), maybe: null })
      assert.strictEqual(DateTime.formatIso(at), "+275760-09-13T00:00:00.000Z")
    })
  )
})
