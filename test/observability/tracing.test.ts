import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Tracer } from "effect"
import { samplers } from "../../src/Settings.ts"
import { samplerOf, withSampler } from "../../src/observability/tracing.ts"

const low = `${"a".repeat(19)}0000000000001`
const middle = `${"a".repeat(19)}7ffffffffffff`
const high = `${"a".repeat(19)}fffffffffffff`

const parent = (sampled: boolean) =>
  Option.some(Tracer.externalSpan({ traceId: middle, spanId: "b".repeat(16), sampled }))

describe("a sampler", () => {
  it("takes of all traces the share that is asked for, by the end of their ids", () => {
    const taken = (share: number) =>
      [low, middle, high].filter((traceId) => samplerOf("traceidratio", share)(traceId, Option.none()))
    assert.deepStrictEqual(taken(1), [low, middle, high])
    assert.deepStrictEqual(taken(0.51), [middle, high])
    assert.deepStrictEqual(taken(0.25), [high])
    assert.deepStrictEqual(taken(0), [])
  })

  it("follows whoever has begun a trace, if its name says so", () => {
    for (const name of samplers) {
      const sampler = samplerOf(name, 0.51)
      const decisions = [sampler(middle, parent(true)), sampler(middle, parent(false))]
      const own = sampler(middle, Option.none())
      assert.deepStrictEqual(decisions, name.startsWith("parentbased_") ? [true, false] : [own, own], name)
    }
  })

  it("has for a new trace what its name says", () => {
    const begins = samplers.filter((name) => samplerOf(name, 0.25)(middle, Option.none()))
    assert.deepStrictEqual(begins, ["always_on", "parentbased_always_on"])
  })

  it.effect("decides of a trace by the id that its spans have", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const tracer = withSampler(Tracer.nativeTracer, (traceId) => {
        asked.push(traceId)
        return asked.length % 2 === 1
      })
      const spans = yield* Effect.all([Effect.currentSpan, Effect.withSpan(Effect.currentSpan, "inner")]).pipe(
        Effect.withSpan("outer"),
        Effect.provideService(Tracer.Tracer, tracer)
      )
      assert.deepStrictEqual(
        spans.map(({ traceId }) => traceId),
        asked
      )
      assert.match(spans[0].traceId, /^[0-9a-f]{32}$/)
      assert.deepStrictEqual(
        spans.map(({ sampled }) => sampled),
        [true, false]
      )
    })
  )
})
