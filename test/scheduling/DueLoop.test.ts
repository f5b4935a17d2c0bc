import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Metric, Option, Queue } from "effect"
import { SqlError } from "effect/sql"
import { TestClock } from "effect/testing"
import * as Metrics from "../../src/observability/Metrics.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { channels } from "../../src/postgres/channels.ts"
import { Listener, MemoryNotifier } from "../../src/postgres/Listener.ts"
import { run } from "../../src/scheduling/DueLoop.ts"
import { MemorySchedule } from "../../src/scheduling/MemoryDueRepository.ts"
import { Settings } from "../../src/Settings.ts"
import { Rests } from "../support/Rests.ts"
import { makeSkewedClock } from "../support/skewedClock.ts"

/** A failure as a server that restarts gives it. */
const serverAway = new SqlError.SqlError({
  reason: new SqlError.ConnectionError({ cause: new Error("connection refused"), message: "connection refused" })
})

/** The loop on a schedule in memory; `rests` gets how long each wait will be, `calls` each call of the repository. */
const started = Effect.gen(function* () {
  const schedule = yield* MemorySchedule
  const notifier = yield* MemoryNotifier
  const rests = yield* Rests
  const calls = yield* Queue.unbounded<string>()
  schedule.onCall = (method) => Effect.asVoid(Queue.offer(calls, method))
  yield* Effect.forkScoped(run(schedule.repository))
  return {
    schedule,
    notifier,
    /** Waits until the loop rests, and says for how many milliseconds. */
    rests: rests.take,
    /** The calls of the repository since this was asked last. */
    calls: Queue.clear(calls),
    isDone: (id: string) => schedule.rows.get(id)?.done === true,
    notify: notifier.notify(channels.statusTransitions)
  }
})

const layer = (settings: Parameters<typeof Settings.layerWith>[0] = {}) =>
  Layer.mergeAll(
    MemorySchedule.layer,
    Listener.layerMemory,
    OutboxSignal.layerMemory,
    Settings.layerWith(settings),
    Rests.layer
  )

const wakeUps = (cause: string) =>
  Effect.map(
    Metric.value(Metric.withAttributes(Metrics.wakeUps, { loop: "status-transitions", cause })),
    (state) => state.count
  )

describe("DueLoop", () => {
  it.effect("sleeps until the next due time and applies the row then, not before", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.seconds(10))
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 10_000)
      yield* TestClock.adjust(Duration.millis(9_999))
      assert.isFalse(loop.isDone("a"))
      yield* TestClock.adjust(Duration.millis(1))
      assert.strictEqual(yield* loop.rests, 60_000)
      assert.isTrue(loop.isDone("a"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("sleeps for fractions of a second as they are, without a look in between", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.millis(1_700))
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 1_700)
      yield* loop.calls
      yield* TestClock.adjust(Duration.millis(1_700))
      yield* loop.rests
      assert.isTrue(loop.isDone("a"))
      assert.deepStrictEqual(yield* loop.calls, ["applyDue", "look"])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("sets its timer to the nearest millisecond, and claims nothing where that is too early", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.millis(1_000.4))
      yield* schedule.add("b", Duration.millis(2_000.6))
      const loop = yield* started
      assert.approximately(yield* loop.rests, 1_000.4, 0.001)
      yield* TestClock.adjust(Duration.seconds(1))
      assert.approximately(yield* loop.rests, 0.4, 0.001)
      assert.isFalse(loop.isDone("a"))
      yield* TestClock.adjust(Duration.millis(1))
      assert.approximately(yield* loop.rests, 999.6, 0.001)
      assert.isTrue(loop.isDone("a"))
      yield* loop.calls
      yield* TestClock.adjust(Duration.millis(999))
      assert.deepStrictEqual(yield* loop.calls, [])
      yield* TestClock.adjust(Duration.millis(1))
      yield* loop.rests
      assert.isTrue(loop.isDone("b"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("lets what is left of a wait pass in turns of the scheduler where its timer rang too early", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.millis(1_000.4))
      const clock = yield* Clock.Clock
      const began = clock.monotonicTimeNanosUnsafe()
      /** Time that passes beside that of the test: a hundredth of a millisecond whenever it is asked for. */
      let passed = 0n
      const ticking: Clock.Clock = {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
        currentTimeMillis: clock.currentTimeMillis,
        currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
        currentTimeNanos: clock.currentTimeNanos,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: Effect.sync(() => clock.monotonicTimeNanosUnsafe() + (passed += 10_000n)),
        sleep: (duration) => clock.sleep(duration)
      }
      const loop = yield* Effect.provideService(started, Clock.Clock, ticking)
      assert.approximately(yield* loop.rests, 1_000.4, 0.001)
      passed = 0n
      let claimed = 0n
      schedule.onCall = (method) =>
        Effect.sync(() => {
          if (method === "applyDue") claimed = clock.monotonicTimeNanosUnsafe() + passed - began
        })
      yield* TestClock.adjust(Duration.seconds(1))
      yield* loop.rests
      // The statement is on its way for 0.3 ms.
      assert.approximately(Number(claimed) / 1e6, 1_000.1, 0.05)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("lets the relay ask for the event of a row that was waited for before it looks for more", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      const signal = yield* OutboxSignal
      yield* signal.setRelaying(true)
      yield* schedule.add("a", Duration.seconds(10))
      const loop = yield* started
      yield* loop.rests
      yield* Queue.clear(signal.wakeUps)
      const order: Array<string> = []
      schedule.onCall = (method) => Effect.sync(() => void order.push(method))
      // As in the relay: one fiber takes the signal, another one asks.
      const turns = yield* Queue.sliding<void>(1)
      const hints = Effect.andThen(Queue.take(signal.wakeUps), Queue.offer(turns, undefined))
      const lane = Effect.andThen(
        Queue.take(turns),
        Effect.sync(() => order.push("list"))
      )
      yield* Effect.forkScoped(Effect.forever(hints))
      yield* Effect.forkScoped(Effect.forever(lane))
      yield* TestClock.adjust(Duration.seconds(10))
      yield* loop.rests
      assert.deepStrictEqual(order, ["applyDue", "list", "look"])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("is woken by a hint and applies a row that is due earlier than the one it waits for", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("later", Duration.seconds(50))
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 50_000)
      const before = yield* wakeUps("notify")
      yield* schedule.add("sooner", Duration.zero)
      yield* loop.notify
      assert.strictEqual(yield* loop.rests, 50_000)
      assert.isTrue(loop.isDone("sooner"))
      assert.isFalse(loop.isDone("later"))
      assert.strictEqual((yield* wakeUps("notify")) - before, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("keeps a hint that comes during the look, so that no wake-up is lost", () =>
    Effect.gen(function* () {
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 60_000)
      const schedule = loop.schedule
      // The row is committed, and notified, after the look has read the table and before it returns.
      schedule.onCall = (method) =>
        method === "look" && !schedule.rows.has("a") ? Effect.andThen(Effect.yieldNow, loop.notify) : Effect.void
      yield* loop.notify
      yield* loop.rests
      yield* schedule.add("a", Duration.zero)
      yield* loop.rests
      assert.isTrue(loop.isDone("a"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("coalesces a burst of hints into one look", () =>
    Effect.gen(function* () {
      const loop = yield* started
      yield* loop.rests
      yield* loop.calls
      yield* Effect.forEach(Array.from({ length: 100 }), () => loop.notify, { discard: true })
      yield* loop.rests
      const looks = (yield* loop.calls).length
      assert.isAtMost(looks, 2)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("does nothing while its kind is paused, and everything that is due once it is told that it goes on", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("before", Duration.seconds(5))
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 5_000)
      schedule.paused = true
      // Its timer rings all the same, and it does not spin then.
      yield* TestClock.adjust(Duration.seconds(5))
      assert.strictEqual(yield* loop.rests, 60_000)
      yield* schedule.add("meanwhile", Duration.zero)
      yield* loop.notify
      assert.strictEqual(yield* loop.rests, 60_000)
      yield* TestClock.adjust(Duration.minutes(2))
      assert.deepStrictEqual([yield* loop.rests, yield* loop.rests], [60_000, 60_000])
      assert.deepStrictEqual(["before", "meanwhile"].map(loop.isDone), [false, false])

      schedule.paused = false
      yield* loop.notifier.notify(channels.pauses)
      assert.strictEqual(yield* loop.rests, 60_000)
      assert.deepStrictEqual(["before", "meanwhile"].map(loop.isDone), [true, true])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("claims fewer rows at once where a whole batch cannot be done in time", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      const ids = Array.from({ length: 500 }, (_, index) => `row ${index}`)
      yield* Effect.forEach(ids, (id) => schedule.add(id, Duration.zero))
      const { repository } = schedule
      const slow: typeof repository = {
        ...repository,
        applyDue: (limit, from) => (limit > 100 ? Effect.fail(serverAway) : repository.applyDue(limit, from))
      }
      yield* Effect.forkScoped(run(slow))
      yield* TestClock.adjust(Duration.minutes(1))
      assert.isTrue(ids.every((id) => schedule.rows.get(id)?.done === true))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("applies what comes due during a backlog before the backlog", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let n = 0; n < 2500; n++) yield* schedule.add(`overdue ${n}`, Duration.seconds(-10))
      yield* schedule.add("prompt", Duration.zero)
      const loop = yield* started
      const done: Array<ReadonlyArray<string | number>> = []
      schedule.onCall = (method) =>
        Effect.gen(function* () {
          if (method !== "look") return
          const all = [...schedule.rows.values()].filter((row) => row.done).map(({ id }) => id)
          const overdue = all.filter((id) => id.startsWith("overdue"))
          done.push([overdue.length, ...all.filter((id) => !overdue.includes(id))])
          // One more comes due in the midst of it, and is committed late.
          if (done.length === 2) yield* schedule.add("another", Duration.millis(-100))
        })
      yield* loop.rests
      assert.deepStrictEqual(done.slice(0, 3), [[0], [1000, "prompt"], [2000, "prompt", "another"]])
    }).pipe(Effect.provide(layer()))
  )

  it.effect(
    "leaves the batches of a backlog for a moment while the relay is behind, and nothing that comes due meanwhile",
    () =>
      Effect.gen(function* () {
        const schedule = yield* MemorySchedule
        const signal = yield* OutboxSignal
        for (let n = 0; n < 2500; n++) yield* schedule.add(`overdue ${n}`, Duration.seconds(-10))
        yield* schedule.add("prompt", Duration.zero)
        yield* signal.setBehind(true)
        const loop = yield* started
        const done = () => [...schedule.rows.values()].filter((row) => row.done).length
        yield* TestClock.adjust(Duration.millis(99))
        assert.isTrue(loop.isDone("prompt"))
        assert.strictEqual(done(), 1)
        yield* TestClock.adjust(Duration.millis(1))
        assert.strictEqual(done(), 1001)
        yield* TestClock.adjust(Duration.millis(100))
        assert.strictEqual(done(), 2001)
        yield* signal.setBehind(false)
        yield* loop.rests
        assert.strictEqual(done(), 2501)
      }).pipe(Effect.provide(layer()))
  )

  it.effect("applies a backlog also while something that comes due meanwhile cannot be applied", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let n = 0; n < 1500; n++) yield* schedule.add(`overdue ${n}`, Duration.seconds(-10))
      yield* schedule.add("bad", Duration.zero)
      schedule.poison.add("bad")
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 500)
      assert.isTrue([...schedule.rows.values()].every(({ done, id }) => done || id === "bad"))
      assert.strictEqual(schedule.rows.get("bad")?.attempts, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect(
    "finds the one that cannot be applied among those that come due during a backlog, and applies the others",
    () =>
      Effect.gen(function* () {
        const schedule = yield* MemorySchedule
        for (let n = 0; n < 9000; n++) yield* schedule.add(`overdue ${n}`, Duration.seconds(-10))
        for (let n = 0; n < 8; n++) yield* schedule.add(`prompt ${n}`, Duration.zero)
        schedule.poison.add("prompt 3")
        const loop = yield* started
        schedule.onCall = (method) => (method.startsWith("apply") ? TestClock.adjust(Duration.millis(5)) : Effect.void)
        const prompt = Array.from({ length: 8 }, (_, n) => `prompt ${n}`).filter((id) => !schedule.poison.has(id))
        while (!prompt.every((id) => loop.isDone(id))) yield* Effect.yieldNow
        const overdue = [...schedule.rows.values()].filter(({ done, id }) => id.startsWith("overdue") && done)
        assert.isAtMost(overdue.length, 6000)
        yield* loop.rests
        assert.strictEqual(schedule.rows.get("prompt 3")?.attempts, 1)
      }).pipe(Effect.provide(layer()))
  )

  it.effect("signals to the relay after a failure that may have been a commit, once nothing is due any more", () =>
    Effect.gen(function* () {
      const loop = yield* started
      const signal = yield* OutboxSignal
      yield* signal.setRelaying(true)
      yield* loop.rests
      yield* Queue.clear(signal.wakeUps)
      yield* loop.notify
      yield* loop.rests
      assert.deepStrictEqual(yield* Queue.clear(signal.wakeUps), [])
      yield* loop.schedule.add("a", Duration.zero)
      // The answer is lost, and the row done all the same.
      loop.schedule.onCall = (method) =>
        method === "applyDue"
          ? Effect.sync(() => {
              loop.schedule.outage = Option.some(serverAway)
              loop.schedule.onCall = () =>
                Effect.sync(() => {
                  loop.schedule.outage = Option.none()
                  const row = loop.schedule.rows.get("a")
                  if (row !== undefined) row.done = true
                })
            })
          : Effect.void
      yield* loop.notify
      yield* loop.rests
      assert.strictEqual((yield* Queue.clear(signal.wakeUps)).length, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("looks at once after the listener has reconnected", () =>
    Effect.gen(function* () {
      const loop = yield* started
      yield* loop.rests
      const before = yield* wakeUps("reconnect")
      yield* loop.schedule.add("a", Duration.zero)
      yield* loop.notifier.reconnect
      yield* loop.rests
      assert.isTrue(loop.isDone("a"))
      assert.strictEqual((yield* wakeUps("reconnect")) - before, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("looks every second while the listener is away, and by the backstop again when it is back", () =>
    Effect.gen(function* () {
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 60_000)
      yield* loop.notifier.lose
      assert.strictEqual(yield* loop.rests, 1000)
      yield* loop.schedule.add("a", Duration.zero)
      yield* TestClock.adjust(Duration.seconds(1))
      assert.strictEqual(yield* loop.rests, 1000)
      assert.isTrue(loop.isDone("a"))
      yield* loop.notifier.reconnect
      assert.strictEqual(yield* loop.rests, 60_000)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("finds by the backstop what nobody told of, and looks no more often than that", () =>
    Effect.gen(function* () {
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 30_000)
      yield* loop.calls
      yield* loop.schedule.add("a", Duration.zero)
      const before = yield* wakeUps("backstop")
      yield* TestClock.adjust(Duration.seconds(30))
      yield* loop.rests
      assert.isTrue(loop.isDone("a"))
      yield* loop.calls
      yield* TestClock.adjust(Duration.seconds(30))
      yield* loop.rests
      assert.deepStrictEqual(yield* loop.calls, ["look"])
      assert.strictEqual((yield* wakeUps("backstop")) - before, 2)
    }).pipe(Effect.provide(layer({ backstop: Duration.seconds(30) })))
  )

  it.effect(
    "need not look at what is earlier than all that is pending, until a hint names it or the backstop rings",
    () =>
      Effect.gen(function* () {
        const loop = yield* started
        assert.strictEqual(yield* loop.rests, 60_000)
        // As left-overs in the index: the first look has found nothing there, so the next begins after them.
        yield* loop.schedule.add("unnoticed", Duration.seconds(-10))
        yield* loop.schedule.add("noticed", Duration.zero)
        yield* loop.notifier.notify(channels.statusTransitions, 0)
        yield* loop.rests
        assert.isTrue(loop.isDone("noticed"))
        assert.isFalse(loop.isDone("unnoticed"))

        yield* loop.schedule.add("named", Duration.seconds(-5))
        yield* loop.notifier.notify(channels.statusTransitions, -5000)
        yield* loop.rests
        assert.isTrue(loop.isDone("named"))
        assert.isFalse(loop.isDone("unnoticed"))

        yield* TestClock.adjust(Duration.seconds(60))
        yield* loop.rests
        assert.isTrue(loop.isDone("unnoticed"))

        yield* loop.schedule.add("of an unknown time", Duration.seconds(-20))
        yield* loop.notify
        yield* loop.rests
        assert.isTrue(loop.isDone("of an unknown time"))
      }).pipe(Effect.provide(layer()))
  )

  it.effect("looks at everything once per backstop, and follows hints, also while rows are due all the time", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let n = 1; n <= 13; n++) yield* schedule.add(`row ${n}`, Duration.seconds(n * 10))
      const loop = yield* started
      yield* loop.rests
      yield* schedule.add("unnoticed", Duration.seconds(-10))
      const step = Effect.andThen(TestClock.adjust(Duration.seconds(10)), loop.rests)
      for (let n = 1; n <= 5; n++) yield* step
      assert.isFalse(loop.isDone("unnoticed"))
      yield* step
      assert.isTrue(loop.isDone("unnoticed"))

      // A hint that comes while a batch is applied is followed before the next look.
      yield* schedule.add("named", Duration.seconds(-5))
      schedule.onCall = (method) =>
        method === "applyDue" ? loop.notifier.notify(channels.statusTransitions, -5000) : Effect.void
      yield* step
      assert.isTrue(loop.isDone("named"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("looks for what waits in vain once per backstop, also while rows are due all the time", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      schedule.stalled = true
      for (let n = 1; n <= 13; n++) yield* schedule.add(`row ${n}`, Duration.seconds(n * 10))
      const loop = yield* started
      const searches: Array<number> = []
      for (let second = 0; second <= 120; second += 10) {
        assert.strictEqual(yield* loop.rests, 10_000)
        if ((yield* loop.calls).includes("releaseStalled")) searches.push(second)
        yield* TestClock.adjust(Duration.seconds(10))
      }
      assert.deepStrictEqual(searches, [0, 60, 120])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("looks for what waits in vain by its backstop also after the machine's clock was set back by hours", () =>
    Effect.gen(function* () {
      const machine = yield* makeSkewedClock(0)
      const schedule = yield* MemorySchedule
      schedule.stalled = true
      for (let n = 1; n <= 7; n++) yield* schedule.add(`row ${n}`, Duration.seconds(n * 10))
      const loop = yield* Effect.provideService(started, Clock.Clock, machine.clock)
      assert.strictEqual(yield* loop.rests, 10_000)
      assert.include(yield* loop.calls, "releaseStalled")
      machine.skew = -Duration.toMillis("3 hours")
      const searches: Array<string> = []
      for (let second = 10; second <= 60; second += 10) {
        yield* TestClock.adjust(Duration.seconds(10))
        yield* loop.rests
        searches.push(...(yield* loop.calls).filter((method) => method === "releaseStalled"))
      }
      assert.lengthOf(searches, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("counts every wake-up by its cause", () =>
    Effect.gen(function* () {
      const loop = yield* started
      const { notifier, schedule } = loop
      const wakes: ReadonlyArray<readonly [string, Effect.Effect<void>]> = [
        ["notify", loop.notify],
        ["backstop", TestClock.adjust(Duration.minutes(1))],
        ["lost", notifier.lose],
        ["reconnect", notifier.reconnect],
        ["notify", Effect.andThen(schedule.add("a", Duration.seconds(10)), loop.notify)],
        [
          "timer",
          Effect.andThen(
            Effect.sync(() => schedule.locked.add("a")),
            TestClock.adjust(Duration.seconds(10))
          )
        ],
        ["contended", TestClock.adjust(Duration.millis(5))]
      ]
      yield* loop.rests
      for (const [cause, wake] of wakes) {
        const before = yield* wakeUps(cause)
        yield* wake
        yield* loop.rests
        assert.strictEqual((yield* wakeUps(cause)) - before, 1, cause)
      }
    }).pipe(Effect.provide(layer()))
  )

  it.effect("clamps a wait of months to the backstop", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      // Longer than a timer of Node.js can count, which would ring at once.
      yield* schedule.add("a", Duration.days(90))
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 60_000)
      yield* TestClock.adjust(Duration.minutes(1))
      assert.strictEqual(yield* loop.rests, 60_000)
      assert.isFalse(loop.isDone("a"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("applies a row that becomes due between two looks at once, zero is not missing", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.zero)
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 60_000)
      assert.isTrue(loop.isDone("a"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("pauses, longer each time up to 100 ms, while others hold what is due", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.zero)
      schedule.locked.add("a")
      const loop = yield* started
      const pauses: Array<number> = []
      for (let index = 0; index < 7; index++) {
        const rest = yield* loop.rests
        pauses.push(rest)
        yield* TestClock.adjust(Duration.millis(rest))
      }
      assert.deepStrictEqual(pauses, [5, 10, 20, 40, 80, 100, 100])
      schedule.locked.clear()
      yield* TestClock.adjust(Duration.millis(yield* loop.rests))
      while ((yield* loop.rests) !== 60_000) yield* Effect.yieldNow
      assert.isTrue(loop.isDone("a"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("splits a batch until the culprit stands alone, and the others go on at once", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let index = 0; index < 200; index++) yield* schedule.add(`row-${index}`, Duration.zero)
      for (const id of ["row-3", "row-77", "row-78", "row-199"]) schedule.poison.add(id)
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 500)
      const undone = [...schedule.rows.values()].filter((row) => !row.done).map((row) => row.id)
      assert.deepStrictEqual(undone, ["row-3", "row-77", "row-78", "row-199"])
      const attempts = [...schedule.rows.values()].map((row) => row.attempts)
      assert.strictEqual(Math.max(...attempts), 1)
    }).pipe(Effect.provide(layer()))
  )

  it.effect("lets others have their turn while it looks through a batch that failed", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let index = 0; index < 1000; index++) yield* schedule.add(`row-${index}`, Duration.zero)
      for (let index = 0; index < 1000; index += 10) schedule.poison.add(`row-${index}`)
      const loop = yield* started
      let parts = 0
      let until = 0
      schedule.onCall = (method) =>
        Effect.gen(function* () {
          if (method !== "applyThese") return
          if (++parts === 1) for (let n = 0; n < 1500; n++) yield* schedule.add(`other-${n}`, Duration.zero)
          // As every statement takes its time.
          yield* TestClock.adjust(Duration.millis(5))
          if (!loop.isDone("other-1499")) until = parts
        })
      yield* loop.notify
      while (!loop.isDone("other-1499")) yield* Effect.yieldNow
      assert.isAtMost(until, 20)
      while ([...schedule.rows.values()].some(({ done, hold }) => !done && hold === undefined)) yield* Effect.yieldNow
      assert.isAbove(parts, 100)
      const resting = [...schedule.rows.values()].filter(({ hold }) => hold === "retry").map(({ id }) => id)
      assert.sameMembers(resting, [...schedule.poison])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("takes no more rows under suspicion than a few batches, and gets through all the same", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let index = 0; index < 12_000; index++) {
        yield* schedule.add(`row-${index}`, Duration.millis(index / 1000))
        if (index % 250 === 7) schedule.poison.add(`row-${index}`)
      }
      yield* TestClock.adjust(Duration.seconds(1))
      const { repository } = schedule
      let most = 0
      const watched: typeof repository = {
        ...repository,
        applyDue: (limit, from, except = []) => {
          most = Math.max(most, except.length)
          return repository.applyDue(limit, from, except)
        },
        // It takes a while, so that others have their turn before all suspects were tried.
        applyThese: (rows) => Effect.andThen(TestClock.adjust(Duration.millis(10)), repository.applyThese(rows))
      }
      yield* Effect.forkScoped(run(watched))
      while ([...schedule.rows.values()].some(({ done, hold }) => !done && hold === undefined)) yield* Effect.yieldNow
      assert.isAtMost(most, 5000)
      assert.isAbove(most, 1000)
      const resting = [...schedule.rows.values()].filter(({ hold }) => hold === "retry").map(({ id }) => id)
      assert.sameMembers(resting, [...schedule.poison])
    }).pipe(Effect.provide(layer()))
  )

  it.effect("counts no attempt of a row that rests while nobody else goes through and the server may be at fault", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      schedule.refusal = "53100"
      schedule.poison.add("bad")
      for (const id of ["bad", "good"]) yield* schedule.add(id, Duration.zero)
      yield* started
      const attempts = () => schedule.rows.get("bad")?.attempts
      yield* TestClock.adjust(Duration.minutes(10))
      assert.deepStrictEqual([attempts(), schedule.deadLetters], [1, []])
      yield* schedule.add("another", Duration.seconds(10))
      yield* TestClock.adjust(Duration.minutes(10))
      assert.deepStrictEqual([attempts(), schedule.deadLetters], [2, []])
      // One that is a row's own for certain needs nobody else.
      schedule.refusal = "23514"
      yield* TestClock.adjust(Duration.minutes(10))
      assert.deepStrictEqual(
        schedule.deadLetters.map(({ attempts, source_id }) => [source_id, attempts]),
        [["bad", 8]]
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect("counts what may be the server's fault against a row only if others go through meanwhile", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      for (let index = 0; index < 200; index++) yield* schedule.add(`row-${index}`, Duration.zero)
      schedule.refusal = "53100"
      for (const id of ["row-0", "row-77"]) schedule.poison.add(id)
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 500)
      const failed = [...schedule.rows.values()].filter((row) => !row.done)
      assert.deepStrictEqual(
        failed.map(({ attempts, hold, id }) => [id, attempts, hold]),
        [
          ["row-0", 1, "retry"],
          ["row-77", 1, "retry"]
        ]
      )
    }).pipe(Effect.provide(layer()))
  )

  it.effect(
    "tries only a few rows alone, and counts no attempt, where all fail for what may be the server's fault",
    () =>
      Effect.gen(function* () {
        const schedule = yield* MemorySchedule
        for (let index = 0; index < 200; index++) {
          yield* schedule.add(`row-${index}`, Duration.zero)
          schedule.poison.add(`row-${index}`)
        }
        schedule.refusal = "53100"
        const loop = yield* started
        yield* TestClock.adjust(Duration.minutes(1))
        const calls = yield* loop.calls
        const tries = calls.filter((method) => method === "applyDue").length
        assert.isAtLeast(tries, 20)
        assert.isAtMost(calls.length, tries * 7)
        assert.isTrue([...schedule.rows.values()].every((row) => row.attempts === 0 && row.hold === undefined))
        schedule.poison.clear()
        yield* TestClock.adjust(Duration.seconds(3))
        assert.isTrue([...schedule.rows.values()].every((row) => row.done))
      }).pipe(Effect.provide(layer()))
  )

  it.effect("tries a failed row again with doubling pauses, then gives it up as a dead letter with its reason", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.zero)
      schedule.poison.add("a")
      const loop = yield* started
      const pauses: Array<number> = []
      for (;;) {
        const rest = yield* loop.rests
        if (rest === 60_000) break
        pauses.push(rest)
        yield* TestClock.adjust(Duration.millis(rest))
      }
      assert.deepStrictEqual(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000])
      assert.deepStrictEqual(schedule.deadLetters, [
        { source_id: "a", error: "ConstraintError", message: "a row was refused", attempts: 8 }
      ])
      assert.isFalse(loop.isDone("a"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("does not let a row that rests after a failure hold up a later one", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("bad", Duration.zero)
      yield* schedule.add("good", Duration.millis(300))
      schedule.poison.add("bad")
      const loop = yield* started
      assert.strictEqual(yield* loop.rests, 300)
      yield* TestClock.adjust(Duration.millis(300))
      assert.strictEqual(yield* loop.rests, 200)
      assert.isTrue(loop.isDone("good"))
    }).pipe(Effect.provide(layer()))
  )

  it.effect("waits out an outage of the server, counts no attempt, and goes on by itself", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      yield* schedule.add("a", Duration.zero)
      schedule.outage = Option.some(serverAway)
      const loop = yield* started
      yield* TestClock.adjust(Duration.minutes(10))
      assert.isFalse(loop.isDone("a"))
      const looks = (yield* loop.calls).length
      assert.isAtLeast(looks, 200)
      assert.isAtMost(looks, 700)
      schedule.outage = Option.none()
      yield* TestClock.adjust(Duration.seconds(3))
      yield* loop.rests
      assert.isTrue(loop.isDone("a"))
      assert.deepStrictEqual(schedule.deadLetters, [])
    }).pipe(Effect.provide(layer()))
  )
})
