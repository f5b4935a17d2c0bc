import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Metric, Queue } from "effect"
import { TestClock } from "effect/testing"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import {
  BrokerUnavailable,
  ChannelClosed,
  EventRefused,
  PublishError,
  Publisher
} from "../../src/messaging/Publisher.ts"
import * as Metrics from "../../src/observability/Metrics.ts"
import { MemoryOutbox } from "../../src/outbox/MemoryOutbox.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { publishAll } from "../../src/outbox/Relay.ts"
import { channels } from "../../src/postgres/channels.ts"
import { Listener, MemoryNotifier } from "../../src/postgres/Listener.ts"
import { Settings } from "../../src/Settings.ts"
import { answeringPublisher } from "../support/answeringPublisher.ts"
import { Rests } from "../support/Rests.ts"

/** A broker that the test answers for: every publish waits for its verdict. */
class Broker extends Context.Service<
  Broker,
  {
    readonly arrivals: Queue.Queue<{
      readonly event: CloudEvent
      readonly verdict: Deferred.Deferred<void, PublishError>
    }>
  }
>()("kickoff/test/ManualBroker") {
  static readonly layer = Layer.effectContext(
    Effect.gen(function* () {
      const arrivals = yield* Queue.unbounded<{
        readonly event: CloudEvent
        readonly verdict: Deferred.Deferred<void, PublishError>
      }>()
      return Context.make(Broker, Broker.of({ arrivals })).pipe(
        Context.add(
          Publisher,
          answeringPublisher(
            Effect.fnUntraced(function* (event) {
              const verdict = yield* Deferred.make<void, PublishError>()
              yield* Queue.offer(arrivals, { event, verdict })
              yield* Deferred.await(verdict)
            })
          )
        )
      )
    })
  )
}

const layer = Layer.mergeAll(
  MemoryOutbox.layer,
  Broker.layer,
  Listener.layerMemory,
  OutboxSignal.layerMemory,
  Settings.layerWith({}),
  Rests.layer
)

const arrival = Effect.flatMap(Broker, (broker) => Queue.take(broker.arrivals))
const confirm = (verdict: Deferred.Deferred<void, PublishError>) => Deferred.succeed(verdict, undefined)
const fail = (
  verdict: Deferred.Deferred<void, PublishError>,
  event: CloudEvent,
  reason: BrokerUnavailable | ChannelClosed | EventRefused
) => Deferred.fail(verdict, new PublishError({ event_id: event.id, reason }))
const refused = new EventRefused({ detail: "nack" })
const closed = new ChannelClosed({ detail: "406" })

/** Starts the relay as the one that relays. */
const relaying = Effect.gen(function* () {
  const signal = yield* OutboxSignal
  yield* signal.setRelaying(true)
  return yield* Effect.forkScoped(publishAll())
})

/** Waits until the outbox looks like this. */
const waiting = (expected: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const outbox = yield* MemoryOutbox
    while (JSON.stringify(yield* outbox.waiting) !== JSON.stringify(expected)) yield* Effect.yieldNow
  })

describe("Relay", () => {
  it.effect("forgets an event only after the broker has confirmed it", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const id = yield* outbox.append("g1", "game.started")
      yield* relaying
      const { event, verdict } = yield* arrival
      assert.strictEqual(event.id, id)
      assert.deepStrictEqual(yield* outbox.waiting, [id])
      yield* confirm(verdict)
      yield* waiting([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("has at most one event of a game under way, in order, and many games at once", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const broker = yield* Broker
      const first = yield* outbox.append("g1", "game.created")
      const second = yield* outbox.append("g1", "game.started")
      const other = yield* outbox.append("g2", "game.created")
      yield* relaying
      const a = yield* arrival
      const b = yield* arrival
      assert.deepStrictEqual([a.event.id, b.event.id], [first, other])
      yield* confirm(b.verdict)
      yield* Effect.yieldNow
      assert.strictEqual(yield* Queue.size(broker.arrivals), 0)
      yield* confirm(a.verdict)
      const c = yield* arrival
      assert.strictEqual(c.event.id, second)
      yield* confirm(c.verdict)
      yield* waiting([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("is woken by a commit of its own process", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const signal = yield* OutboxSignal
      const first = yield* outbox.append("g1", "game.created")
      yield* relaying
      const a = yield* arrival
      assert.strictEqual(a.event.id, first)
      yield* confirm(a.verdict)
      yield* waiting([])
      const second = yield* outbox.append("g1", "game.started")
      yield* signal.committed
      const b = yield* arrival
      assert.strictEqual(b.event.id, second)
      yield* confirm(b.verdict)
    }).pipe(Effect.provide(layer))
  )

  it.effect(
    "tries a refused event again with doubling pauses, then gives it up, and only then sends what follows it",
    () =>
      Effect.gen(function* () {
        const outbox = yield* MemoryOutbox
        const rests = yield* Rests
        const bad = yield* outbox.append("g1", "game.created")
        const later = yield* outbox.append("g1", "game.started")
        yield* relaying
        for (let attempt = 1; attempt <= 8; attempt++) {
          const { event, verdict } = yield* arrival
          assert.strictEqual(event.id, bad)
          yield* fail(verdict, event, refused)
          if (attempt === 8) break
          const pause = Math.min(500 * 2 ** (attempt - 1), 30_000)
          // It looks every second while something waits, so it rests until the pause is over or for that second.
          for (let rested = 0; rested < pause;) {
            const rest = yield* rests.take
            assert.isAtMost(rest, Math.min(1000, pause - rested))
            yield* TestClock.adjust(Duration.millis(rest))
            rested += rest
          }
        }
        const { event, verdict } = yield* arrival
        assert.strictEqual(event.id, later)
        yield* confirm(verdict)
        assert.deepStrictEqual(yield* outbox.deadLetters, [[bad, 8]])
      }).pipe(Effect.provide(layer))
  )

  it.effect("looks every second while the listener is away, and by the backstop again when it is back", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const notifier = yield* MemoryNotifier
      const rests = yield* Rests
      yield* relaying
      assert.strictEqual(yield* rests.take, 60_000)
      yield* notifier.lose
      assert.strictEqual(yield* rests.take, 1000)
      // Of another process, whose hint does not get here.
      const id = yield* outbox.append("g1", "game.created")
      yield* TestClock.adjust(Duration.seconds(1))
      const { event, verdict } = yield* arrival
      assert.strictEqual(event.id, id)
      yield* confirm(verdict)
      assert.strictEqual(yield* rests.take, 1000)
      yield* notifier.reconnect
      assert.strictEqual(yield* rests.take, 60_000)
    }).pipe(Effect.provide(layer))
  )

  it.effect("counts every wake-up by its cause", () =>
    Effect.gen(function* () {
      const notifier = yield* MemoryNotifier
      const signal = yield* OutboxSignal
      const rests = yield* Rests
      const count = (cause: string) =>
        Effect.map(
          Metric.value(Metric.withAttributes(Metrics.wakeUps, { loop: "outbox", cause })),
          (state) => state.count
        )
      const wakes: ReadonlyArray<readonly [string, Effect.Effect<void>]> = [
        ["notify", notifier.notify(channels.outbox)],
        ["notify", signal.committed],
        ["backstop", signal.found],
        ["backstop", TestClock.adjust(Duration.minutes(1))],
        ["lost", notifier.lose],
        ["timer", TestClock.adjust(Duration.seconds(1))],
        ["reconnect", notifier.reconnect]
      ]
      yield* relaying
      yield* rests.take
      for (const [cause, wake] of wakes) {
        const before = yield* count(cause)
        yield* wake
        yield* rests.take
        assert.strictEqual((yield* count(cause)) - before, 1, cause)
      }
    }).pipe(Effect.provide(layer))
  )

  it.effect("sends the events of other games while one rests after a refusal", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const signal = yield* OutboxSignal
      const bad = yield* outbox.append("g1", "game.created")
      yield* relaying
      const a = yield* arrival
      yield* fail(a.verdict, a.event, refused)
      const good = yield* outbox.append("g2", "game.created")
      yield* signal.committed
      const b = yield* arrival
      assert.strictEqual(b.event.id, good)
      yield* confirm(b.verdict)
      yield* waiting([bad])
    }).pipe(Effect.provide(layer))
  )

  it.effect("counts no attempt while the broker is away, however long, and loses nothing", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const ids = [yield* outbox.append("g1", "game.created"), yield* outbox.append("g2", "game.created")]
      yield* relaying
      for (let round = 0; round < 20; round++) {
        const sent = yield* Effect.forEach(ids, () => arrival)
        for (const { event, verdict } of sent) {
          yield* fail(verdict, event, new BrokerUnavailable({ detail: "connection refused" }))
        }
        yield* TestClock.adjust(Duration.seconds(3))
      }
      for (const id of ids) {
        const { event, verdict } = yield* arrival
        assert.strictEqual(event.id, id)
        yield* confirm(verdict)
      }
      yield* waiting([])
      assert.deepStrictEqual(yield* outbox.deadLetters, [])
    }).pipe(Effect.provide(layer))
  )

  it.effect("publishes one at a time after the broker closed the channel, until the culprit is found", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const broker = yield* Broker
      const ids = yield* Effect.forEach(["g1", "g2", "g3"], (game) => outbox.append(game, "game.created"))
      yield* relaying
      const together = yield* Effect.forEach(ids, () => arrival)
      yield* Effect.forEach(together, ({ event, verdict }) => fail(verdict, event, closed))
      const alone: Array<string> = []
      while (alone.length < ids.length) {
        const { event, verdict } = yield* arrival
        assert.strictEqual(yield* Queue.size(broker.arrivals), 0)
        alone.push(event.id)
        yield* event.id === ids[1] ? fail(verdict, event, closed) : confirm(verdict)
      }
      assert.deepStrictEqual(alone, ids)
      yield* waiting(ids.slice(1, 2))
    }).pipe(Effect.provide(layer))
  )

  it.effect("does not let a game with thousands of events hold up the others", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const broker = yield* Broker
      for (let n = 0; n < 2500; n++) yield* outbox.append("hot", "game.updated")
      const other = yield* outbox.append("g2", "game.started")
      yield* Effect.forkScoped(
        Effect.forever(Effect.flatMap(Queue.take(broker.arrivals), ({ verdict }) => confirm(verdict)))
      )
      yield* relaying
      while ((yield* outbox.waiting).includes(other)) yield* Effect.yieldNow
      assert.isAtLeast((yield* outbox.waiting).length, 2400)
      yield* waiting([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("sends what is committed while an earlier batch still waits for its confirms", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const signal = yield* OutboxSignal
      const first = yield* outbox.append("g1", "game.started")
      yield* relaying
      const a = yield* arrival
      assert.strictEqual(a.event.id, first)
      const second = yield* outbox.append("g2", "game.started")
      const later = yield* outbox.append("g1", "game.completed")
      yield* signal.committed
      const b = yield* arrival
      assert.strictEqual(b.event.id, second)
      yield* confirm(b.verdict)
      yield* waiting([first, later])
      yield* confirm(a.verdict)
      const c = yield* arrival
      assert.strictEqual(c.event.id, later)
      yield* confirm(c.verdict)
      yield* waiting([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("has two batches under way while there is a backlog, and no event of a game that is in the other one", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const broker = yield* Broker
      const take = (count: number) => Effect.forEach(Array.from({ length: count }), () => arrival)
      yield* Effect.forEach(Array.from({ length: 3000 }), (_, n) => outbox.append(`g${n}`, "game.created"))
      yield* relaying
      // The first full batch shows that there is a backlog.
      for (const { verdict } of yield* take(1000)) yield* confirm(verdict)
      const two = yield* take(1000)
      const one = yield* take(1000)

      const later = yield* outbox.append(two[0]?.event.subject ?? "", "game.started")
      const fresh = yield* outbox.append("fresh", "game.created")
      for (const { verdict } of one) yield* confirm(verdict)
      const next = yield* arrival
      assert.strictEqual(next.event.id, fresh)
      yield* confirm(next.verdict)
      assert.strictEqual(yield* Queue.size(broker.arrivals), 0)
      for (const { verdict } of two) yield* confirm(verdict)
      const last = yield* arrival
      assert.strictEqual(last.event.id, later)
      yield* confirm(last.verdict)
      yield* waiting([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("sends what is new before the end of a backlog, unless something earlier of its game waits", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const broker = yield* Broker
      const take = (count: number) => Effect.forEach(Array.from({ length: count }), () => arrival)
      yield* Effect.forEach(Array.from({ length: 4000 }), (_, n) => outbox.append(`g${n}`, "game.created"))
      yield* relaying
      for (const { verdict } of yield* take(1000)) yield* confirm(verdict)
      const both = yield* take(2000)
      const held = both.at(-1)?.event.subject ?? ""

      const fresh = yield* outbox.append("fresh", "game.started")
      const late = yield* outbox.append(held, "game.started")
      for (const { event, verdict } of both) if (event.subject !== held) yield* confirm(verdict)
      const next = yield* take(1000)
      const ids = next.map(({ event }) => event.id)
      assert.include(ids, fresh)
      assert.notInclude(ids, late)
      assert.strictEqual(yield* Queue.size(broker.arrivals), 0)

      // A batch that is under way is waited for.
      for (const { verdict } of [...both, ...next]) yield* confirm(verdict)
      yield* Effect.forkScoped(Effect.forever(Effect.flatMap(arrival, ({ verdict }) => confirm(verdict))))
      yield* waiting([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("has no more than two batches of a thousand events in hand, however many wait", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      const broker = yield* Broker
      for (let n = 0; n < 5000; n++) yield* outbox.append(`game ${n}`, "game.started")
      yield* relaying
      for (const size of [2000, 2000, 1000]) {
        const sent = yield* Effect.forEach(Array.from({ length: size }), () => arrival)
        for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
        assert.strictEqual(yield* Queue.size(broker.arrivals), 0)
        yield* Effect.forEach(sent, ({ verdict }) => confirm(verdict))
      }
      yield* waiting([])
    }).pipe(Effect.provide(layer))
  )

  it.effect("waits for the confirms of what it has sent before it stops", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      yield* outbox.append("g1", "game.created")
      const relay = yield* relaying
      const { verdict } = yield* arrival
      const stop = yield* Effect.forkChild(Fiber.interrupt(relay))
      yield* Effect.yieldNow
      yield* confirm(verdict)
      yield* Fiber.join(stop)
      assert.deepStrictEqual(yield* outbox.waiting, [])
    }).pipe(Effect.provide(layer))
  )
})
