import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Option, Result } from "effect"
import { TestClock } from "effect/testing"
import { shareQuestion } from "../../src/postgres/sharedQuestion.ts"

const make = Effect.gen(function* () {
  const answers: Array<Deferred.Deferred<string>> = []
  const ask = yield* shareQuestion(
    Effect.suspend(() => {
      const answer = Deferred.makeUnsafe<string>()
      answers.push(answer)
      return Deferred.await(answer)
    }),
    Duration.seconds(1)
  )
  return { answers, ask }
})

describe("a shared question", () => {
  it.effect("is asked once for all who come while it is under way", () =>
    Effect.gen(function* () {
      const { answers, ask } = yield* make
      const first = yield* Effect.forkChild(ask, { startImmediately: true })
      const second = yield* Effect.forkChild(ask, { startImmediately: true })
      yield* TestClock.adjust(1)
      yield* Effect.forEach(answers, (answer) => Deferred.succeed(answer, "yes"))
      assert.deepStrictEqual(yield* Fiber.join(first), Option.some(Result.succeed("yes")))
      assert.deepStrictEqual(yield* Fiber.join(second), Option.some(Result.succeed("yes")))
      assert.strictEqual(answers.length, 1)
    })
  )

  it.effect("holds up nobody once its patience is used up, and is not asked again before it ended", () =>
    Effect.gen(function* () {
      const { answers, ask } = yield* make
      const first = yield* Effect.forkChild(ask, { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(first), Option.none())
      const later = yield* Effect.forkChild(ask, { startImmediately: true })
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* Fiber.join(later), Option.none())
      assert.strictEqual(answers.length, 1)

      yield* Effect.forEach(answers, (answer) => Deferred.succeed(answer, "late"))
      const anew = yield* Effect.forkChild(ask, { startImmediately: true })
      yield* TestClock.adjust(1)
      assert.strictEqual(answers.length, 2)
      yield* Effect.forEach(answers, (answer) => Deferred.succeed(answer, "yes"))
      assert.deepStrictEqual(yield* Fiber.join(anew), Option.some(Result.succeed("yes")))
    })
  )
})
