import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Logger, Metric, Queue, Redacted, Scope } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { formatJson } from "../../src/observability/logging.ts"
import * as Metrics from "../../src/observability/Metrics.ts"
import * as SpanDelivery from "../../src/observability/spanDelivery.ts"
import { makeCollector } from "../support/Collector.ts"
import { eventually } from "../support/games.ts"
import { freePort } from "../support/service.ts"

const secret = "s3cret"

/** A client of the exporter for a collector, with what it logs and counts. */
const makeDelivery = Effect.fnUntraced(function* (
  url: string,
  options: Partial<Pick<SpanDelivery.DeliveryOptions, "timeout" | "capacity">> = {}
) {
  const lines: Array<{ readonly level: string; readonly message: string }> = []
  const logger = Logger.make<unknown, void>((said) => {
    const line = formatJson(said)
    assert.notInclude(line, secret)
    lines.push(JSON.parse(line))
  })
  const registry = new Map()
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const surroundings = Layer.merge(Logger.layer([logger]), Layer.succeed(Metric.MetricRegistry, registry))
  const context = yield* Layer.buildWithScope(
    SpanDelivery.layer({
      collector: "collector.example",
      headers: Redacted.make({ authorization: `Bearer ${secret}` }),
      timeout: Duration.seconds(30),
      capacity: 100,
      ...options
    }).pipe(Layer.provideMerge(surroundings)),
    scope
  )
  const count = (outcome: string) =>
    Metric.value(Metric.withAttributes(Metrics.spanBatches, { outcome })).pipe(
      Effect.map(({ count }) => count),
      Effect.provideService(Metric.MetricRegistry, registry)
    )
  return {
    lines,
    count,
    /** Hands over so many batches, as the exporter does. */
    hand: (batches: number) =>
      Effect.gen(function* () {
        const client = yield* HttpClient.HttpClient
        for (let n = 0; n < batches; n++) {
          const response = yield* client.execute(
            HttpClientRequest.post(url).pipe(HttpClientRequest.bodyText(`batch ${n}`, "text/plain"))
          )
          assert.strictEqual(response.status, 202)
        }
      }).pipe(
        Effect.provideContext(context),
        Effect.withTracerEnabled(false),
        Effect.provideService(HttpClient.TracerPropagationEnabled, false),
        Effect.orDie
      ),
    close: Scope.close(scope, Exit.void)
  }
})

describe("the delivery of spans", () => {
  it.live("sends each batch with the headers of the settings, and says nothing", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      const delivery = yield* makeDelivery(`${collector.url}/v1/traces`)
      yield* delivery.hand(3)
      for (let n = 0; n < 3; n++) {
        const request = yield* Queue.take(collector.requests)
        assert.strictEqual(request.url, "/v1/traces")
        assert.strictEqual(request.headers.authorization, `Bearer ${secret}`)
        assert.notProperty(request.headers, "traceparent")
      }
      yield* eventually(delivery.count("delivered"), (count) => count === 3)
      assert.strictEqual(yield* delivery.count("dropped"), 0)
      assert.isEmpty(delivery.lines)
    })
  )

  it.live("keeps no more than it may of what a collector that hangs does not take, and says so once", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      const held: Array<() => void> = []
      collector.answer = (response) => void held.push(() => response.end())
      const delivery = yield* makeDelivery(collector.url, { capacity: 2 })
      yield* delivery.hand(1)
      yield* Queue.take(collector.requests)
      yield* delivery.hand(10)
      assert.strictEqual(yield* delivery.count("dropped"), 8)
      assert.deepStrictEqual(
        delivery.lines.map(({ level }) => level),
        ["warn"]
      )
      assert.include(delivery.lines[0]?.message, "collector.example: it takes them slower than they come")
      // It answers after all: what waited is sent, and then the gap is over.
      collector.answer = (response) => response.end()
      for (const answer of held) answer()
      yield* eventually(delivery.count("delivered"), (count) => count === 3)
      yield* eventually(
        Effect.sync(() => delivery.lines),
        (lines) => lines.length === 2
      )
      assert.include(delivery.lines[1]?.message, "Traces reach collector.example again after ")
    })
  )

  it.live("tries again what a collector does not take for a while, or does not answer in time", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      const answers = [
        collector.answer,
        () => {},
        (response: Parameters<typeof collector.answer>[0]) => void response.writeHead(503).end()
      ]
      collector.answer = (response) => (answers.pop() ?? answers[0])?.(response)
      const delivery = yield* makeDelivery(collector.url, { timeout: Duration.millis(300) })
      yield* delivery.hand(1)
      for (let n = 0; n < 3; n++) yield* Queue.take(collector.requests)
      yield* eventually(delivery.count("delivered"), (count) => count === 1)
      yield* eventually(
        Effect.sync(() => delivery.lines),
        (lines) => lines.length === 2
      )
      assert.deepStrictEqual(
        delivery.lines.map(({ level }) => level),
        ["warn", "info"]
      )
      assert.include(delivery.lines[0]?.message, "it answers 503")
    })
  )

  it.live("drops what a collector refuses for good, and says so once, not for each", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      collector.answer = (response) => response.writeHead(401).end()
      const delivery = yield* makeDelivery(collector.url)
      yield* delivery.hand(3)
      yield* eventually(delivery.count("dropped"), (count) => count === 3)
      assert.lengthOf(delivery.lines, 1)
      assert.include(delivery.lines[0]?.message, "it answers 401")
    })
  )

  it.live("does not follow a collector to another place with its headers", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      const elsewhere = yield* makeCollector
      collector.answer = (response) => response.writeHead(307, { location: elsewhere.url }).end()
      const delivery = yield* makeDelivery(collector.url)
      yield* delivery.hand(1)
      yield* eventually(delivery.count("dropped"), (count) => count === 1)
      assert.strictEqual(yield* Queue.size(elsewhere.requests), 0)
    })
  )

  it.live("sends what waits before it ends", () =>
    Effect.gen(function* () {
      const collector = yield* makeCollector
      const delivery = yield* makeDelivery(collector.url)
      yield* delivery.hand(20)
      yield* delivery.close
      assert.strictEqual(yield* Queue.size(collector.requests), 20)
    })
  )

  it.live("holds up no end for a collector that is away, and names what is wrong", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const delivery = yield* makeDelivery(`http://127.0.0.1:${port}/?key=${secret}`)
      yield* delivery.hand(20)
      yield* eventually(
        Effect.sync(() => delivery.lines),
        (lines) => lines.length === 1
      )
      assert.include(delivery.lines[0]?.message, `connect ECONNREFUSED 127.0.0.1:${port}`)
      yield* delivery.close
      assert.strictEqual(yield* delivery.count("delivered"), 0)
    })
  )
})
