/** How the trace of a request goes with the plan of its game, and with the events that tell of it. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { apiLayer, request } from "../http/apiServer.ts"
import { insertGame, insertReminder, insertTransition } from "../support/games.ts"

const trace = (n: number) => `00-${String(n).padStart(32, "a")}-${String(n).padStart(16, "b")}-01`

/** The traces of a game's rows, by what they stand for. */
const tracesOf = (gameId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly what: string; readonly traceparent: string | null }>`
      SELECT target_status AS what, traceparent FROM game_status_schedule WHERE game_id = ${gameId}
      UNION ALL SELECT reminder_minutes::text, traceparent FROM notification_schedule WHERE game_id = ${gameId}
      UNION ALL SELECT type, traceparent FROM outbox WHERE game_id = ${gameId}`
    return Object.fromEntries(rows.map(({ traceparent, what }) => [what, traceparent]))
  })

const plan = (headers: Readonly<Record<string, string>>) =>
  Effect.map(
    request("POST", "/v1/games", {
      body: {
        guild_id: "guild",
        title: "a game",
        scheduled_at: "2040-01-01T20:00:00Z",
        reminder_minutes: [15]
      },
      headers
    }),
    ({ body, status }) => {
      assert.strictEqual(status, 201)
      return String(body["id"])
    }
  )

const edit = (id: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  Effect.map(request("PATCH", `/v1/games/${id}`, { body, headers }), ({ status }) => assert.strictEqual(status, 200))

layer(apiLayer, { excludeTestServices: true })("The trace of a request", (it) => {
  it.effect("is kept with everything that it plans and tells", () =>
    Effect.gen(function* () {
      const id = yield* plan({ traceparent: trace(1) })
      assert.deepStrictEqual(yield* tracesOf(id), {
        IN_PROGRESS: trace(1),
        COMPLETED: trace(1),
        15: trace(1),
        "game.created": trace(1)
      })
    })
  )

  it.effect("is none where the client is in none, or says what is no trace", () =>
    Effect.gen(function* () {
      for (const headers of [{}, { traceparent: "00-x-y-01" }, { traceparent: `${trace(1)}'; --` }]) {
        assert.deepStrictEqual(yield* tracesOf(yield* plan(headers)), {
          IN_PROGRESS: null,
          COMPLETED: null,
          15: null,
          "game.created": null
        })
      }
    })
  )

  it.effect("that moves a game takes the place of the one that planned it", () =>
    Effect.gen(function* () {
      const id = yield* plan({ traceparent: trace(1) })
      yield* edit(id, { scheduled_at: "2040-01-01T21:00:00Z" }, { traceparent: trace(2) })
      assert.deepStrictEqual(yield* tracesOf(id), {
        IN_PROGRESS: trace(2),
        COMPLETED: trace(2),
        15: trace(2),
        "game.created": trace(1),
        "game.updated": trace(2)
      })
      yield* edit(id, { scheduled_at: "2040-01-01T22:00:00Z" })
      assert.deepInclude(yield* tracesOf(id), { IN_PROGRESS: null, COMPLETED: null, 15: null })
    })
  )

  it.effect("that starts or stretches a game is that of its completion", () =>
    Effect.gen(function* () {
      const id = yield* plan({ traceparent: trace(1) })
      yield* edit(id, { status: "IN_PROGRESS" }, { traceparent: trace(2) })
      assert.deepInclude(yield* tracesOf(id), { COMPLETED: trace(2), "game.started": trace(2) })
      yield* edit(id, { expected_duration_minutes: 90 }, { traceparent: trace(3) })
      assert.deepInclude(yield* tracesOf(id), { COMPLETED: trace(3) })
    })
  )

  it.effect("is not shown to clients", () =>
    Effect.gen(function* () {
      const id = yield* plan({ traceparent: trace(1) })
      assert.notInclude((yield* request("GET", `/v1/games/${id}/schedule`)).text, "traceparent")
    })
  )

  it.effect("stays with an event that is put back from its dead letter", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* plan({ traceparent: trace(1) })
      const outbox = yield* OutboxRepository
      const events = yield* outbox.list(1000)
      const event = events.find(({ game_id }) => game_id === id)
      assert.strictEqual(event?.traceparent, trace(1))
      if (event === undefined) return
      yield* outbox.recordFailure(event, { error: "EventRefused", message: "refused" }, 1)
      assert.notProperty(yield* tracesOf(id), "game.created")
      const [letter] = yield* sql<{
        readonly id: string
      }>`SELECT id FROM dead_letters WHERE source_id = ${event.event_id}`
      const answer = yield* request("POST", `/v1/dead-letters/${letter?.id}/replay`)
      assert.strictEqual(answer.status, 200)
      assert.deepInclude(yield* tracesOf(id), { "game.created": trace(1) })
    }).pipe(Effect.provide(OutboxRepository.layer))
  )

  const repositories = Layer.merge(StatusTransitionRepository.layer, NotificationRepository.layer)

  it.effect("that SQL has written is that of the event", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [started, reminded, plain] = [
        yield* insertGame(60_000),
        yield* insertGame(60_000),
        yield* insertGame(60_000)
      ]
      const transition = yield* insertTransition(started, "IN_PROGRESS", -1)
      const reminder = yield* insertReminder(reminded, 15, -1)
      yield* insertTransition(plain, "IN_PROGRESS", -1)
      yield* sql`UPDATE game_status_schedule SET traceparent = ${trace(1)} WHERE id = ${transition}`
      yield* sql`UPDATE notification_schedule SET traceparent = ${trace(2)} WHERE id = ${reminder}`
      yield* (yield* StatusTransitionRepository).applyDue(1000, undefined)
      yield* (yield* NotificationRepository).applyDue(1000, undefined)
      assert.deepInclude(yield* tracesOf(started), { "game.started": trace(1) })
      assert.deepInclude(yield* tracesOf(reminded), { "game.reminder_due": trace(2) })
      assert.deepInclude(yield* tracesOf(plain), { "game.started": null })
    }).pipe(Effect.provide(repositories))
  )

  it.effect("is refused in any other form", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* insertTransition(yield* insertGame(60_000), "IN_PROGRESS", 60_000)
      for (const bad of [
        "",
        "00",
        `${trace(1)} `,
        trace(1).toUpperCase(),
        trace(1).replace("00-", "01-"),
        trace(1).replace("aaa", "a-a")
      ]) {
        const error = yield* Effect.flip(sql`UPDATE game_status_schedule SET traceparent = ${bad} WHERE id = ${id}`)
        assert.strictEqual(error.reason._tag, "ConstraintError", bad)
      }
    })
  )
})
