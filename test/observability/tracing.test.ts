import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Logger, Option, Queue, Redacted, Scope, Tracer } from "effect"
import { samplers, Settings } from "../../src/Settings.ts"
import { startSpan } from "../../src/observability/spans.ts"
import { SpanExport } from "../../src/observability/traceContext.ts"
import * as Tracing from "../../src/observability/tracing.ts"
import { samplerOf, withSampler } from "../../src/observability/tracing.ts"
import { makeCollector } from "../support/Collector.ts"

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

/** Exports one span as the settings say, and returns the request that brings it. */
const exportOne = Effect.fnUntraced(function* (settings: Parameters<typeof Settings.layerWith>[0]) {
  const collector = yield* makeCollector
  const scope = yield* Scope.make()
  const at = (path: string) => Option.some(Redacted.make(`${collector.url}${path}`))
  const context = yield* Layer.buildWithScope(
    Tracing.layer.pipe(
      Layer.provide(Settings.layerWith({ otlpEndpoint: at(""), ...settings })),
      Layer.provide(Logger.layer([]))
    ),
    scope
  )
  const tracer = Context.get(context, SpanExport)?.recorded
  if (tracer !== undefined) {
    startSpan(tracer, { name: "a span", kind: "internal", parent: Option.none(), startTime: 1n, attributes: {} }).end(
      2n,
      Exit.void
    )
  }
  yield* Scope.close(scope, Exit.void)
  const request = yield* Queue.poll(collector.requests)
  return { span: collector.spans[0], request: Option.getOrUndefined(request), exports: tracer !== undefined }
})

describe("the export of spans", () => {
  it.live("is there only where the settings name a collector and do not switch it off", () =>
    Effect.gen(function* () {
      assert.isTrue((yield* exportOne({})).exports)
      for (const settings of [
        { otlpEndpoint: Option.none() },
        { otelDisabled: true },
        { traceExporter: "none" as const },
        { traceSampler: "always_off" as const }
      ]) {
        const { exports, request } = yield* exportOne(settings)
        assert.isFalse(exports)
        assert.isUndefined(request)
      }
    })
  )

  it.live("goes to the path of OTLP below an endpoint, and to the endpoint of traces itself", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      const at = (path: string) => Option.some(Redacted.make(`${collector.url}${path}`))
      for (const [settings, path] of [
        [{ otlpEndpoint: at("") }, "/v1/traces"],
        [{ otlpEndpoint: at("/otlp/") }, "/otlp/v1/traces"],
        [{ otlpEndpoint: at("/otlp?key=a") }, "/otlp/v1/traces?key=a"],
        [{ otlpEndpoint: at("/otlp"), otlpTracesEndpoint: at("/my-traces") }, "/my-traces"]
      ] as const) {
        yield* exportOne(settings)
        assert.strictEqual((yield* Queue.take(collector.requests)).url, path)
      }
    })
  )

  it.live("is JSON unless protobuf is asked for, and compressed if that is", () =>
    Effect.gen(function* () {
      const { request, span } = yield* exportOne({})
      assert.strictEqual(request?.headers["content-type"], "application/json")
      assert.strictEqual(span?.name, "a span")
      const protobuf = yield* exportOne({ otlpTracesProtocol: Option.some("http/protobuf") })
      assert.strictEqual(protobuf.request?.headers["content-type"], "application/x-protobuf")
      // What is shorter than a kilobyte is not worth it.
      const attributes = { otelResourceAttributes: `note=${"a".repeat(2000)}` }
      const compressed = yield* exportOne({ ...attributes, otlpCompression: "gzip" })
      assert.strictEqual(compressed.request?.headers["content-encoding"], "gzip")
      assert.strictEqual(compressed.span?.resource["note"], "a".repeat(2000))
      const plain = yield* exportOne({
        ...attributes,
        otlpCompression: "gzip",
        otlpTracesCompression: Option.some("none")
      })
      assert.isUndefined(plain.request?.headers["content-encoding"])
    })
  )

  it.live("carries the headers of traces, or else those of everything", () =>
    Effect.gen(function* () {
      const headers = Option.some(Redacted.make("x-key=all%20of%20it"))
      const { request } = yield* exportOne({ otlpHeaders: headers })
      assert.strictEqual(request?.headers["x-key"], "all of it")
      const own = yield* exportOne({ otlpHeaders: headers, otlpTracesHeaders: Option.some(Redacted.make("x-own=b")) })
      assert.strictEqual(own.request?.headers["x-own"], "b")
      assert.notProperty(own.request?.headers, "x-key")
    })
  )

  it.live("says of the process what the settings say, and its own name, version and place", () =>
    Effect.gen(function* () {
      const { span } = yield* exportOne({ otelResourceAttributes: "deployment.environment.name=a%20b" })
      assert.deepInclude(span?.resource, { "service.name": "kickoff", "deployment.environment.name": "a b" })
      assert.containsAllKeys(span?.resource, ["service.version", "service.instance.id"])
      const named = yield* exportOne({ otelResourceAttributes: "service.name=attribute,service.instance.id=one" })
      assert.deepInclude(named.span?.resource, { "service.name": "attribute", "service.instance.id": "one" })
      const both = yield* exportOne({
        otelResourceAttributes: "service.name=attribute",
        otelServiceName: Option.some("variable")
      })
      assert.deepInclude(both.span?.resource, { "service.name": "variable" })
    })
  )

  it.live("does not wait for a collector without end", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      collector.answer = () => {}
      yield* exportOne({
        otlpEndpoint: Option.some(Redacted.make(collector.url)),
        otlpTracesTimeout: Option.some(Duration.minutes(1))
      })
      assert.strictEqual(yield* Queue.size(collector.requests), 1)
    })
  )
})
