import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { eventually, getGame, getTransitions, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { makeSkewedClock } from "../support/skewedClock.ts"

describe("the engine", () => {
  it.live("starts a game at its time, not before, and tells of it", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(engine)
      const broker = yield* Broker
      const id = yield* insertGame(300)
      yield* insertTransition(id, "IN_PROGRESS", 300)
      const event = yield* Queue.take(broker.received)
      assert.strictEqual(event.type, "game.started")
      assert.strictEqual(event.subject, id)
      const lateness = event.data["lateness_ms"] as number
      assert.isAtLeast(lateness, 0)
      assert.strictEqual((yield* getGame(id)).status, "IN_PROGRESS")
      assert.strictEqual((yield* getGame(id)).version, 2)
      const row = (yield* getTransitions(id)).get("IN_PROGRESS")
      assert.isTrue(row?.executed)
      assert.strictEqual(row?.outcome, "applied")
      const sql = yield* SqlClient.SqlClient
      yield* eventually(sql`SELECT * FROM outbox`, (rows) => rows.length === 0)
    }).pipe(Effect.provide(engineLayer()))
  )

  for (const hours of [3, -3]) {
    it.live(
      `starts a game on time, not before, on a machine whose clock is ${Math.abs(hours)} hours ${hours < 0 ? "slow" : "fast"}`,
      () =>
        Effect.gen(function* () {
          const machine = yield* makeSkewedClock(Duration.toMillis(Duration.hours(1)) * hours)
          yield* Effect.forkScoped(Effect.provideService(engine, Clock.Clock, machine.clock))
          const broker = yield* Broker
          const id = yield* insertGame(1000)
          yield* insertTransition(id, "IN_PROGRESS", 1000)
          const event = yield* Queue.take(broker.received)
          assert.strictEqual(event.subject, id)
          assert.isAtLeast(Number(event.data["lateness_ms"]), 0)
          // By the machine's clock it would be hours early or late, by the backstop a minute.
          assert.isBelow(Number(event.data["lateness_ms"]), 10_000)
        }).pipe(Effect.provide(engineLayer()))
    )
  }

  it.live("starts and then completes a game whose both rows are overdue, in this order", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const id = yield* insertGame(-60_000)
      yield* insertTransition(id, "COMPLETED", -60_000)
      yield* insertTransition(id, "IN_PROGRESS", -60_000)
      yield* Effect.forkScoped(engine)
      const started = yield* Queue.take(broker.received)
      const completed = yield* Queue.take(broker.received)
      assert.deepStrictEqual([started.type, completed.type], ["game.started", "game.completed"])
      assert.deepStrictEqual([started.data["version"], completed.data["version"]], [2, 3])
      assert.strictEqual((yield* getGame(id)).status, "COMPLETED")
    }).pipe(Effect.provide(engineLayer()))
  )

  it.live("reminds of a game that is still to come and skips the reminder of one that is not", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      yield* Effect.forkScoped(engine)
      const gone = yield* insertGame(60_000, { status: "CANCELLED" })
      const skipped = yield* insertReminder(gone, 15, 20)
      const game = yield* insertGame(60_000)
      yield* insertReminder(game, 15, 100)
      const event = yield* Queue.take(broker.received)
      assert.deepStrictEqual([event.type, event.subject], ["game.reminder_due", game])
      assert.strictEqual(event.data["reminder_minutes"], 15)
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql`SELECT sent, outcome FROM notification_schedule WHERE id = ${skipped}`
      assert.deepStrictEqual(row, { sent: true, outcome: "skipped" })
    }).pipe(Effect.provide(engineLayer()))
  )
})
