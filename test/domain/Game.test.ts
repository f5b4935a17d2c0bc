import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Game, GameId, GamePatch, maxMinutes, maxReminders, NewGame } from "../../src/domain/Game.ts"

const options = { onExcessProperty: "error", errors: "all" } as const
const decodeNew = Schema.decodeUnknownEffect(NewGame, options)
const decodePatch = Schema.decodeUnknownEffect(GamePatch, options)

const required = { guild_id: "guild", title: "a game", scheduled_at: "2026-12-31T20:00:00Z" }

/** A text of so many code points, each of two UTF-16 units. */
const dice = (count: number) => "🎲".repeat(count)

const editable: Readonly<
  Record<string, { readonly good: ReadonlyArray<unknown>; readonly bad: ReadonlyArray<unknown> }>
> = {
  guild_id: {
    good: ["g", "x".repeat(200), dice(200)],
    bad: ["", "x".repeat(201), dice(201), "a\0b", "a\uD800", "\uDC00a", 1, null]
  },
  title: {
    good: ["t", "x".repeat(200), dice(200), " ", "e\u0301", "line\nbreak"],
    bad: ["", "x".repeat(201), dice(201), "\0", "a\0b", "\uD83D", "\uDFB2\uD83D", 1, null, ["a"]]
  },
  scheduled_at: {
    good: ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
    bad: ["2026-12-31T20:00:00", "2026-02-30T00:00:00Z", "infinity", "now", 0, null]
  },
  channel_id: { good: [null, "", dice(200)], bad: [dice(201), "a\0b", "\uD800", 1] },
  host_id: { good: [null, "", dice(200)], bad: [dice(201), "a\0b", "\uD800", 1] },
  description: { good: [null, "", dice(4000)], bad: [dice(4001), "a\0b", "\uD800", 1] },
  location: { good: [null, "", dice(500)], bad: [dice(501), "a\0b", "\uD800", 1] },
  expected_duration_minutes: {
    good: [0, 1, 60, maxMinutes],
    bad: [-1, maxMinutes + 1, 1.5, "60", null, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31]
  },
  max_players: { good: [null, 1, 100], bad: [0, 101, -1, 2.5, "4", true] },
  reminder_minutes: {
    good: [[], [1], [maxMinutes], [15, 15, 15], Array.from({ length: maxReminders }, (_, index) => index + 1)],
    bad: [
      [0],
      [-15],
      [maxMinutes + 1],
      [1.5],
      ["15"],
      [null],
      15,
      null,
      Array.from({ length: maxReminders + 1 }, (_, index) => index + 1)
    ]
  }
}

/** The columns that the server alone sets. */
const serverSet = Object.keys(Game.fields).filter((name) => name !== "status" && !(name in editable))

describe("a new game", () => {
  it.effect("needs a guild, a title and a time, and nothing else", () =>
    Effect.gen(function* () {
      const game = yield* decodeNew(required)
      assert.deepStrictEqual(Object.keys(game), Object.keys(required))
      for (const name of Object.keys(required)) {
        const rest = Object.fromEntries(Object.entries(required).filter(([member]) => member !== name))
        assert.include((yield* Effect.flip(decodeNew(rest))).message, name)
      }
    })
  )

  it.effect("cannot choose its status", () =>
    Effect.gen(function* () {
      assert.include((yield* Effect.flip(decodeNew({ ...required, status: "IN_PROGRESS" }))).message, "status")
    })
  )
})

describe("a change of a game", () => {
  it.effect("may name nothing", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* decodePatch({}), {})
    })
  )

  it.effect("may name a status of the state machine, and no other", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* decodePatch({ status: "CANCELLED" }), { status: "CANCELLED" })
      assert.include((yield* Effect.flip(decodePatch({ status: "cancelled" }))).message, "status")
      assert.include((yield* Effect.flip(decodePatch({ status: null }))).message, "status")
    })
  )
})

const bodies: ReadonlyArray<{
  readonly body: string
  readonly decode: (member: object) => Effect.Effect<object, Schema.SchemaError>
}> = [
  { body: "a new game", decode: (member) => decodeNew({ ...required, ...member }) },
  { body: "a change of a game", decode: (member) => decodePatch(member) }
]

describe.each(bodies)("$body", ({ decode }) => {
  for (const [name, { bad, good }] of Object.entries(editable)) {
    it.effect(`takes ${name} within its bounds`, () =>
      Effect.gen(function* () {
        for (const value of good) {
          const decoded = yield* decode({ [name]: value })
          if (name === "scheduled_at") assert.property(decoded, name)
          else assert.deepPropertyVal(decoded, name, value)
        }
      })
    )

    it.effect(`refuses ${name} beyond its bounds and names it`, () =>
      Effect.gen(function* () {
        for (const value of bad) {
          const error = yield* Effect.flip(decode({ [name]: value }))
          assert.include(error.message, `["${name}"]`, JSON.stringify(value))
        }
      })
    )
  }

  for (const name of [...serverSet, "reminders", "Title", "constructor"]) {
    it.effect(`refuses the member ${name}, which is not a client's to set`, () =>
      Effect.gen(function* () {
        assert.include((yield* Effect.flip(decode({ [name]: "2026-12-31T20:00:00Z" }))).message, name)
      })
    )
  }

  it.effect("names every member that is wrong, not only the first", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(decode({ title: "", max_players: 0, reminder_minutes: [5, 0], unknown: 1 }))
      for (const path of ['["title"]', '["max_players"]', '["reminder_minutes"][1]', '["unknown"]']) {
        assert.include(error.message, path)
      }
    })
  )

  it.effect.prop(
    "takes every text that PostgreSQL can hold, up to 200 characters, as a title",
    [Schema.String.pipe(Schema.check(Schema.isMinLength(1), Schema.isMaxLength(300)))],
    ([title]) =>
      Effect.gen(function* () {
        const length = Array.from(title).length
        const holdable = length <= 200 && title.isWellFormed() && !title.includes("\0")
        const result = yield* Effect.result(decode({ title }))
        assert.strictEqual(result._tag, holdable ? "Success" : "Failure")
      })
  )
})

describe("a game's id", () => {
  it.effect("is a UUID of any version", () =>
    Effect.gen(function* () {
      const decode = Schema.decodeUnknownEffect(GameId)
      for (const id of ["0b9e7b8e-7b0a-4c0e-8d7c-3f1f3a2b1c0d", "019312D0-5E1F-7ABC-8DEF-0123456789AB"]) {
        assert.strictEqual(yield* decode(id), id)
      }
      for (const id of ["", "1", "0b9e7b8e7b0a4c0e8d7c3f1f3a2b1c0d", "0b9e7b8e-7b0a-4c0e-8d7c-3f1f3a2b1c0g", null]) {
        yield* Effect.flip(decode(id))
      }
    })
  )
})
