import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Redacted, References } from "effect"
import { formatJson, formatPretty } from "../../src/observability/logging.ts"

/** The lines that an effect logs in a format. */
const linesOf = <E>(format: (options: Logger.Options<unknown>) => string, effect: Effect.Effect<void, E>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>((options) => void lines.push(format(options)))
    yield* effect.pipe(
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "Trace")
    )
    return lines
  })

const json = <E>(effect: Effect.Effect<void, E>) =>
  Effect.map(linesOf(formatJson, effect), (lines) =>
    lines.map((line): Readonly<Record<string, unknown>> => JSON.parse(line))
  )

describe("a log line", () => {
  it.effect("carries time, level, message and annotations under stable names", () =>
    Effect.gen(function* () {
      const lines = yield* json(
        Effect.logWarning("late", { lateness_ms: 12 }).pipe(Effect.annotateLogs({ game_id: "g-1" }))
      )
      assert.deepStrictEqual(lines, [
        { timestamp: "1970-01-01T00:00:00.000Z", level: "warn", message: "late", game_id: "g-1", lateness_ms: 12 }
      ])
    })
  )

  it.effect("lets no annotation take the place of time, level and message", () =>
    Effect.gen(function* () {
      const lines = yield* json(
        Effect.logInfo("said").pipe(Effect.annotateLogs({ message: "forged", level: "none", timestamp: 0, type: "t" }))
      )
      assert.deepInclude(lines[0], { level: "info", message: "said", type: "t", timestamp: "1970-01-01T00:00:00.000Z" })
    })
  )

  it.effect("says any value on one line: several lines, big numbers, errors, circles", () =>
    Effect.gen(function* () {
      const circle: Record<string, unknown> = {}
      circle["self"] = circle
      const lines = yield* linesOf(
        formatJson,
        Effect.all([
          Effect.logInfo("two\nlines"),
          Effect.logInfo("values", { id: 2n ** 60n, error: new Error("why") }),
          Effect.logInfo("circle", circle)
        ])
      )
      for (const line of lines) {
        assert.notInclude(line, "\n")
        assert.containsAllKeys(JSON.parse(line), ["timestamp", "level", "message"])
      }
      assert.include(lines[1], `"id":"1152921504606846976","error":"why"`)
      assert.strictEqual(lines.length, 3)
    })
  )

  it.effect("shows no secret in either format", () =>
    Effect.gen(function* () {
      const secret = Redacted.make("postgres://kickoff:hidden@db/kickoff")
      const log = Effect.logInfo("connects", secret, { url: secret }).pipe(Effect.annotateLogs({ annotated: secret }))
      for (const format of [formatJson, formatPretty({ colours: true })]) {
        const [line = ""] = yield* linesOf(format, log)
        assert.include(line, "redacted")
        assert.notInclude(line, "hidden")
      }
    })
  )

  it.effect("is readable on a terminal: time, level, message, fields", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf(
        formatPretty({ colours: false }),
        Effect.logInfo("Friday raid started").pipe(Effect.annotateLogs({ game_id: "g-1", lateness_ms: 3 }))
      )
      assert.deepStrictEqual(lines, ["00:00:00.000 info  Friday raid started game_id=g-1 lateness_ms=3"])
    })
  )
})
