import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { closeSync, existsSync, openSync } from "node:fs"
import * as Metrics from "../../src/observability/Metrics.ts"
import { ProcessMetrics } from "../../src/observability/ProcessMetrics.ts"
import { Settings } from "../../src/Settings.ts"
import { eventually } from "../support/games.ts"

const services = Layer.provideMerge(ProcessMetrics.layer, Settings.layerWith({ roles: ["api", "outbox"] }))

/** In a registry of its own, because the tests of a file share one otherwise. */
const alone = <A, E>(test: Effect.Effect<A, E, ProcessMetrics>) =>
  Effect.provide(test, services).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))

const valueOf = (metric: Metric.Metric<number, Metric.GaugeState<number>>) =>
  Effect.map(Metric.value(metric), ({ value }) => value)

describe("the metrics of the process", () => {
  it.live("say what it is and which roles it plays", () =>
    Effect.gen(function* () {
      const text = yield* PrometheusMetrics.format()
      assert.match(text, /^kickoff_build_info\{version="\d+\.\d+\.\d+",node="\d+\.\d+\.\d+"\} 1$/m)
      assert.match(text, /^kickoff_role\{role="api"\} 1$/m)
      assert.notMatch(text, /role="notifications"/)
    }).pipe(alone)
  )

  it.live("show its memory, its CPU time and when it started", () =>
    Effect.gen(function* () {
      const { refresh } = yield* ProcessMetrics
      yield* refresh
      assert.isAbove(yield* valueOf(Metrics.processMemory), yield* valueOf(Metrics.heapUsed))
      assert.isAtLeast(yield* valueOf(Metrics.heapTotal), yield* valueOf(Metrics.heapUsed))
      const started = yield* valueOf(Metrics.processStart)
      assert.closeTo(started, Date.now() / 1000 - process.uptime(), 5)
      const before = (yield* Metric.value(Metrics.processCpu)).count
      for (let n = 0; n < 1e7; n++) Math.sqrt(n)
      assert.isAbove((yield* Metric.value(Metrics.processCpu)).count, before)
    }).pipe(alone)
  )

  it.live("show a blocked event loop as its lag, until the next time", () =>
    Effect.gen(function* () {
      const { refresh } = yield* ProcessMetrics
      // The sampling begins with a timer.
      yield* Effect.sleep("250 millis")
      const until = performance.now() + 500
      while (performance.now() < until);
      yield* Effect.sleep("250 millis")
      yield* refresh
      const blocked = yield* valueOf(Metrics.eventLoopLagMax)
      assert.isAbove(blocked, 0.15)
      const later = Effect.andThen(
        Effect.andThen(Effect.sleep("250 millis"), refresh),
        valueOf(Metrics.eventLoopLagMax)
      )
      yield* eventually(later, (lag) => lag < blocked)
    }).pipe(alone)
  )

  it.live("count what keeps it alive, also when that is gone", () =>
    Effect.gen(function* () {
      const { refresh } = yield* ProcessMetrics
      const timers = Metric.withAttributes(Metrics.activeResources, { type: "Immediate" })
      const immediate = setImmediate(() => {})
      yield* refresh
      assert.isAbove(yield* valueOf(timers), 0)
      clearImmediate(immediate)
      yield* refresh
      assert.strictEqual(yield* valueOf(timers), 0)
    }).pipe(alone)
  )

  it.live("count open files where the system shows them", () =>
    Effect.gen(function* () {
      const { refresh } = yield* ProcessMetrics
      yield* refresh
      const before = yield* valueOf(Metrics.processOpenFiles)
      const file = openSync(process.execPath, "r")
      yield* refresh
      closeSync(file)
      const shown = existsSync("/proc/self/fd")
      assert.strictEqual((yield* valueOf(Metrics.processOpenFiles)) > before, shown)
      assert.strictEqual((yield* valueOf(Metrics.processMaxFiles)) > before, shown)
    }).pipe(alone)
  )
})
