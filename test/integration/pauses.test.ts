/** A pause of a kind of schedule, beside the running engine on a real database. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { eventually, getGame, getTransitions, insertGame, insertReminder, insertTransition } from "../support/games.ts"

/** Pauses a kind by plain SQL, as anybody may. */
const pause = (kind: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO pauses (kind) VALUES (${kind})`)

const resume = (kind: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`UPDATE pauses SET resumed_at = clock_timestamp() WHERE kind = ${kind} AND resumed_at IS NULL`
  )

describe("a pause", () => {
  it.live("of status transitions lets no game start until its end, and then at once; reminders stay on time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      yield* Effect.forkScoped(engine)
      yield* pause("status-transition")
      const game = yield* insertGame(20)
      yield* insertTransition(game, "IN_PROGRESS", 20)
      yield* insertTransition(game, "COMPLETED", 30)
      const other = yield* insertGame(60_000)
      yield* insertReminder(other, 15, 100)
      const reminder = yield* Queue.take(broker.received)
      assert.deepStrictEqual([reminder.type, reminder.subject], ["game.reminder_due", other])
      assert.isBelow(Number(reminder.data["lateness_ms"]), 5000)
      assert.deepInclude(yield* getGame(game), { status: "SCHEDULED", version: 1 })

      yield* resume("status-transition")
      const events = [yield* Queue.take(broker.received), yield* Queue.take(broker.received)]
      assert.deepStrictEqual(
        events.map(({ subject, type }) => [type, subject]),
        [
          ["game.started", game],
          ["game.completed", game]
        ]
      )
      // Of the two instants both are the database's, so this proves that nothing was done before.
      const [proof] = yield* sql`
        SELECT bool_and(executed_at >= resumed_at) AS after, max(executed_at - resumed_at) < interval '10 seconds' AS soon
        FROM game_status_schedule CROSS JOIN pauses WHERE game_id = ${game}`
      assert.deepStrictEqual(proof, { after: true, soon: true })
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )

  it.live("of reminders lets games start on time, and at its end skips those whose game has begun", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      yield* Effect.forkScoped(engine)
      yield* pause("notification")
      const game = yield* insertGame(50)
      const skipped = yield* insertReminder(game, 5, 10)
      yield* insertTransition(game, "IN_PROGRESS", 50)
      const later = yield* insertGame(3_600_000)
      const sent = yield* insertReminder(later, 15, 10)
      const started = yield* Queue.take(broker.received)
      assert.deepStrictEqual([started.type, started.subject], ["game.started", game])

      yield* resume("notification")
      const reminder = yield* Queue.take(broker.received)
      assert.deepStrictEqual([reminder.type, reminder.subject], ["game.reminder_due", later])
      const outcomes = yield* eventually(
        sql<{ readonly id: string; readonly outcome: string }>`
          SELECT id, outcome FROM notification_schedule WHERE sent`,
        (rows) => rows.length === 2
      )
      assert.deepStrictEqual(
        new Map(outcomes.map(({ id, outcome }) => [id, outcome])),
        new Map([
          [skipped, "skipped"],
          [sent, "sent"]
        ])
      )
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )

  it.live("lets what failed before wait as well, and try again at its end", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      yield* pause("status-transition")
      const game = yield* insertGame(-1000)
      const row = yield* insertTransition(game, "IN_PROGRESS", -1000)
      yield* sql`
        UPDATE game_status_schedule SET hold = 'retry', attempts = 1, retry_at = now() - interval '1 second'
        WHERE id = ${row}`
      yield* Effect.forkScoped(engine)
      const fence = yield* insertGame(60_000)
      yield* insertReminder(fence, 15, 100)
      assert.strictEqual((yield* Queue.take(broker.received)).subject, fence)
      assert.isFalse((yield* getTransitions(game)).get("IN_PROGRESS")?.executed)
      yield* resume("status-transition")
      assert.strictEqual((yield* Queue.take(broker.received)).subject, game)
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )

  it.live("is open once at most for a kind, and stays on record", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* pause("status-transition")
      const again = yield* Effect.flip(pause("status-transition"))
      assert.strictEqual(again.reason._tag, "UniqueViolation")
      yield* resume("status-transition")
      yield* pause("status-transition")
      assert.lengthOf(yield* sql`SELECT FROM pauses`, 2)
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )
})
