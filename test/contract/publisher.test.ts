/** One suite for the publisher to RabbitMQ and the one in-process. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Option, Queue, Redacted, type Scope, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import { InProcessEvents, InProcessPublisher } from "../../src/messaging/InProcessPublisher.ts"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { RabbitPublisher } from "../../src/messaging/RabbitPublisher.ts"
import { Settings } from "../../src/Settings.ts"
import { consumeExchange, makeEvent, publishAll, publishOne, readEvent } from "../messaging/consumer.ts"

/** Subscribes, and takes what subscribers are given. */
type Subscribe<R> = Effect.Effect<Effect.Effect<CloudEvent>, never, R | Scope.Scope>

const suite = <R, E>(name: string, subscribe: Subscribe<R>, layer: Layer.Layer<R | Publisher, E>) =>
  describe(`Publisher (${name})`, () => {
    const running = Effect.gen(function* () {
      const publisher = yield* Publisher
      yield* Effect.forkScoped(publisher.run)
      return { publisher, next: yield* subscribe }
    })

    it.live("is ready and connected once its layer is built", () =>
      Effect.gen(function* () {
        const publisher = yield* Publisher
        yield* publisher.ready
        assert.strictEqual(yield* publisher.state, "connected")
      }).pipe(Effect.provide(layer))
    )

    it.live("gives subscribers the envelope as it was published", () =>
      Effect.gen(function* () {
        const { next, publisher } = yield* running
        const event = makeEvent(1, {
          title: "Čaj o páté ☕",
          lateness_ms: 1.5,
          host_id: null,
          nested: { list: [1, "a"] }
        })
        yield* publishOne(publisher, event)
        assert.deepStrictEqual(yield* next, event)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("publishes the events of one sequence one after the other, and tells of each confirm", () =>
      Effect.gen(function* () {
        const { next, publisher } = yield* running
        const events = Array.from({ length: 50 }, (_, n) => makeEvent(n))
        const confirmed: Array<string> = []
        yield* publishAll(publisher, [events], ({ event_id }) => void confirmed.push(event_id))
        const ids = events.map((event) => event.id)
        assert.deepStrictEqual(confirmed, ids)
        const seen = yield* Effect.forEach(events, () => next)
        assert.deepStrictEqual(
          seen.map((event) => event.id),
          ids
        )
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("confirms many events that are published at once", () =>
      Effect.gen(function* () {
        const { next, publisher } = yield* running
        const events = Array.from({ length: 500 }, (_, n) => makeEvent(n))
        const failed = yield* publishAll(
          publisher,
          events.map((event) => [event])
        )
        assert.deepStrictEqual(failed, [])
        const seen = yield* Effect.forEach(events, () => next)
        assert.strictEqual(new Set(seen.map((event) => event.id)).size, 500)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("publishes an event again under the same id when asked to", () =>
      Effect.gen(function* () {
        const { next, publisher } = yield* running
        const event = makeEvent()
        yield* publishOne(publisher, event)
        yield* publishOne(publisher, event)
        assert.strictEqual((yield* next).id, event.id)
        assert.strictEqual((yield* next).id, event.id)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("has nothing to say of no events", () =>
      Effect.gen(function* () {
        const { publisher } = yield* running
        assert.deepStrictEqual(yield* publishAll(publisher, []), [])
        assert.deepStrictEqual(yield* publishAll(publisher, [[]]), [])
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("goes on after publishers were interrupted", () =>
      Effect.gen(function* () {
        const { next, publisher } = yield* running
        const fibers = yield* Effect.forEach(Array.from({ length: 100 }), () =>
          Effect.forkChild(publishOne(publisher, makeEvent()), { startImmediately: true })
        )
        yield* Fiber.interruptAll(fibers)
        const event = makeEvent()
        yield* publishOne(publisher, event)
        // Some of the interrupted ones may have arrived before it.
        yield* Effect.repeat(next, { until: (seen) => seen.id === event.id })
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("is not held up by a subscriber that takes nothing", () =>
      Effect.gen(function* () {
        const { publisher } = yield* running
        const events = Array.from({ length: 3000 }, (_, n) => makeEvent(n))
        yield* publishAll(
          publisher,
          events.map((event) => [event])
        )
        assert.strictEqual(yield* publisher.state, "connected")
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  })

const exchange = `test.${randomUUID()}`

suite(
  "RabbitMQ",
  Effect.map(consumeExchange(inject("rabbitmqUrl"), exchange), (messages) =>
    Effect.map(Queue.take(messages), readEvent)
  ),
  RabbitPublisher.layer.pipe(
    Layer.provide(
      Settings.layerWith({
        rabbitmqUrl: Option.some(Redacted.make(inject("rabbitmqUrl"))),
        rabbitmqExchange: exchange
      })
    )
  )
)

suite(
  "in-process",
  Effect.gen(function* () {
    const { subscribe } = yield* InProcessEvents
    const pull = yield* Stream.toPull(yield* subscribe)
    let taken: ReadonlyArray<CloudEvent> = []
    return Effect.gen(function* () {
      if (taken.length === 0) taken = yield* Effect.orDie(pull)
      const [first, ...rest] = taken
      taken = rest
      return first ?? (yield* Effect.die(new Error("a pull gives at least one event")))
    })
  }),
  Layer.provideMerge(InProcessPublisher.layer, Logger.layer([]))
)
