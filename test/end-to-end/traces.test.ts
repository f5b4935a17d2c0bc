/** One trace from the request that plans a game to the message that tells of it, as a consumer and a collector see it. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Queue } from "effect"
import { makeCollector, type ReceivedSpan } from "../support/Collector.ts"
import { freePort, type Service } from "../support/service.ts"
import { inWorld, makeWorld, type Received } from "../support/world.ts"

const client = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" }
const traceparent = `00-${client.traceId}-${client.spanId}-01`

const secret = "s3cret"

const traceOf = ({ message }: Received): unknown => message.properties.headers?.["traceparent"]

/** A game that starts in so many milliseconds. */
const soon = (startsInMs: number) =>
  Effect.map(Clock.currentTimeMillis, (now) => ({
    guild_id: "guild",
    title: "Friday raid",
    scheduled_at: new Date(now + startsInMs).toISOString(),
    reminder_minutes: []
  }))

/** What makes a service export spans to a collector. */
const exportingTo = (url: string) => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${secret}`,
  OTEL_BSP_SCHEDULE_DELAY: "50",
  OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test"
})

const assertNoSecret = (service: Service) => assert.notInclude(service.stdout() + service.stderr(), secret)

const named = (name: string) => (span: ReceivedSpan) => span.name === name

const headerOf = ({ spanId, traceId }: ReceivedSpan) => `00-${traceId}-${spanId}-01`

describe.concurrent("a service that exports no spans", () => {
  it.live("passes the trace of a request on with every event of the game, and begins none", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      yield* service.post("/v1/games", yield* soon(500), { traceparent })
      assert.strictEqual(traceOf(yield* world.nextOf("game.created")), traceparent)
      assert.strictEqual(traceOf(yield* world.nextOf("game.started")), traceparent)
      yield* service.post("/v1/games", yield* soon(500))
      assert.isUndefined(traceOf(yield* world.nextOf("game.started")))
    }).pipe(inWorld)
  )
})

describe.concurrent("a service that exports spans", () => {
  it.live("shows one connected trace from the request to the message, whichever process does what", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const collector = yield* makeCollector
      const env = exportingTo(collector.url)
      const api = yield* world.start(["--roles", "api"], env)
      const clock = yield* world.start(["--roles", "status-transitions,notifications,outbox"], {
        ...env,
        OTEL_SERVICE_NAME: "clock"
      })
      const answer = yield* api.post("/v1/games", yield* soon(500), { traceparent })
      const { id } = (yield* Effect.promise(() => answer.json())) as { readonly id: string }
      const created = yield* world.nextOf("game.created", id)
      const started = yield* world.nextOf("game.started", id)

      const request = yield* collector.spanOf(named("POST /v1/games"))
      const planned = yield* collector.spanOf(named("Games.create"))
      const toldOfCreation = yield* collector.spanOf(named("publish game.created"))
      const transition = yield* collector.spanOf(named("status-transition"))
      const toldOfStart = yield* collector.spanOf(named("publish game.started"))
      const batch = yield* collector.spanOf(named("status-transition batch"))

      assert.strictEqual(request.parentSpanId, client.spanId)
      assert.strictEqual(planned.parentSpanId, request.spanId)
      assert.strictEqual(toldOfCreation.parentSpanId, planned.spanId)
      assert.strictEqual(transition.parentSpanId, planned.spanId)
      assert.strictEqual(toldOfStart.parentSpanId, transition.spanId)
      assert.strictEqual(traceOf(created), headerOf(toldOfCreation))
      assert.strictEqual(traceOf(started), headerOf(toldOfStart))

      // Nothing hangs in the air: every span of the trace follows another one of it, or the client's.
      const ids = new Set([client.spanId, ...collector.spans.map(({ spanId }) => spanId)])
      for (const span of collector.spans) {
        if (span === batch) continue
        assert.strictEqual(span.traceId, client.traceId, span.name)
        assert.include([...ids], span.parentSpanId, span.name)
      }
      assert.isUndefined(batch.parentSpanId)
      assert.notStrictEqual(batch.traceId, client.traceId)
      assert.deepStrictEqual(
        transition.links.map(({ spanId, traceId }) => ({ spanId, traceId })),
        [{ spanId: batch.spanId, traceId: batch.traceId }]
      )

      // It began when it was due.
      const lasted = Number(BigInt(transition.endTimeUnixNano) - BigInt(transition.startTimeUnixNano)) / 1e6
      assert.closeTo(lasted, Number(transition.attributes["kickoff.lateness_ms"]), 0.001)
      assert.deepInclude(transition.attributes, {
        "kickoff.game_id": id,
        "kickoff.target_status": "IN_PROGRESS",
        "kickoff.outcome": "applied"
      })
      assert.deepInclude(toldOfStart.attributes, {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": world.env.RABBITMQ_EXCHANGE,
        "messaging.message.id": started.event.id
      })
      assert.deepInclude(request.resource, { "service.name": "kickoff", "deployment.environment.name": "test" })
      assert.deepInclude(transition.resource, { "service.name": "clock" })
      const { headers, url } = yield* Queue.take(collector.requests)
      assert.strictEqual(headers.authorization, `Bearer ${secret}`)
      assert.strictEqual(url, "/v1/traces")
      assertNoSecret(api)
      assertNoSecret(clock)
    }).pipe(inWorld)
  )

  it.live("begins a trace where the client is in none, of what the API does alone", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const collector = yield* makeCollector
      const service = yield* world.start([], exportingTo(collector.url))
      for (const path of ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/nowhere"]) {
        yield* service.get(path)
      }
      yield* service.post("/v1/games", { ...(yield* soon(60_000)), reminder_minutes: [525_600] })
      const started = yield* collector.spanOf(named("publish game.created"))
      yield* service.stop
      const roots = collector.spans.filter(({ parentSpanId }) => parentSpanId === undefined)
      assert.deepStrictEqual(
        roots.map(({ name }) => name),
        ["POST /v1/games"]
      )
      assert.isNotEmpty(collector.spans)
      assert.isTrue(collector.spans.every(({ traceId }) => traceId === started.traceId))
    }).pipe(inWorld)
  )

  it.live("says in the log in which trace something happened", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const collector = yield* makeCollector
      const service = yield* world.start([], { ...exportingTo(collector.url), LOG_LEVEL: "debug" })
      yield* service.post("/v1/games", yield* soon(100), { traceparent })
      const transition = yield* collector.spanOf(named("status-transition"))
      const [line] = yield* service.output(/^.*"A status-transition was dealt with: applied".*$/m)
      assert.deepInclude(JSON.parse(line), { trace_id: client.traceId, span_id: transition.spanId })
      const lines = service.stdout().trim().split("\n")
      assert.isFalse(lines.some((other) => other !== line && other.includes("trace_id")))
    }).pipe(inWorld)
  )

  it.live("tells consumers of a trace that is not recorded that it is not, and exports nothing of it", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const collector = yield* makeCollector
      const service = yield* world.start([], {
        ...exportingTo(collector.url),
        OTEL_TRACES_SAMPLER: "parentbased_always_off"
      })
      yield* service.post("/v1/games", yield* soon(100))
      const unrecorded = /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/
      assert.match(String(traceOf(yield* world.nextOf("game.created"))), unrecorded)
      assert.match(String(traceOf(yield* world.nextOf("game.started"))), unrecorded)
      yield* service.post("/v1/games", yield* soon(100), { traceparent })
      yield* world.nextOf("game.started")
      yield* service.stop
      assert.isNotEmpty(collector.spans)
      for (const { name, traceId } of collector.spans) {
        if (name !== "status-transition batch") assert.strictEqual(traceId, client.traceId, name)
      }
    }).pipe(inWorld)
  )

  it.live("starts games on time, says it once and stops at once while its collector is away", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start([], exportingTo(`http://127.0.0.1:${yield* freePort}`))
      for (let n = 0; n < 20; n++) yield* service.post("/v1/games", yield* soon(200), { traceparent })
      for (let n = 0; n < 20; n++) yield* world.nextOf("game.started")
      yield* service.output(/Traces do not reach 127\.0\.0\.1:\d+: connect ECONNREFUSED/)
      assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
      assert.lengthOf(service.stdout().match(/Traces do not reach/g) ?? [], 1)
      assertNoSecret(service)
    }).pipe(inWorld)
  )
})
