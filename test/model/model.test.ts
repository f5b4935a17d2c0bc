/**
 * The service against a reference model: histories of API calls, SQL writers, failures and two engines, on a real
 * PostgreSQL. A history that the model cannot explain is shrunk to the shortest one found.
 *
 * `MODEL_RUNS` plays more of them, `MODEL_SEED` the same ones again, `MODEL_REPLAY` the single one that a failure names.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Random } from "effect"
import { liveHistories, longest, type Move, stepHistories } from "./commands.ts"
import type { Mode } from "./explain.ts"
import { play } from "./history.ts"
import { World } from "./World.ts"

const { MODEL_REPLAY: replay, MODEL_RUNS: chosenRuns, MODEL_SEED: chosenSeed } = process.env

/** How often a history is played that may be about a race, once one has failed: it needs luck to fail again. */
const goesAfterFailure = 5
const goesOfReplay = 20

const mostShrinks = 1000

const check = Effect.fnUntraced(function* (mode: Mode, histories: Arbitrary.Arbitrary<Array<Move>>, runs: number) {
  const seed = chosenSeed ?? String(yield* Random.nextIntBetween(1, 1_000_000_000))
  process.stderr.write(`${mode}: ${runs} histories of seed ${seed}\n`)

  let goes = replay === undefined ? 1 : goesOfReplay
  const property = (history: ReadonlyArray<Move>) =>
    play(history, mode).pipe(
      Effect.repeat({ times: goes - 1 }),
      Effect.tapError(() => Effect.sync(() => (goes = Math.max(goes, goesAfterFailure)))),
      Effect.as(true)
    )
  const result = yield* Arbitrary.checkEffect(histories, property, {
    seed,
    runs,
    size: longest[mode],
    maxShrinks: mostShrinks,
    replay
  })
  if (result._tag === "Passed") return
  if (result._tag !== "Falsified" || result.failure._tag !== "PropertyError") {
    assert.fail(Arbitrary.formatCheckFailure(result) ?? "")
  }
  assert.fail(
    [
      `No order of the model explains a history; ${result.shrinks} steps made it this short:`,
      result.failure.error.report,
      `MODEL_SEED=${seed} repeats the run, MODEL_REPLAY='${result.replay}' this history.`
    ].join("\n")
  )
})

/** How many histories are played, and how long that and the shrinking of one may take. */
const budget = (runs: number) => {
  const chosen = chosenRuns === undefined ? runs : Number(chosenRuns)
  return { runs: chosen, timeout: 30 * 60_000 + chosen * 1000 }
}

describe("the service does what the model says", () => {
  const steps = budget(50)
  it.live(
    "one thing after the other, and any two or three at the same time",
    () => check("steps", stepHistories, steps.runs).pipe(Effect.provide(World.layerSteps)),
    steps.timeout
  )

  const live = budget(25)
  it.live(
    "while two engines run by themselves",
    () => check("live", liveHistories, live.runs).pipe(Effect.provide(World.layerLive)),
    live.timeout
  )
})
