import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, References, Tracer } from "effect"
import { currentTraceparent, fromTraceparent, SpanExport, toTraceparent } from "../../src/observability/traceContext.ts"

const somebodyElse = Tracer.externalSpan({
  traceId: "0af7651916cd43dd8448eb211c80319c",
  spanId: "b7ad6b7169203331"
})
const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

const exporting = Effect.provideService(SpanExport, { requests: Tracer.nativeTracer, recorded: Tracer.nativeTracer })

describe("a traceparent", () => {
  it("is read and written as the W3C has it, with the decision whether the trace is recorded", () => {
    for (const text of [traceparent, traceparent.replace(/01$/, "00")]) {
      assert.deepStrictEqual(Option.map(fromTraceparent(text), toTraceparent), Option.some(text))
    }
    assert.deepStrictEqual(
      Option.map(fromTraceparent(traceparent), ({ sampled }) => sampled),
      Option.some(true)
    )
  })

  it("that is not well-formed is none", () => {
    for (const text of [
      "",
      "00",
      traceparent.toUpperCase(),
      traceparent.replace("b7ad6b7169203331", "0000000000000000"),
      traceparent.replace("0af7651916cd43dd8448eb211c80319c", "0".repeat(32)),
      `${traceparent}-more`,
      `${traceparent},${traceparent}`
    ]) {
      assert.isTrue(Option.isNone(fromTraceparent(text)), text)
    }
  })
})

describe("the current traceparent", () => {
  it.effect("is null outside any trace", () =>
    Effect.gen(function* () {
      assert.isNull(yield* currentTraceparent)
      assert.isNull(yield* Effect.withSpan(currentTraceparent, "ours"))
    })
  )

  it.effect("is that of somebody else while spans of ours go nowhere", () =>
    Effect.gen(function* () {
      const within = Effect.withSpan(Effect.withSpan(currentTraceparent, "inner"), "outer", { parent: somebodyElse })
      assert.strictEqual(yield* within, traceparent)
      assert.strictEqual(yield* Effect.withTracerEnabled(within, false), traceparent)
      assert.strictEqual(yield* Effect.provideService(currentTraceparent, Tracer.ParentSpan, somebodyElse), traceparent)
    })
  )

  it.effect("is that of the innermost span while spans are exported", () =>
    Effect.gen(function* () {
      const [inner, said] = yield* Effect.all([Effect.currentSpan, currentTraceparent]).pipe(
        Effect.withSpan("inner"),
        Effect.withSpan("outer", { parent: somebodyElse }),
        exporting
      )
      assert.strictEqual(said, `00-${somebodyElse.traceId}-${inner.spanId}-01`)
    })
  )

  it.effect("passes over spans that are not recorded at all", () =>
    Effect.gen(function* () {
      const said = yield* currentTraceparent.pipe(
        Effect.withSpan("not recorded"),
        Effect.provideService(References.TracerEnabled, false),
        Effect.provideService(Tracer.ParentSpan, somebodyElse),
        exporting
      )
      assert.strictEqual(said, traceparent)
    })
  )
})
