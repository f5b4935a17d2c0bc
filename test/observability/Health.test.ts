import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Metric } from "effect"
import { TestClock } from "effect/testing"
import { Health, type Loop } from "../../src/observability/Health.ts"
import * as Metrics from "../../src/observability/Metrics.ts"
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

  it.effect("shows in the metrics for how long it has been overdue or stuck, and zero while it lives", () =>
    Effect.gen(function* () {
      const health = yield* Health
      const measured = Effect.fnUntraced(function* (loop: Loop) {
        yield* health.measure
        return (yield* Metric.value(Metric.withAttributes(Metrics.loopOverdue, { loop }))).value
      })
      yield* health.beat("outbox", Duration.seconds(10))
      yield* health.beat("listener", Duration.seconds(100))
      yield* health.progress("listener", false)
      yield* TestClock.adjust(Duration.seconds(15))
      assert.strictEqual(yield* measured("outbox"), 5)
      assert.strictEqual(yield* measured("listener"), 0)
      yield* health.beat("outbox", Duration.seconds(10))
      yield* TestClock.adjust(Duration.seconds(5))
      assert.strictEqual(yield* measured("outbox"), 0)
      assert.strictEqual(yield* measured("listener"), 20)
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
