/** The clock against everybody else who touches a game at the same moment, on a real database. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Deferred, Duration, Effect, Fiber, Layer, Option, Queue, Result } from "effect"
import { SqlClient } from "effect/sql"
import { GameId } from "../../src/domain/Game.ts"
import { Games } from "../../src/games/Games.ts"
import { Database } from "../../src/postgres/Database.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { anybody } from "../support/callers.ts"
import { parkTransition } from "../support/deadLetters.ts"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import {
  eventually,
  getGame,
  getTransitions,
  insertGame,
  insertReminder,
  insertTransition,
  listEvents
} from "../support/games.ts"
import { acceptGames, refuseGames, startsOf } from "../support/refuse.ts"

const withGames = Layer.merge(Games.layer, anybody).pipe(Layer.provideMerge(engineLayer()))

/** Plans a game through the use case and returns its id. */
const plan = (startsIn: Duration.Duration, title = "a game") =>
  Effect.gen(function* () {
    const games = yield* Games
    const now = yield* DateTime.now
    const game = yield* games.create({
      guild_id: "guild",
      title,
      scheduled_at: DateTime.addDuration(now, startsIn),
      reminder_minutes: []
    })
    return game.id
  })

/** Takes events of the broker until there is one of this type for each of the games. */
const received = (types: ReadonlyArray<string>, ids: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const missing = new Set(ids)
    const seen = new Map<string, Array<string>>()
    while (missing.size > 0) {
      const event = yield* Queue.take(broker.received)
      seen.set(event.subject, [...(seen.get(event.subject) ?? []), event.type])
      if (types.includes(event.type)) missing.delete(event.subject)
    }
    return seen
  })

/** Runs an effect in a transaction and keeps it open; returns what commits it. */
const holding = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const database = yield* Database
    const held = yield* Deferred.make<void>()
    const release = yield* Deferred.make<void>()
    const transaction = yield* Effect.forkScoped(
      database.transaction(
        Effect.andThen(effect, Effect.andThen(Deferred.succeed(held, undefined), Deferred.await(release)))
      )
    )
    yield* Effect.raceFirst(Deferred.await(held), Effect.andThen(Fiber.join(transaction), Effect.never))
    return Effect.andThen(Deferred.succeed(release, undefined), Fiber.join(transaction))
  })

/** Waits until the start of a game has been due for long enough to be seen by whoever looks. */
const untilOverdue = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const look = sql<{ readonly overdue: boolean }>`
      SELECT clock_timestamp() - scheduled_at > interval '300 milliseconds' AS overdue
      FROM game_sessions WHERE id = ${id}`
    yield* eventually(look, ([row]) => row?.overdue === true)
  })

describe("the clock and everybody else", () => {
  it.live("starts a game whose row another transaction held, as soon as that is over", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* insertGame(50)
      yield* insertTransition(id, "IN_PROGRESS", 50)
      const release = yield* holding(sql`SELECT * FROM game_sessions WHERE id = ${id} FOR UPDATE`)
      yield* Effect.forkScoped(engine)
      // A second game shows that the engine has come past the first one's time.
      const free = yield* insertGame(100)
      yield* insertTransition(free, "IN_PROGRESS", 100)
      yield* received(["game.started"], [free])
      assert.strictEqual((yield* getGame(id)).status, "SCHEDULED")
      yield* release
      yield* received(["game.started"], [id])
      assert.strictEqual((yield* getGame(id)).status, "IN_PROGRESS")
    }).pipe(Effect.provide(withGames))
  )

  it.live("tries again what has failed, however many of those that failed before it are held", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const failed = (agoSeconds: number) =>
        Effect.gen(function* () {
          const id = yield* insertGame(-1000 * agoSeconds)
          yield* insertTransition(id, "IN_PROGRESS", -1000 * agoSeconds)
          yield* sql`
            UPDATE game_status_schedule
            SET hold = 'retry', attempts = 1, retry_at = transition_time + interval '1 second'
            WHERE game_id = ${id}`
          return id
        })
      const held = yield* Effect.forEach(Array.from({ length: 20 }), () => failed(60))
      const free = yield* failed(10)
      const release = yield* holding(sql`SELECT * FROM game_sessions WHERE id <> ${free} FOR UPDATE`)
      yield* Effect.forkScoped(engine)
      yield* received(["game.started"], [free])
      yield* release
      yield* received(["game.started"], held)
    }).pipe(Effect.provide(withGames))
  )

  it.live("does not count a row as left undone while another transaction holds it or its game", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { findLeft } = yield* StatusTransitionRepository
      const id = yield* insertGame(-60_000)
      const row = yield* insertTransition(id, "IN_PROGRESS", -60_000)
      const left = Effect.map(
        findLeft(Duration.seconds(15), undefined),
        Option.map((found) => found.id)
      )
      for (const lock of [
        sql`SELECT * FROM game_sessions WHERE id = ${id} FOR UPDATE`,
        sql`SELECT * FROM game_status_schedule WHERE id = ${row} FOR UPDATE`
      ]) {
        assert.deepStrictEqual(yield* left, Option.some(row))
        const release = yield* holding(lock)
        assert.deepStrictEqual(yield* left, Option.none())
        yield* release
      }
      // A child row that is being inserted keeps nobody from starting the game.
      const commit = yield* holding(insertReminder(id, 5, 3_000_000))
      assert.deepStrictEqual(yield* left, Option.some(row))
      yield* commit
    }).pipe(Effect.provide(withGames))
  )

  it.live("starts a game on time while another transaction adds child rows to it", () =>
    Effect.gen(function* () {
      const id = yield* insertGame(3_600_000)
      yield* insertTransition(id, "IN_PROGRESS", 100)
      const release = yield* holding(insertReminder(id, 5, 3_000_000))
      yield* Effect.forkScoped(engine)
      yield* received(["game.started"], [id])
      yield* release
    }).pipe(Effect.provide(withGames))
  )

  it.live("never starts a game after it was cancelled, also when both happen in the same millisecond", () =>
    Effect.gen(function* () {
      const games = yield* Games
      yield* Effect.forkScoped(engine)
      const ids = yield* Effect.forEach(Array.from({ length: 60 }), () => plan(Duration.millis(400)))
      const first = yield* games.get(GameId.make(ids[0] ?? ""))
      const due = DateTime.toEpochMillis(first.scheduled_at)
      yield* Effect.forEach(
        ids,
        (id, index) =>
          Effect.gen(function* () {
            const now = DateTime.toEpochMillis(yield* DateTime.now)
            // From 15 ms before to 15 ms after the first start.
            yield* Effect.sleep(Duration.millis(Math.max(0, due - now - 15 + index / 2)))
            return yield* games.cancel(id)
          }),
        { concurrency: "unbounded" }
      )
      const events = yield* received(["game.cancelled"], ids)
      for (const id of ids) {
        const types = events.get(id)
        assert.include(
          [["game.created", "game.cancelled"].join(), ["game.created", "game.started", "game.cancelled"].join()],
          types?.join()
        )
        const game = yield* getGame(id)
        assert.strictEqual(game.status, "CANCELLED")
        assert.strictEqual(game.version, types?.length)
      }
    }).pipe(Effect.provide(withGames))
  )

  it.live("never starts a game by its old row when it is moved in the same millisecond", () =>
    Effect.gen(function* () {
      const games = yield* Games
      yield* Effect.forkScoped(engine)
      const ids = yield* Effect.forEach(Array.from({ length: 60 }), () => plan(Duration.millis(400)))
      const first = yield* games.get(GameId.make(ids[0] ?? ""))
      const due = DateTime.toEpochMillis(first.scheduled_at)
      const moved = yield* Effect.forEach(
        ids,
        (id, index) =>
          Effect.gen(function* () {
            const now = yield* DateTime.now
            yield* Effect.sleep(Duration.millis(Math.max(0, due - DateTime.toEpochMillis(now) - 15 + index / 2)))
            return yield* Effect.result(games.edit(id, { scheduled_at: DateTime.addDuration(now, "1 hour") }))
          }),
        { concurrency: "unbounded" }
      )
      const events = yield* received(["game.updated", "game.started"], ids)
      for (const [index, id] of ids.entries()) {
        const game = yield* getGame(id)
        const transitions = yield* getTransitions(id)
        const outcome = moved[index]
        if (outcome !== undefined && Result.isSuccess(outcome)) {
          assert.strictEqual(game.status, "SCHEDULED")
          assert.isFalse(transitions.get("IN_PROGRESS")?.executed)
          assert.notInclude(events.get(id) ?? [], "game.started")
        } else {
          assert.strictEqual(game.status, "IN_PROGRESS")
          assert.isTrue(transitions.get("IN_PROGRESS")?.executed)
        }
      }
    }).pipe(Effect.provide(withGames))
  )

  it.live("does not start a game whose cancellation was under way when it was due", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.forkScoped(engine)
      const id = yield* plan(Duration.millis(200))
      const commit = yield* holding(
        sql`UPDATE game_sessions SET status = 'CANCELLED', version = version + 1 WHERE id = ${id}`
      )
      yield* untilOverdue(id)
      yield* commit
      const rows = yield* eventually(getTransitions(id), (rows) => rows.get("IN_PROGRESS")?.executed === true)
      assert.strictEqual(rows.get("IN_PROGRESS")?.outcome, "superseded")
      const game = yield* getGame(id)
      assert.deepStrictEqual([game.status, game.version], ["CANCELLED", 2])
    }).pipe(Effect.provide(withGames))
  )

  it.live("does not start a game by a row that was being moved when it was due, though its game was free", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.forkScoped(engine)
      const id = yield* plan(Duration.millis(200))
      const commit = yield* holding(sql`
        UPDATE game_status_schedule SET transition_time = transition_time + interval '1 hour' WHERE game_id = ${id}`)
      yield* untilOverdue(id)
      yield* commit
      const next = yield* plan(Duration.zero)
      const events = yield* received(["game.started"], [next])
      assert.notInclude(events.get(id) ?? [], "game.started")
      assert.strictEqual((yield* getGame(id)).status, "SCHEDULED")
      assert.isFalse((yield* getTransitions(id)).get("IN_PROGRESS")?.executed)
    }).pipe(Effect.provide(withGames))
  )

  it.live("holds nothing that a change needs which has taken the game and goes on to its row when that is due", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* Database
      yield* Effect.forkScoped(engine)
      const id = yield* plan(Duration.millis(200))
      yield* database.transaction(
        Effect.gen(function* () {
          yield* sql`SELECT FROM game_sessions WHERE id = ${id} FOR NO KEY UPDATE`
          yield* untilOverdue(id)
          // Half the time after which the server would look for a deadlock.
          yield* sql`SET LOCAL lock_timeout = '500ms'`
          yield* sql`DELETE FROM game_status_schedule WHERE game_id = ${id}`
        })
      )
      assert.strictEqual((yield* getGame(id)).status, "SCHEDULED")
    }).pipe(Effect.provide(withGames))
  )

  /** Changes of a game by the API that settle the letters about its rows. */
  const changes = [
    { name: "cancelled", change: (games: Games["Service"], id: string) => games.cancel(GameId.make(id)) },
    { name: "deleted", change: (games: Games["Service"], id: string) => games.remove(GameId.make(id)) },
    {
      name: "moved",
      change: (games: Games["Service"], id: string) =>
        Effect.flatMap(DateTime.now, (now) =>
          games.edit(GameId.make(id), { scheduled_at: DateTime.addDuration(now, "2 hours") })
        )
    }
  ] as const

  /** Waits until somebody waits for a lock in this database. */
  const untilSomebodyWaits = Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const waiting = sql`
      SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
    yield* eventually(Effect.andThen(sql`SELECT pg_stat_clear_snapshot()`, waiting), (rows) => rows.length > 0)
  })

  it.live.each(changes)("keeps nothing from who moves a row that was given up while its game is $name", ({ change }) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* Database
      const id = yield* insertGame(3_600_000)
      const { id: row, letter } = yield* parkTransition(id, "IN_PROGRESS")
      const held = yield* Deferred.make<void>()
      const changing = yield* Effect.forkScoped(Effect.andThen(Deferred.await(held), change(yield* Games, id)))
      yield* database.transaction(
        Effect.gen(function* () {
          yield* sql`SELECT FROM game_status_schedule WHERE id = ${row} FOR NO KEY UPDATE`
          yield* Deferred.succeed(held, undefined)
          yield* untilSomebodyWaits
          // Half the time after which the server would look for a deadlock.
          yield* sql`SET LOCAL lock_timeout = '500ms'`
          yield* sql`UPDATE game_status_schedule SET transition_time = now() + interval '1 hour' WHERE id = ${row}`
        })
      )
      yield* Fiber.join(changing)
      const letters = yield* sql`SELECT resolution FROM dead_letters WHERE id = ${letter}`
      assert.deepStrictEqual(letters, [{ resolution: "superseded" }])
    }).pipe(Effect.provide(withGames))
  )

  it.live.each(changes)("leaves no letter about a row that was being given up when its game was $name", ({ change }) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* insertGame(3_600_000)
      yield* insertTransition(id, "IN_PROGRESS", -1000)
      const repository = yield* StatusTransitionRepository
      const [row] = yield* repository.listDue(1)
      assert.isDefined(row)
      const giveUp = yield* holding(
        repository.recordFailure(row, { error: "ConstraintError", message: "this cannot be" }, 1)
      )
      const changing = yield* Effect.forkScoped(change(yield* Games, id))
      yield* untilSomebodyWaits
      yield* giveUp
      yield* Fiber.join(changing)
      assert.deepStrictEqual(yield* sql`SELECT resolution FROM dead_letters`, [{ resolution: "superseded" }])
    }).pipe(Effect.provide(withGames))
  )

  it.live("publishes an event that was numbered before others and committed after they were gone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.forkScoped(engine)
      const late = yield* insertGame(3_600_000)
      const commit = yield* holding(
        sql`INSERT INTO outbox (game_id, type, data) VALUES (${late}, 'game.created', '{}')`
      )
      yield* received(["game.created"], [yield* plan(Duration.hours(1))])
      yield* eventually(sql`SELECT FROM outbox`, (rows) => rows.length === 0)
      yield* commit
      // Whoever commits an event wakes the relay; plain SQL does not, so that another one does it here.
      yield* received(["game.created"], [late, yield* plan(Duration.hours(1))])
    }).pipe(Effect.provide(withGames))
  )

  it.live("leaves a deleted game alone, and its last events in order", () =>
    Effect.gen(function* () {
      const games = yield* Games
      yield* Effect.forkScoped(engine)
      const ids = yield* Effect.forEach(Array.from({ length: 40 }), () => plan(Duration.millis(300)))
      const first = yield* games.get(GameId.make(ids[0] ?? ""))
      const due = DateTime.toEpochMillis(first.scheduled_at)
      yield* Effect.forEach(
        ids,
        (id, index) =>
          Effect.gen(function* () {
            const now = DateTime.toEpochMillis(yield* DateTime.now)
            yield* Effect.sleep(Duration.millis(Math.max(0, due - now - 10 + index / 2)))
            yield* games.remove(id)
          }),
        { concurrency: "unbounded" }
      )
      const events = yield* received(["game.deleted"], ids)
      for (const id of ids) {
        assert.include(
          [["game.created", "game.deleted"].join(), ["game.created", "game.started", "game.deleted"].join()],
          events.get(id)?.join()
        )
      }
    }).pipe(Effect.provide(withGames))
  )

  it.live(
    "fires a row that was inserted while an earlier one was pending and committed just after that one was done",
    () =>
      Effect.gen(function* () {
        yield* Effect.forkScoped(engine)
        const early = yield* insertGame(200)
        yield* insertTransition(early, "IN_PROGRESS", 200)
        const late = yield* insertGame(400)
        const commit = yield* holding(insertTransition(late, "IN_PROGRESS", 400))
        yield* received(["game.started"], [early])
        yield* commit
        yield* received(["game.started"], [late])
      }).pipe(Effect.provide(withGames))
  )

  it.live("fires rows beside overdue ones that rest after a failure", () =>
    Effect.gen(function* () {
      yield* refuseGames({ when: startsOf("poison") })
      yield* Effect.forkScoped(engine)
      const poison = yield* insertGame(0, { title: "poison" })
      yield* insertTransition(poison, "IN_PROGRESS", 0)
      yield* eventually(getTransitions(poison), (rows) => rows.get("IN_PROGRESS")?.hold === "retry")
      const good = yield* insertGame(100)
      yield* insertTransition(good, "IN_PROGRESS", 100)
      yield* received(["game.started"], [good])
      assert.strictEqual((yield* getGame(poison)).status, "SCHEDULED")
    }).pipe(Effect.provide(withGames))
  )

  it.live("starts 196 games at once beside 4 that cannot be started, and starts those when the cause is gone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* refuseGames({ when: startsOf("poison") })
      yield* Effect.forkScoped(engine)
      const ids = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => index),
        (index) =>
          Effect.gen(function* () {
            const id = yield* insertGame(0, { title: index % 50 === 7 ? "poison" : "fine" })
            return id
          })
      )
      yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        SELECT id, 'IN_PROGRESS', now() FROM game_sessions`
      const poisoned = ids.filter((_, index) => index % 50 === 7)
      yield* received(
        ["game.started"],
        ids.filter((id) => !poisoned.includes(id))
      )
      for (const id of poisoned) {
        yield* eventually(getTransitions(id), (rows) => (rows.get("IN_PROGRESS")?.attempts ?? 0) >= 1)
      }
      const triedAgain = yield* sql`
        SELECT FROM ledger CROSS JOIN LATERAL unnest(attempts) AS before (tries) WHERE tries > 0`
      assert.lengthOf(triedAgain, 0)
      yield* acceptGames
      const events = yield* received(["game.started"], poisoned)
      for (const id of poisoned) assert.deepStrictEqual(events.get(id), ["game.started"])
    }).pipe(Effect.provide(withGames))
  )

  it.live("puts a completion aside while its start is still to come, and completes after it", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(engine)
      const id = yield* insertGame(3_600_000)
      yield* insertTransition(id, "IN_PROGRESS", 3_600_000)
      yield* insertTransition(id, "COMPLETED", 0)
      yield* eventually(getTransitions(id), (rows) => rows.get("COMPLETED")?.hold === "waiting")
      assert.strictEqual((yield* getTransitions(id)).get("COMPLETED")?.attempts, 0)
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE game_status_schedule SET transition_time = now() WHERE game_id = ${id}
        AND target_status = 'IN_PROGRESS'`
      const events = yield* received(["game.completed"], [id])
      assert.deepStrictEqual(events.get(id), ["game.started", "game.completed"])
    }).pipe(Effect.provide(withGames))
  )

  it.live(
    "starts and completes more games than a batch holds, also when all completions were due before the starts",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`
        INSERT INTO game_sessions (guild_id, title, scheduled_at)
        SELECT 'guild', 'a game', now() - interval '1 hour' FROM generate_series(1, 1200)`
        yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        SELECT id, 'COMPLETED', now() - interval '2 hours' FROM game_sessions`
        yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        SELECT id, 'IN_PROGRESS', now() - interval '1 hour' FROM game_sessions`
        yield* Effect.forkScoped(engine)
        yield* eventually(
          sql<{ readonly status: string }>`SELECT DISTINCT status FROM game_sessions`,
          (rows) => rows.length === 1 && rows[0]?.status === "COMPLETED"
        )
      }).pipe(Effect.provide(withGames))
  )

  it.live("starts games on time while somebody holds the completion that waits for one of them", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.forkScoped(engine)
      const id = yield* insertGame(3_600_000)
      yield* insertTransition(id, "IN_PROGRESS", 3_600_000)
      const completion = yield* insertTransition(id, "COMPLETED", 0)
      yield* eventually(getTransitions(id), (rows) => rows.get("COMPLETED")?.hold === "waiting")
      const release = yield* holding(sql`SELECT * FROM game_status_schedule WHERE id = ${completion} FOR UPDATE`)
      yield* sql`UPDATE game_status_schedule SET transition_time = now() WHERE game_id = ${id}
        AND target_status = 'IN_PROGRESS'`
      yield* received(["game.started"], [id])
      yield* release
      // The next look for what waits in vain, here that of a new engine, finds it.
      yield* Effect.forkScoped(engine)
      yield* received(["game.completed"], [id])
    }).pipe(Effect.provide(withGames))
  )

  it.live("gives up a completion whose start is missing, with the reason in a dead letter", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Effect.forkScoped(engine)
      const id = yield* insertGame(3_600_000)
      const row = yield* insertTransition(id, "COMPLETED", 0)
      const [letter] = yield* eventually(sql<object>`SELECT * FROM dead_letters`, (rows) => rows.length === 1)
      assert.deepInclude(letter, { kind: "status-transition", source_id: row, game_id: id, error: "StartMissing" })
      assert.strictEqual((yield* getTransitions(id)).get("COMPLETED")?.hold, "parked")
    }).pipe(Effect.provide(withGames))
  )

  it.live("marks a due row that the game's status no longer allows as superseded, without an event", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(engine)
      const id = yield* insertGame(0, { status: "CANCELLED" })
      yield* insertTransition(id, "IN_PROGRESS", 0)
      const rows = yield* eventually(getTransitions(id), (rows) => rows.get("IN_PROGRESS")?.executed === true)
      assert.strictEqual(rows.get("IN_PROGRESS")?.outcome, "superseded")
      assert.deepStrictEqual(yield* listEvents(id), [])
      assert.strictEqual((yield* getGame(id)).version, 1)
    }).pipe(Effect.provide(withGames))
  )

  it.live("lets two engines on one database start each game once", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(engine)
      yield* Effect.forkScoped(engine)
      const ids = yield* Effect.forEach(Array.from({ length: 100 }), () => plan(Duration.millis(500)))
      const events = yield* received(["game.started"], ids)
      for (const id of ids) {
        assert.deepStrictEqual(events.get(id), ["game.created", "game.started"])
        assert.strictEqual((yield* getGame(id)).version, 2)
      }
    }).pipe(Effect.provide(withGames))
  )
})
