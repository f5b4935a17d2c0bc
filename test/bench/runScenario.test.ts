import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { BenchError } from "../../bench/BenchError.ts"
import { Progress } from "../../bench/Progress.ts"
import { runScenario } from "../../bench/runScenario.ts"
import type { Part, Report, Scenario } from "../../bench/Scenario.ts"

const options = { rounds: 1, games: undefined, profile: undefined, only: undefined }

const layer = Layer.succeed(Progress, { say: () => Effect.void })

const note = (text: string): Part<never> => ({ name: text, run: Effect.succeed({ notes: [text] }) })

const scenario = (prepare: Scenario<never>["prepare"]): Scenario<never> => ({
  name: "scenario",
  summary: "for tests",
  prepare
})

/** Runs it, and notes the report after each part. */
const run = Effect.fnUntraced(function* (prepare: Scenario<never>["prepare"]) {
  const seen: Array<Report> = []
  const report = yield* runScenario(scenario(prepare), options, (report) => Effect.sync(() => void seen.push(report)))
  return { report, seen }
})

describe("a scenario", () => {
  it.effect("adds up what its parts have found, as it goes", () =>
    Effect.gen(function* () {
      const { report, seen } = yield* run(() => Effect.succeed([note("one"), note("two")]))
      assert.deepStrictEqual(report.notes, ["one", "two"])
      assert.deepStrictEqual(
        seen.map(({ notes }) => notes),
        [["one"], ["one", "two"]]
      )
      assert.deepStrictEqual(report.violations, [])
    }).pipe(Effect.provide(layer))
  )

  it.effect("goes on after a part that fails, breaks, hangs or cannot be cleaned up, and says so", () =>
    Effect.gen(function* () {
      const failing: Part<never> = { name: "failing", run: Effect.fail(new BenchError({ detail: "no games" })) }
      const broken: Part<never> = { name: "broken", run: Effect.die(new Error("a bug")) }
      const littering: Part<never> = {
        name: "littering",
        run: Effect.as(
          Effect.addFinalizer(() => Effect.die(new Error("it is still there"))),
          { notes: ["litter"] }
        )
      }
      const hanging: Part<never> = { name: "hanging", run: Effect.forever(Effect.sleep("1 minute")) }
      const running = yield* Effect.forkChild(
        run(() => Effect.succeed([note("one"), failing, broken, littering, hanging, note("two")]))
      )
      yield* TestClock.adjust("20 minutes")
      const { report } = yield* Fiber.join(running)
      assert.deepStrictEqual(report.notes, ["one", "litter", "two"])
      assert.deepStrictEqual(report.violations, [
        "failing failed: no games",
        "broken failed: a bug",
        "littering failed: it is still there",
        "hanging failed: it did not end within 15m"
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("runs the parts that are asked for alone", () =>
    Effect.gen(function* () {
      const asked = { ...options, only: "tw" }
      const both = scenario(() => Effect.succeed([note("one"), note("two")]))
      const { notes } = yield* runScenario(both, asked, () => Effect.void)
      assert.deepStrictEqual(notes, ["two"])
    }).pipe(Effect.provide(layer))
  )

  it.effect("that cannot be prepared, or cleaned up, is a violation", () =>
    Effect.gen(function* () {
      const unprepared = yield* run(() => Effect.fail(new BenchError({ detail: "no server" })))
      assert.deepStrictEqual(unprepared.report.violations, ["the preparation failed: no server"])
      const littering = yield* run(() =>
        Effect.as(
          Effect.addFinalizer(() => Effect.die(new Error("it is still there"))),
          [note("one")]
        )
      )
      assert.deepStrictEqual(littering.report.notes, ["one"])
      assert.deepStrictEqual(littering.report.violations, ["the end failed: it is still there"])
    }).pipe(Effect.provide(layer))
  )
})
