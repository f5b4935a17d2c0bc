import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import { Health } from "../../src/observability/Health.ts"
import { makeSkewedClock } from "../support/skewedClock.ts"

describe("a loop", () => {
  it.effect("is overdue when it has not spoken for as long as it said, and no more once it speaks", () =>
    Effect.gen(function* () {
      const health = yield* Health
      yield* health.beat("outbox", Duration.seconds(10))
      yield* health.beat("listener", Duration.seconds(20))
      yield* TestClock.adjust(Duration.seconds(10))
      assert.deepStrictEqual(yield* health.overdue, [])
      yield* TestClock.adjust(Duration.seconds(5))
      assert.deepStrictEqual(yield* health.overdue, [{ loop: "outbox", state: "silent", since: Duration.seconds(5) }])
      yield* health.beat("outbox", Duration.seconds(10))
      assert.deepStrictEqual(yield* health.overdue, [])
    }).pipe(Effect.provide(Health.layer))
  )

  it.effect("is stuck when it has got nowhere for more than 15 s, and no more once it does", () =>
    Effect.gen(function* () {
      const health = yield* Health
      yield* health.progress("outbox", false)
      yield* TestClock.adjust(Duration.seconds(10))
      yield* health.progress("outbox", false)
      yield* TestClock.adjust(Duration.seconds(5))
      assert.deepStrictEqual(yield* health.overdue, [])
      yield* TestClock.adjust(Duration.seconds(1))
      assert.deepStrictEqual(yield* health.overdue, [{ loop: "outbox", state: "stuck", since: Duration.seconds(16) }])
      yield* health.progress("outbox", true)
      assert.deepStrictEqual(yield* health.overdue, [])
    }).pipe(Effect.provide(Health.layer))
  )

  it.effect("is neither overdue nor alive because the machine's clock was set", () =>
    Effect.gen(function* () {
      const machine = yield* makeSkewedClock(0)
      const health = yield* Health
      const overdue = Effect.provideService(health.overdue, Clock.Clock, machine.clock)
      yield* Effect.provideService(health.beat("outbox", Duration.seconds(10)), Clock.Clock, machine.clock)
      machine.skew = Duration.toMillis("3 hours")
      assert.deepStrictEqual(yield* overdue, [])
      machine.skew = -Duration.toMillis("3 hours")
      yield* TestClock.adjust(Duration.seconds(11))
      assert.lengthOf(yield* overdue, 1)
    }).pipe(Effect.provide(Health.layer))
  )
})
