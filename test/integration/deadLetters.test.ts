/** What an operator can do about work that was given up, on a real database: with the engine at rest, then with it. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Queue, Ref, Result, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { DeadLetters } from "../../src/deadLetters/DeadLetters.ts"
import type { DeadLetterQuery } from "../../src/deadLetters/DeadLetterRepository.ts"
import { DeadLetterId } from "../../src/domain/DeadLetter.ts"
import { GameId } from "../../src/domain/Game.ts"
import { Games } from "../../src/games/Games.ts"
import { EventRefused, PublishError } from "../../src/messaging/Publisher.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { Database } from "../../src/postgres/Database.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { Signals, signalLayer } from "../http/apiServer.ts"
import { callerLayer } from "../support/callers.ts"
import { openLetter, parkEvent, parkReminder, parkTransition } from "../support/deadLetters.ts"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { eventually, getGame, getTransitions, insertGame, insertReminder, listEvents } from "../support/games.ts"
import { acceptGames, refuseGames } from "../support/refuse.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const atRest = Layer.mergeAll(
  DeadLetters.layer,
  Games.layer,
  StatusTransitionRepository.layer,
  NotificationRepository.layer,
  OutboxRepository.layer,
  callerLayer("ada")
).pipe(Layer.provideMerge(signalLayer), Layer.provideMerge(TestDatabase.layer))

const hour = 3_600_000

/** All that a query finds. */
const list = Effect.fnUntraced(function* (query: Partial<DeadLetterQuery>) {
  const page = yield* (yield* DeadLetters).list({ state: "open", limit: 200, ...query })
  return page.dead_letters.map(({ id }) => id)
})

/** Replays a letter, which must be superseded, and returns why. */
const supersededBecause = Effect.fnUntraced(function* (letter: DeadLetterId) {
  const settled = yield* (yield* DeadLetters).replay(letter)
  assert.strictEqual(settled.letter.resolution, "superseded")
  assert.strictEqual(settled.letter.resolved_by, "ada")
  assert.isNotNull(settled.letter.resolved_at)
  return Option.getOrThrow(settled.superseded_because)
})

const schedule = Effect.fnUntraced(function* (table: "game_status_schedule" | "notification_schedule", id: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly hold: string | null; readonly attempts: number }>`
    SELECT hold, attempts FROM ${sql(table)} WHERE id = ${id}`
  return row
})

layer(atRest, { excludeTestServices: true })("A dead letter", (it) => {
  describe("that is replayed", () => {
    it.effect("makes its schedule row a fresh one and records who did it", () =>
      Effect.gen(function* () {
        const deadLetters = yield* DeadLetters
        const { id, letter } = yield* parkTransition(yield* insertGame(-1000), "IN_PROGRESS")
        assert.deepStrictEqual(yield* schedule("game_status_schedule", id), { hold: "parked", attempts: 1 })
        const settled = yield* deadLetters.replay(letter)
        assert.isTrue(Option.isNone(settled.superseded_because))
        assert.deepStrictEqual([settled.letter.resolution, settled.letter.resolved_by], ["replayed", "ada"])
        assert.deepStrictEqual(yield* schedule("game_status_schedule", id), { hold: null, attempts: 0 })
        assert.deepEqual(yield* deadLetters.get(letter), settled.letter)
      })
    )

    it.effect("makes a reminder fresh likewise", () =>
      Effect.gen(function* () {
        const { id, letter } = yield* parkReminder(yield* insertGame(hour))
        const settled = yield* (yield* DeadLetters).replay(letter)
        assert.strictEqual(settled.letter.resolution, "replayed")
        assert.deepStrictEqual(yield* schedule("notification_schedule", id), { hold: null, attempts: 0 })
      })
    )

    it.effect.each(["CANCELLED", "IN_PROGRESS", "COMPLETED"])("does not start a game that is %s by now", (status) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const game = yield* insertGame(-1000)
        const { id, letter } = yield* parkTransition(game, "IN_PROGRESS")
        yield* sql`UPDATE game_sessions SET status = ${status} WHERE id = ${game}`
        assert.strictEqual(yield* supersededBecause(letter), `the game is ${status}`)
        assert.deepStrictEqual(yield* schedule("game_status_schedule", id), { hold: "parked", attempts: 1 })
      })
    )

    it.effect.each(["CANCELLED", "COMPLETED"])("does not complete a game that is %s by now", (status) =>
      Effect.gen(function* () {
        const { letter } = yield* parkTransition(yield* insertGame(-1000, { status }), "COMPLETED")
        assert.strictEqual(yield* supersededBecause(letter), `the game is ${status}`)
      })
    )

    it.effect.each(["SCHEDULED", "IN_PROGRESS"])("lets the completion of a game that is %s go on", (status) =>
      Effect.gen(function* () {
        const { letter } = yield* parkTransition(yield* insertGame(-1000, { status }), "COMPLETED")
        assert.strictEqual((yield* (yield* DeadLetters).replay(letter)).letter.resolution, "replayed")
      })
    )

    it.effect("is superseded when its schedule row was moved, by a microsecond even", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { id, letter } = yield* parkTransition(yield* insertGame(-1000), "IN_PROGRESS")
        // A letter that the trigger did not see, as when the row was moved before the letter was written.
        yield* sql`UPDATE dead_letters SET due_at = due_at - interval '1 microsecond' WHERE id = ${letter}`
        assert.strictEqual(yield* supersededBecause(letter), "the schedule row was moved")
        assert.deepStrictEqual(yield* schedule("game_status_schedule", id), { hold: "parked", attempts: 1 })
      })
    )

    it.effect("is superseded when its schedule row is done", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { id, letter } = yield* parkReminder(yield* insertGame(hour))
        yield* sql`UPDATE notification_schedule SET hold = NULL, attempts = 0 WHERE id = ${id}`
        yield* sql`UPDATE notification_schedule SET sent = TRUE WHERE id = ${id}`
        assert.strictEqual(yield* supersededBecause(letter), "the schedule row is done")
      })
    )

    it.effect("is superseded when its schedule row or its game is gone", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const game = yield* insertGame(-1000)
        const row = yield* parkTransition(game, "IN_PROGRESS")
        yield* sql`DELETE FROM game_status_schedule WHERE id = ${row.id}`
        assert.strictEqual(yield* supersededBecause(row.letter), "the schedule row is gone")
        const other = yield* parkTransition(game, "COMPLETED")
        yield* sql`DELETE FROM game_sessions WHERE id = ${game}`
        assert.strictEqual(yield* supersededBecause(other.letter), "the game is gone")
      })
    )

    it.effect("does not remind of a game that was cancelled or whose start has passed", () =>
      Effect.gen(function* () {
        const cancelled = yield* parkReminder(yield* insertGame(hour, { status: "CANCELLED" }))
        assert.strictEqual(yield* supersededBecause(cancelled.letter), "the game is CANCELLED")
        const late = yield* parkReminder(yield* insertGame(-1000))
        assert.strictEqual(yield* supersededBecause(late.letter), "the game's start has passed")
      })
    )

    it.effect("puts its event back as it was, behind the later ones of its game, and tells the relay", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const signals = yield* Signals
        const id = GameId.make(yield* insertGame(hour))
        yield* games.edit(id, { title: "first" })
        yield* sql`UPDATE outbox SET due_at = now() - interval '1 microsecond' WHERE game_id = ${id}`
        const columns = sql`event_id, game_id, type, occurred_at::text, due_at::text, data, attempts, retry_at`
        const [before] = yield* sql`SELECT ${columns} FROM outbox WHERE game_id = ${id}`
        const { event, letter } = yield* parkEvent(id)
        yield* games.edit(id, { title: "second" })
        assert.lengthOf(yield* listEvents(id), 1)
        const told = yield* Ref.get(signals)
        assert.strictEqual((yield* (yield* DeadLetters).replay(letter)).letter.resolution, "replayed")
        assert.deepStrictEqual(
          (yield* listEvents(id)).map(({ data, event_id }) => [data["title"], event_id === event.event_id]),
          [
            ["second", false],
            ["first", true]
          ]
        )
        const [after] = yield* sql`SELECT ${columns} FROM outbox WHERE event_id = ${event.event_id}`
        assert.deepStrictEqual(after, before)
        assert.isAbove(yield* Ref.get(signals), told)
      })
    )

    it.effect("puts back the event of a game that is gone: nothing that was committed is lost", () =>
      Effect.gen(function* () {
        const id = GameId.make(yield* insertGame(hour))
        yield* (yield* Games).remove(id)
        const { event, letter } = yield* parkEvent(id)
        yield* (yield* DeadLetters).replay(letter)
        assert.deepStrictEqual(
          (yield* listEvents(id)).map(({ event_id }) => event_id),
          [event.event_id]
        )
      })
    )
  })

  it.effect("that is discarded leaves its row parked, and its event unpublished", () =>
    Effect.gen(function* () {
      const deadLetters = yield* DeadLetters
      const row = yield* parkTransition(yield* insertGame(-1000), "IN_PROGRESS")
      const settled = yield* deadLetters.discard(row.letter)
      assert.deepStrictEqual([settled.letter.resolution, settled.letter.resolved_by], ["discarded", "ada"])
      assert.deepStrictEqual(yield* schedule("game_status_schedule", row.id), { hold: "parked", attempts: 1 })
      const id = GameId.make(yield* insertGame(hour))
      yield* (yield* Games).edit(id, { title: "first" })
      const { letter } = yield* parkEvent(id)
      yield* deadLetters.discard(letter)
      assert.deepStrictEqual(yield* listEvents(id), [])
    })
  )

  it.effect("that is resolved can be neither replayed nor discarded", () =>
    Effect.gen(function* () {
      const deadLetters = yield* DeadLetters
      for (const first of ["replay", "discard"] as const) {
        const { letter } = yield* parkTransition(yield* insertGame(-1000), "IN_PROGRESS")
        const before = (yield* deadLetters[first](letter)).letter
        for (const second of ["replay", "discard"] as const) {
          const error = yield* Effect.flip(Effect.provide(deadLetters[second](letter), callerLayer("bob")))
          assert.strictEqual(error._tag, "DeadLetterResolved")
          assert.include(error.message, `was ${first === "replay" ? "replayed" : "discarded"} already, by ada`)
        }
        assert.deepEqual(yield* deadLetters.get(letter), before)
      }
    })
  )

  it.effect("that was never written is not found", () =>
    Effect.gen(function* () {
      const deadLetters = yield* DeadLetters
      const id = DeadLetterId.make(randomUUID())
      for (const call of [
        Effect.asVoid(deadLetters.get(id)),
        Effect.asVoid(deadLetters.replay(id)),
        Effect.asVoid(deadLetters.discard(id))
      ]) {
        assert.strictEqual((yield* Effect.flip(call))._tag, "DeadLetterNotFound")
      }
    })
  )

  it.effect("is superseded by a move of its game through the API", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = GameId.make(yield* insertGame(hour))
      const { letter } = yield* parkTransition(id, "IN_PROGRESS")
      yield* (yield* Games).edit(id, { expected_duration_minutes: 5 })
      const error = yield* Effect.flip((yield* DeadLetters).replay(letter))
      assert.include(error.message, "was superseded already, by ada")
      assert.lengthOf(yield* sql`SELECT FROM game_status_schedule WHERE game_id = ${id} AND hold IS NOT NULL`, 0)
    })
  )

  describe("that several people settle at once", () => {
    it.effect.each(["replay", "discard"] as const)("is replayed by exactly one, beside those who %s it", (other) =>
      Effect.gen(function* () {
        const deadLetters = yield* DeadLetters
        for (let round = 0; round < 20; round++) {
          const id = GameId.make(yield* insertGame(hour))
          // Of a game that is gone, whose lock would keep them apart, in every other round.
          if (round % 2 === 0) yield* (yield* Games).edit(id, { title: "first" })
          else yield* (yield* Games).remove(id)
          const { event, letter } = yield* parkEvent(id)
          const results = yield* Effect.all(
            Array.from({ length: 8 }, (_, index) =>
              Effect.result(deadLetters[index % 2 === 0 ? "replay" : other](letter))
            ),
            { concurrency: "unbounded" }
          )
          const [winner, ...others] = results.filter(Result.isSuccess)
          assert.lengthOf(others, 0)
          for (const result of results.filter(Result.isFailure)) {
            assert.strictEqual(result.failure._tag, "DeadLetterResolved")
          }
          const events = (yield* listEvents(id)).filter(({ event_id }) => event_id === event.event_id)
          assert.lengthOf(events, winner?.success.letter.resolution === "replayed" ? 1 : 0)
        }
      })
    )

    it.effect("is not replayed while somebody discards it", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const database = yield* Database
        const deadLetters = yield* DeadLetters
        const { id, letter } = yield* parkTransition(yield* insertGame(-1000), "IN_PROGRESS")
        const discarded = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const discarding = yield* Effect.forkChild(
          database.transaction(
            Effect.gen(function* () {
              yield* deadLetters.discard(letter)
              yield* Deferred.succeed(discarded, undefined)
              yield* Deferred.await(release)
            })
          )
        )
        yield* Deferred.await(discarded)
        const replaying = yield* Effect.forkChild(
          Effect.flip(Effect.provide(deadLetters.replay(letter), callerLayer("bob")))
        )
        yield* eventually(
          sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          (waiting) => waiting.length > 0
        )
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(discarding)
        assert.include((yield* Fiber.join(replaying)).message, "was discarded already, by ada")
        assert.deepStrictEqual(yield* schedule("game_status_schedule", id), { hold: "parked", attempts: 1 })
      })
    )

    it.effect("is judged by what a change that was under way has left", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const database = yield* Database
        const game = yield* insertGame(-1000)
        const { id, letter } = yield* parkTransition(game, "IN_PROGRESS")
        const changed = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const cancelling = yield* Effect.forkChild(
          database.transaction(
            Effect.gen(function* () {
              yield* sql`UPDATE game_sessions SET status = 'CANCELLED' WHERE id = ${game}`
              yield* Deferred.succeed(changed, undefined)
              yield* Deferred.await(release)
            })
          )
        )
        yield* Deferred.await(changed)
        const replaying = yield* Effect.forkChild(supersededBecause(letter))
        yield* eventually(
          sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          (waiting) => waiting.length > 0
        )
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(cancelling)
        assert.strictEqual(yield* Fiber.join(replaying), "the game is CANCELLED")
        assert.deepStrictEqual(yield* schedule("game_status_schedule", id), { hold: "parked", attempts: 1 })
      })
    )
  })

  describe("in the list", () => {
    it.effect("is found by state, kind, game, guild and time", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const deadLetters = yield* DeadLetters
        const guild_id = randomUUID()
        const game = GameId.make(yield* insertGame(hour))
        yield* sql`UPDATE game_sessions SET guild_id = ${guild_id} WHERE id = ${game}`
        const start = (yield* parkTransition(game, "IN_PROGRESS")).letter
        const reminder = (yield* parkReminder(game)).letter
        const other = (yield* parkReminder(yield* insertGame(hour))).letter
        yield* deadLetters.discard(start)

        assert.deepStrictEqual(yield* list({ game_id: game }), [reminder])
        assert.deepStrictEqual(yield* list({ game_id: game, state: "resolved" }), [start])
        assert.deepStrictEqual(yield* list({ game_id: game, state: "all" }), [start, reminder])
        assert.deepStrictEqual(yield* list({ guild_id, state: "all" }), [start, reminder])
        assert.deepStrictEqual(yield* list({ guild_id, state: "all", kind: "status-transition" }), [start])
        assert.include(yield* list({}), other)
        assert.notInclude(yield* list({ guild_id: "guild" }), reminder)

        yield* sql`UPDATE dead_letters SET created_at = '2001-01-01T00:00:00Z' WHERE id = ${other}`
        const { created_at } = yield* deadLetters.get(other)
        assert.notInclude(yield* list({ to: created_at }), other)
        assert.include(yield* list({ from: created_at }), other)
        yield* sql`UPDATE dead_letters SET created_at = '2001-01-01T00:00:00.001Z' WHERE id = ${reminder}`
        assert.deepStrictEqual(yield* list({ to: (yield* deadLetters.get(reminder)).created_at }), [other])
        yield* sql`DELETE FROM game_sessions WHERE id = ${game}`
        assert.deepStrictEqual(yield* list({ guild_id, state: "all" }), [])
      })
    )

    it.effect("comes once and in order, page by page, also among letters of one millisecond", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const deadLetters = yield* DeadLetters
        const game_id = GameId.make(randomUUID())
        yield* sql`
          INSERT INTO dead_letters (kind, source_id, game_id, error, message, attempts, payload, created_at)
          SELECT 'event', gen_random_uuid(), ${game_id}::uuid, 'PublishError', 'refused', 8, '{}',
            '2020-02-02T02:02:02.000001Z'::timestamptz + (n / 3) * interval '1 microsecond'
          FROM generate_series(1, 50) AS n`
        const expected = yield* sql<{ readonly id: string }>`
          SELECT id FROM dead_letters WHERE game_id = ${game_id} ORDER BY created_at, id`
        const seen: Array<string> = []
        let after: DeadLetterQuery["after"]
        do {
          const page = yield* deadLetters.list({ state: "open", game_id, limit: 7, after })
          assert.isAtMost(page.dead_letters.length, 7)
          seen.push(...page.dead_letters.map(({ id }) => id))
          after = Option.getOrUndefined(page.next)
        } while (after !== undefined)
        assert.deepStrictEqual(
          seen,
          expected.map(({ id }) => id)
        )
      })
    )
  })

  describe("among many", () => {
    it.effect("is replayed in order, and one that cannot be does not hold up the others", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const deadLetters = yield* DeadLetters
        const game_id = GameId.make(yield* insertGame(hour))
        // More than one page, with one event that is damaged and one that is about a row that is gone.
        yield* sql`
          INSERT INTO dead_letters (kind, source_id, game_id, error, message, attempts, payload, created_at)
          SELECT CASE n WHEN 120 THEN 'notification' ELSE 'event' END, gen_random_uuid(), ${game_id}::uuid,
            'PublishError', 'refused', 8,
            jsonb_build_object(
              'game_id', ${game_id}::text, 'type', 'game.updated', 'occurred_at', now(), 'due_at', NULL,
              'data', CASE n WHEN 60 THEN NULL::jsonb ELSE jsonb_build_object('n', n) END
            ) - CASE n WHEN 60 THEN 'type' ELSE '' END,
            now() - interval '1 hour' + n * interval '1 microsecond'
          FROM generate_series(1, 250) AS n`
        const attempts = yield* Stream.runCollect(deadLetters.settleAll("replay", { game_id }))
        assert.lengthOf(attempts, 250)
        const outcomes = attempts.map(({ outcome }) => outcome)
        assert.deepStrictEqual([outcomes[59], outcomes[119]], ["refused", "superseded"])
        assert.match(Option.getOrThrow(attempts[59]?.reason ?? Option.none()), /null value in column "type"/)
        assert.lengthOf(
          outcomes.filter((outcome) => outcome === "replayed"),
          248
        )
        assert.deepStrictEqual(
          (yield* listEvents(game_id)).map(({ data }) => data["n"]),
          Array.from({ length: 250 }, (_, index) => index + 1).filter((n) => n !== 60 && n !== 120)
        )
        assert.lengthOf(yield* list({ game_id }), 1)
      })
    )

    it.effect("is discarded if the filter means it, and else left alone", () =>
      Effect.gen(function* () {
        const deadLetters = yield* DeadLetters
        const game_id = GameId.make(yield* insertGame(hour))
        const start = (yield* parkTransition(game_id, "IN_PROGRESS")).letter
        const reminder = (yield* parkReminder(game_id)).letter
        const attempts = yield* Stream.runCollect(deadLetters.settleAll("discard", { game_id, kind: "notification" }))
        assert.deepStrictEqual(
          attempts.map(({ id, outcome }) => [id, outcome]),
          [[reminder, "discarded"]]
        )
        assert.deepStrictEqual(yield* list({ game_id }), [start])
      })
    )

    it.effect("is settled by its id, and one that cannot be does not hold up the others", () =>
      Effect.gen(function* () {
        const deadLetters = yield* DeadLetters
        const game_id = GameId.make(yield* insertGame(hour))
        const start = (yield* parkTransition(game_id, "IN_PROGRESS")).letter
        const reminder = (yield* parkReminder(game_id)).letter
        const unknown = DeadLetterId.make(randomUUID())
        const attempts = yield* Stream.runCollect(deadLetters.settleThese("replay", [reminder, unknown, start, start]))
        assert.deepStrictEqual(
          attempts.map(({ id, outcome }) => [id, outcome]),
          [
            [reminder, "replayed"],
            [unknown, "refused"],
            [start, "replayed"],
            [start, "refused"]
          ]
        )
      })
    )

    it.effect("that is written after the beginning is left for another time", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const deadLetters = yield* DeadLetters
        const game_id = GameId.make(randomUUID())
        const write = (count: number) => sql`
          INSERT INTO dead_letters (kind, source_id, game_id, error, message, attempts, payload, created_at)
          SELECT 'event', gen_random_uuid(), ${game_id}::uuid, 'PublishError', 'refused', 8, '{}', clock_timestamp()
          FROM generate_series(1, ${count}::int)`
        // More than a page, and a new one for each, as when replays fail at once.
        yield* write(150)
        const attempts = yield* deadLetters.settleAll("discard", { game_id }).pipe(
          Stream.tap(() => write(1)),
          Stream.take(200),
          Stream.runCollect
        )
        assert.lengthOf(attempts, 150)
        assert.lengthOf(yield* list({ game_id }), 150)
      })
    )
  })
})

const withEngine = (settings: Parameters<typeof engineLayer>[0] = {}) =>
  Layer.mergeAll(DeadLetters.layer, Games.layer, callerLayer("ada")).pipe(
    Layer.provideMerge(engineLayer({ maxAttempts: 1, ...settings }))
  )

/** Plans a start that is due and returns its id; there is no letter yet. */
const planStart = Effect.fnUntraced(function* (gameId: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly id: string }>`
    INSERT INTO game_status_schedule (game_id, target_status, transition_time)
    VALUES (${gameId}, 'IN_PROGRESS', clock_timestamp())
    RETURNING id`
  return row?.id ?? ""
})

const openLetters = (sourceId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* sql<{ readonly id: string; readonly message: string; readonly attempts: number }>`
      SELECT * FROM dead_letters WHERE source_id = ${sourceId}::uuid AND resolved_at IS NULL`
  })

const refusal = (event_id: string) =>
  new PublishError({ event_id, reason: new EventRefused({ detail: "the broker said no" }) })

describe("a replay", () => {
  it.live("starts the game at once when the cause is gone, and its completion, which waited, follows", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      const deadLetters = yield* DeadLetters
      yield* refuseGames()
      yield* Effect.forkScoped(engine)
      const game = yield* insertGame(0)
      const start = yield* planStart(game)
      const [open] = yield* eventually(openLetters(start), (letters) => letters.length === 1)
      assert.include(open?.message, "this game is refused")
      yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        VALUES (${game}, 'COMPLETED', clock_timestamp())`
      yield* eventually(getTransitions(game), (rows) => rows.get("COMPLETED")?.hold === "waiting")
      yield* acceptGames
      yield* deadLetters.replay(DeadLetterId.make(open?.id ?? ""))
      const started = yield* Queue.take(broker.received)
      const completed = yield* Queue.take(broker.received)
      assert.deepStrictEqual([started.type, completed.type], ["game.started", "game.completed"])
      assert.deepInclude((yield* getTransitions(game)).get("IN_PROGRESS"), { executed: true, outcome: "applied" })
      assert.lengthOf(yield* openLetters(start), 0)
    }).pipe(Effect.provide(withEngine()))
  )

  it.live("that fails again becomes a new letter", () =>
    Effect.gen(function* () {
      const deadLetters = yield* DeadLetters
      yield* refuseGames()
      yield* Effect.forkScoped(engine)
      const game = yield* insertGame(0)
      const start = yield* planStart(game)
      const [first] = yield* eventually(openLetters(start), (letters) => letters.length === 1)
      const before = DeadLetterId.make(first?.id ?? "")
      yield* deadLetters.replay(before)
      const [second] = yield* eventually(openLetters(start), (letters) => letters.length === 1)
      assert.notStrictEqual(second?.id, before)
      // Attempts are counted anew.
      assert.strictEqual(second?.attempts, 1)
      assert.strictEqual((yield* deadLetters.get(before)).resolution, "replayed")
      assert.strictEqual((yield* getGame(game)).status, "SCHEDULED")
      yield* acceptGames
      yield* deadLetters.replay(DeadLetterId.make(second?.id ?? ""))
      yield* eventually(getGame(game), ({ status }) => status === "IN_PROGRESS")
    }).pipe(Effect.provide(withEngine()))
  )

  it.live("does nothing to a game that was cancelled since, by plain SQL", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* refuseGames()
      yield* Effect.forkScoped(engine)
      const game = yield* insertGame(0)
      const start = yield* planStart(game)
      yield* eventually(openLetters(start), (letters) => letters.length === 1)
      yield* acceptGames
      yield* sql`UPDATE game_sessions SET status = 'CANCELLED' WHERE id = ${game}`
      assert.strictEqual(yield* supersededBecause(yield* openLetter(start)), "the game is CANCELLED")
      // A game that is planned later is started, so the engine has looked.
      const later = yield* insertGame(0)
      yield* planStart(later)
      yield* eventually(getGame(later), ({ status }) => status === "IN_PROGRESS")
      assert.strictEqual((yield* getGame(game)).status, "CANCELLED")
      assert.deepInclude((yield* getTransitions(game)).get("IN_PROGRESS"), { executed: false, hold: "parked" })
    }).pipe(Effect.provide(withEngine()))
  )

  it.live("sends a reminder whose event could not be written", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      const deadLetters = yield* DeadLetters
      yield* sql`ALTER TABLE outbox ADD CONSTRAINT refuse CHECK (type <> 'game.reminder_due')`
      yield* Effect.forkScoped(engine)
      const game = yield* insertGame(hour)
      const reminder = yield* insertReminder(game, 15, 0)
      const [open] = yield* eventually(openLetters(reminder), (letters) => letters.length === 1)
      yield* sql`ALTER TABLE outbox DROP CONSTRAINT refuse`
      yield* deadLetters.replay(DeadLetterId.make(open?.id ?? ""))
      const event = yield* Queue.take(broker.received)
      assert.deepStrictEqual([event.type, event.subject], ["game.reminder_due", game])
    }).pipe(Effect.provide(withEngine()))
  )

  it.live("publishes an event that the broker refused under the id it had", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      const deadLetters = yield* DeadLetters
      const refused = yield* Deferred.make<string>()
      broker.answer = (event) => Effect.andThen(Deferred.succeed(refused, event.id), Effect.fail(refusal(event.id)))
      yield* Effect.forkScoped(engine)
      const game = yield* insertGame(0)
      yield* planStart(game)
      const id = yield* Deferred.await(refused)
      yield* eventually(openLetters(id), (letters) => letters.length === 1)
      broker.answer = () => Effect.void
      yield* deadLetters.replay(yield* openLetter(id))
      const event = yield* Queue.take(broker.received)
      assert.deepStrictEqual([event.id, event.type, event.subject], [id, "game.started", game])
      yield* eventually(sql`SELECT FROM outbox`, (rows) => rows.length === 0)
    }).pipe(Effect.provide(withEngine()))
  )
})
