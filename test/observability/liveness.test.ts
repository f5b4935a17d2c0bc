/** When the loops and the relay count as alive: they speak in time, and what could be done gets done. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Layer, Logger, Option, Queue, Ref } from "effect"
import { SqlError } from "effect/sql"
import { TestClock } from "effect/testing"
import { BrokerUnavailable, EventRefused, PublishError, Publisher } from "../../src/messaging/Publisher.ts"
import { Health } from "../../src/observability/Health.ts"
import { MemoryOutbox } from "../../src/outbox/MemoryOutbox.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { publishAll } from "../../src/outbox/Relay.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { run } from "../../src/scheduling/DueLoop.ts"
import { MemorySchedule } from "../../src/scheduling/MemoryDueRepository.ts"
import { Settings } from "../../src/Settings.ts"
import { answeringPublisher } from "../support/answeringPublisher.ts"

const away = new SqlError.SqlError({
  reason: new SqlError.ConnectionError({ cause: new Error("connection refused"), message: "connection refused" })
})

/** Turns the clock second by second, as long as nothing is overdue; returns after how many seconds something was. */
const secondsAlive = (limit: number) =>
  Effect.gen(function* () {
    const health = yield* Health
    for (let second = 0; second < limit; second++) {
      const [overdue] = yield* health.overdue
      if (overdue !== undefined) return { second, loop: overdue.loop, state: overdue.state }
      yield* TestClock.adjust(Duration.seconds(1))
    }
    return "alive"
  })

/** What takes its time, or for ever; a test that is over may interrupt it where the work itself may not be. */
const slowly = (pause: Duration.Duration) => Effect.interruptible(Effect.sleep(pause))
const forever = Effect.interruptible(Effect.never)

/** Errors that were logged. */
const errors = Effect.gen(function* () {
  const lines = yield* Queue.unbounded<string>()
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel === "Error") Queue.offerUnsafe(lines, String(message))
  })
  return { lines: Queue.clear(lines), layer: Logger.layer([logger]) }
})

const base = Layer.mergeAll(
  Listener.layerMemory,
  OutboxSignal.layerMemory,
  Settings.layerWith({ maxAttempts: 3 }),
  Health.layer
)

describe("a loop", () => {
  const layer = Layer.merge(MemorySchedule.layer, base)

  /** Runs the loop on a schedule that does what the test makes of it. */
  const start = (change: (repository: DueRepository) => Partial<DueRepository> = () => ({})) =>
    Effect.gen(function* () {
      const { repository } = yield* MemorySchedule
      yield* Effect.forkScoped(run({ ...repository, ...change(repository) }))
      yield* TestClock.adjust(Duration.zero)
    })

  it.effect("is alive while it has nothing to do, and while its rows are done in time", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let n = 0; n < 50; n++) yield* schedule.add(`row ${n}`, Duration.seconds(n * 7))
      yield* start()
      assert.strictEqual(yield* secondsAlive(900), "alive")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is silent when it hangs in its first look", () =>
    Effect.gen(function* () {
      yield* start(() => ({ look: () => Effect.never }))
      assert.deepStrictEqual(yield* secondsAlive(900), { second: 31, loop: "status-transitions", state: "silent" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("is silent when it hangs later on, half a minute after it should have been awake", () =>
    Effect.gen(function* () {
      const hangs = yield* Ref.make(false)
      yield* start((repository) => ({
        look: (from) =>
          Effect.flatMap(Ref.getAndSet(hangs, true), (hang) => (hang ? Effect.never : repository.look(from)))
      }))
      assert.deepStrictEqual(yield* secondsAlive(900), { second: 91, loop: "status-transitions", state: "silent" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("is stuck when it leaves an overdue row undone that nobody holds, and says so once", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("left", Duration.zero)
      const log = yield* errors
      yield* Effect.provide(
        start(() => ({ applyDue: () => Effect.succeed([]) })),
        log.layer
      )
      const end = yield* secondsAlive(900)
      assert.deepInclude(end, { loop: "status-transitions", state: "stuck" })
      assert.isBelow(end === "alive" ? Infinity : end.second, 60)
      yield* secondsAlive(60)
      assert.deepStrictEqual(yield* log.lines, [
        "A status-transition is overdue and nobody holds it, yet it does not get done"
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("is stuck when it claims to have done a row that is as it was", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("left", Duration.zero)
      yield* start((repository) => ({
        // What a trigger of somebody else's makes of an update that it swallows; slow enough for the test's clock.
        applyDue: (limit, from) =>
          Effect.gen(function* () {
            const done = yield* repository.applyDue(limit, from)
            for (const row of schedule.rows.values()) row.done = false
            yield* slowly(Duration.millis(500))
            return done
          })
      }))
      assert.deepInclude(yield* secondsAlive(900), { loop: "status-transitions", state: "stuck" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive again when the row is done after all", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("left", Duration.zero)
      const obstructed = yield* Ref.make(true)
      yield* start((repository) => ({
        applyDue: (limit, from) =>
          Effect.flatMap(Ref.get(obstructed), (is) => (is ? Effect.succeed([]) : repository.applyDue(limit, from)))
      }))
      assert.notStrictEqual(yield* secondsAlive(900), "alive")
      yield* Ref.set(obstructed, false)
      yield* TestClock.adjust(Duration.seconds(1))
      assert.strictEqual(yield* secondsAlive(900), "alive")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive while somebody else holds what is overdue, however long", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("held", Duration.zero)
      schedule.locked.add("held")
      yield* start()
      assert.strictEqual(yield* secondsAlive(600), "alive")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive while its kind is paused, whatever is overdue meanwhile, and when it goes on", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("overdue", Duration.minutes(-1))
      schedule.paused = true
      yield* start()
      assert.strictEqual(yield* secondsAlive(600), "alive")
      schedule.paused = false
      assert.strictEqual(yield* secondsAlive(120), "alive")
      assert.isTrue(schedule.rows.get("overdue")?.done)
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive while it works off what has been overdue for long, one slow batch after the other", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let n = 0; n < 200; n++) yield* schedule.add(`row ${n}`, Duration.hours(-1))
      yield* start((repository) => ({
        applyDue: () => Effect.andThen(slowly(Duration.seconds(4)), repository.applyDue(1, undefined))
      }))
      assert.strictEqual(yield* secondsAlive(600), "alive")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive while the database is away, and while every batch fails for a reason of the server's", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("due", Duration.zero)
      const failing = yield* Ref.make(true)
      yield* start((repository) => ({
        applyDue: (limit, from) =>
          Effect.flatMap(Ref.get(failing), (fails) => (fails ? Effect.fail(away) : repository.applyDue(limit, from)))
      }))
      assert.strictEqual(yield* secondsAlive(300), "alive")
      schedule.outage = Option.some(away)
      assert.strictEqual(yield* secondsAlive(300), "alive")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive while rows rest, are tried again, and are given up", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("bad", Duration.zero)
      schedule.poison.add("bad")
      yield* start()
      assert.strictEqual(yield* secondsAlive(300), "alive")
      assert.lengthOf(schedule.deadLetters, 1)
    }).pipe(Effect.provide(layer))
  )
})

describe("the relay", () => {
  const start = (
    answer: (id: string) => Effect.Effect<void, PublishError["reason"]>,
    change: (repository: OutboxRepository["Service"]) => Partial<OutboxRepository["Service"]> = () => ({}),
    publisher: Partial<Publisher["Service"]> = {}
  ) =>
    Effect.gen(function* () {
      const outbox = yield* OutboxRepository
      const over = yield* Deferred.make<void, PublishError["reason"]>()
      const broker = answeringPublisher(({ id }) =>
        Effect.mapError(
          Effect.raceFirst(answer(id), Deferred.await(over)),
          (reason) => new PublishError({ event_id: id, reason })
        )
      )
      yield* Effect.forkScoped(
        publishAll().pipe(
          Effect.provideService(OutboxRepository, { ...outbox, ...change(outbox) }),
          Effect.provideService(Publisher, { ...broker, ...publisher })
        )
      )
      // The relay waits for what it has sent before it stops.
      yield* Effect.addFinalizer(() => Deferred.fail(over, new BrokerUnavailable({ detail: "the test is over" })))
      yield* TestClock.adjust(Duration.zero)
    })

  const layer = Layer.merge(MemoryOutbox.layer, base)
  const append = Effect.flatMap(MemoryOutbox, (outbox) => outbox.append("game", "game.created"))
  const taken = () => Effect.void

  it.effect("is alive while it has nothing to do, and after its events are confirmed", () =>
    Effect.gen(function* () {
      yield* append
      yield* start(taken)
      assert.strictEqual(yield* secondsAlive(300), "alive")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is silent when it hangs", () =>
    Effect.gen(function* () {
      yield* start(taken, () => ({ list: () => forever }))
      assert.deepStrictEqual(yield* secondsAlive(300), { second: 31, loop: "outbox", state: "silent" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("is silent when a publish is never answered", () =>
    Effect.gen(function* () {
      yield* append
      yield* start(() => Effect.never)
      assert.deepStrictEqual(yield* secondsAlive(300), { second: 31, loop: "outbox", state: "silent" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("is stuck when what it has published does not leave the outbox", () =>
    Effect.gen(function* () {
      yield* append
      yield* start(
        () => Effect.sleep(Duration.millis(100)),
        () => ({ remove: () => Effect.succeed(0) })
      )
      assert.deepStrictEqual(yield* secondsAlive(300), { second: 16, loop: "outbox", state: "stuck" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("is stuck when events wait that it does not get to see", () =>
    Effect.gen(function* () {
      yield* append
      yield* start(taken, () => ({ list: () => Effect.succeed([]) }))
      assert.deepStrictEqual(yield* secondsAlive(300), { second: 16, loop: "outbox", state: "stuck" })
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive while the broker is away, or takes no event", () =>
    Effect.gen(function* () {
      yield* append
      const isThere = yield* Ref.make(true)
      const unavailable = new BrokerUnavailable({ detail: "it did not confirm in time" })
      yield* start(() => Effect.andThen(Effect.sleep(Duration.seconds(10)), Effect.fail(unavailable)), undefined, {
        ready: Effect.flatMap(Ref.get(isThere), (is) => (is ? Effect.void : Effect.never))
      })
      assert.strictEqual(yield* secondsAlive(300), "alive")
      yield* Ref.set(isThere, false)
      assert.strictEqual(yield* secondsAlive(300), "alive")
    }).pipe(Effect.provide(layer))
  )

  it.effect("is alive while an event rests, is tried again, and is given up", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox
      yield* append
      yield* start(() => Effect.fail(new EventRefused({ detail: "nack" })))
      assert.strictEqual(yield* secondsAlive(300), "alive")
      assert.lengthOf(yield* outbox.deadLetters, 1)
    }).pipe(Effect.provide(layer))
  )
})
