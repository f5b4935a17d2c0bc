import { assert, describe, layer } from "@effect/vitest"
import { DateTime, Deferred, Effect, Fiber, Layer, Ref } from "effect"
import { SqlClient, Statement } from "effect/sql"
import { GameId, type GamePatch, type NewGame } from "../../src/domain/Game.ts"
import { Games } from "../../src/games/Games.ts"
import { Database } from "../../src/postgres/Database.ts"
import { Signals, signalLayer } from "../http/apiServer.ts"
import { anybody } from "../support/callers.ts"
import { eventually, getGame, insertGame, insertReminder, insertTransition, listEvents } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const minute = 60_000

/** An instant so many minutes from now, by this machine's clock. */
const inMinutes = (minutes: number) => Effect.map(DateTime.now, DateTime.add({ minutes }))

const newGame = (scheduled_at: DateTime.Utc, fields: Partial<NewGame> = {}): NewGame => ({
  guild_id: "guild",
  title: "a game",
  scheduled_at,
  ...fields
})

/** Creates a game that starts in two hours. */
const create = Effect.fnUntraced(function* (fields: Partial<NewGame> = {}) {
  const games = yield* Games
  return yield* games.create(newGame(yield* inMinutes(120), fields))
})

interface TransitionRow {
  readonly executed: boolean
  readonly outcome: string | null
  readonly hold: string | null
  readonly attempts: number
  readonly at: number
}

/** The status rows of a game by target, with their times in ms. */
const transitions = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<TransitionRow & { readonly target_status: string }>`
    SELECT *, (extract(epoch FROM transition_time) * 1000)::float8 AS at
    FROM game_status_schedule WHERE game_id = ${id}`
  return new Map(rows.map((row) => [row.target_status, row]))
})

/** The reminder rows of a game, latest reminder last: minutes before, whether sent, time in ms. */
const reminders = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly minutes: number; readonly sent: boolean; readonly at: number }>`
    SELECT reminder_minutes AS minutes, sent, (extract(epoch FROM notification_time) * 1000)::float8 AS at
    FROM notification_schedule WHERE game_id = ${id} ORDER BY reminder_minutes DESC`
})

const planned = (rows: ReadonlyArray<{ readonly minutes: number; readonly sent: boolean }>) =>
  rows.map(({ minutes, sent }) => [minutes, sent])

/** Marks a reminder as sent, as the clock does. */
const markSent = Effect.fnUntraced(function* (id: string, minutes: number) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`UPDATE notification_schedule SET sent = TRUE, sent_at = now(), outcome = 'sent'
    WHERE game_id = ${id} AND reminder_minutes = ${minutes}`
})

/** Executes the start, as the clock does. */
const start = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`UPDATE game_sessions SET status = 'IN_PROGRESS', version = version + 1 WHERE id = ${id}`
  yield* sql`UPDATE game_status_schedule SET executed = TRUE, executed_at = now(), outcome = 'applied'
    WHERE game_id = ${id} AND target_status = 'IN_PROGRESS'`
})

/** Parks a row of either schedule, with its dead letter. */
const park = Effect.fnUntraced(function* (table: string, gameId: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`UPDATE ${sql(table)} SET hold = 'parked', attempts = 8 WHERE game_id = ${gameId}`
  yield* sql`
    INSERT INTO dead_letters (kind, source_id, game_id, error, message, attempts, payload)
    SELECT ${table === "game_status_schedule" ? "status-transition" : "notification"}, id, game_id, 'E', 'm', 8, '{}'
    FROM ${sql(table)} WHERE game_id = ${gameId}`
})

const letters = Effect.fnUntraced(function* (gameId: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly kind: string; readonly resolution: string | null; readonly resolved_by: string | null }>`
    SELECT * FROM dead_letters WHERE game_id = ${gameId} ORDER BY kind`
})

const typesOf = (events: ReadonlyArray<{ readonly type: string }>) => events.map(({ type }) => type)

const services = Layer.merge(Games.layer, anybody).pipe(
  Layer.provideMerge(signalLayer),
  Layer.provideMerge(TestDatabase.layer)
)

/** How many of six new games that come at once are in hand together at most; none goes on before so many are. */
const mostOfSix = Effect.fnUntraced(function* (expected: number, keyOf: (n: number) => string | undefined) {
  const games = yield* Games
  const game = newGame(yield* inMinutes(120))
  const release = yield* Deferred.make<void>()
  const inHand = new Set<number>()
  let most = 0
  const held =
    (n: number): Statement.Transformer =>
    (statement) =>
      Effect.gen(function* () {
        most = Math.max(most, inHand.add(n).size)
        if (inHand.size >= expected) yield* Deferred.succeed(release, undefined)
        yield* Deferred.await(release)
        return statement
      })
  const created = yield* Effect.forEach(
    Array.from({ length: 6 }, (_, n) => n),
    (n) =>
      games
        .create(game, keyOf(n))
        .pipe(
          Effect.provideService(Statement.CurrentTransformer, held(n)),
          Effect.ensuring(Effect.sync(() => inHand.delete(n)))
        ),
    { concurrency: "unbounded" }
  )
  assert.strictEqual(new Set(created.map(({ id }) => id)).size, 6)
  return most
})

layer(services, { excludeTestServices: true })("Games", (it) => {
  describe("a burst of new games", () => {
    it.effect("is worked off three at a time beside the clock", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* mostOfSix(3, () => undefined), 3)
        assert.strictEqual(yield* mostOfSix(3, (n) => `burst ${n}`), 3)
      })
    )

    it.effect("is worked off at once in a process that serves the API alone", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* mostOfSix(6, () => undefined), 6)
      }).pipe(Effect.provide(Games.layerWith({ besideLoops: false })))
    )
  })

  describe("a created game", () => {
    it.effect("gets both status rows, its reminders and game.created in one go", () =>
      Effect.gen(function* () {
        const game = yield* create({ expected_duration_minutes: 90, reminder_minutes: [60, 15] })
        const at = DateTime.toEpochMillis(game.scheduled_at)
        const rows = yield* transitions(game.id)
        assert.strictEqual(rows.get("IN_PROGRESS")?.at, at)
        assert.strictEqual(rows.get("COMPLETED")?.at, at + 90 * minute)
        assert.deepStrictEqual(
          (yield* reminders(game.id)).map((row) => [row.minutes, row.at]),
          [
            [60, at - 60 * minute],
            [15, at - 15 * minute]
          ]
        )
        const [event, ...others] = yield* listEvents(game.id)
        assert.lengthOf(others, 0)
        assert.strictEqual(event?.type, "game.created")
        assert.deepStrictEqual(event?.data, {
          game_id: game.id,
          title: "a game",
          guild_id: "guild",
          channel_id: null,
          host_id: null,
          status: "SCHEDULED",
          scheduled_at: DateTime.formatIso(game.scheduled_at),
          version: 1
        })
      })
    )

    it.effect("takes the defaults of the contract: an hour, reminders an hour and a quarter before", () =>
      Effect.gen(function* () {
        const game = yield* create()
        assert.strictEqual(game.expected_duration_minutes, 60)
        assert.deepStrictEqual(game.reminder_minutes, [60, 15])
        assert.strictEqual(game.version, 1)
        assert.strictEqual(game.status, "SCHEDULED")
      })
    )

    it.effect("has only the reminders that are still in the future", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* games.create(newGame(yield* inMinutes(30), { reminder_minutes: [60, 30, 15, 1] }))
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [
          [15, false],
          [1, false]
        ])
      })
    )

    it.effect("may start in the past, and is then due at once", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* games.create(newGame(yield* inMinutes(-5)))
        assert.strictEqual((yield* transitions(game.id)).get("IN_PROGRESS")?.executed, false)
        assert.deepStrictEqual(yield* reminders(game.id), [])
      })
    )

    it.effect("keeps zero as a value: duration 0 completes at the start, no reminders means none", () =>
      Effect.gen(function* () {
        const game = yield* create({ expected_duration_minutes: 0, reminder_minutes: [] })
        const rows = yield* transitions(game.id)
        assert.strictEqual(game.expected_duration_minutes, 0)
        assert.strictEqual(rows.get("COMPLETED")?.at, rows.get("IN_PROGRESS")?.at)
        assert.deepStrictEqual(game.reminder_minutes, [])
        assert.deepStrictEqual(yield* reminders(game.id), [])
      })
    )

    it.effect("folds duplicate reminders", () =>
      Effect.gen(function* () {
        const game = yield* create({ reminder_minutes: [10, 10, 5, 10] })
        assert.deepStrictEqual(game.reminder_minutes, [10, 5])
        assert.lengthOf(yield* reminders(game.id), 2)
      })
    )
  })

  describe("a scheduled game that is moved", () => {
    it.effect("has both rows and its reminders at the new times, one version later", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        const moved = yield* games.edit(game.id, { scheduled_at: yield* inMinutes(300) })
        const at = DateTime.toEpochMillis(moved.scheduled_at)
        const rows = yield* transitions(game.id)
        assert.strictEqual(rows.get("IN_PROGRESS")?.at, at)
        assert.strictEqual(rows.get("COMPLETED")?.at, at + 60 * minute)
        assert.deepStrictEqual(
          (yield* reminders(game.id)).map((row) => row.at),
          [at - 60 * minute, at - 15 * minute]
        )
        assert.strictEqual(moved.version, 2)
        const updated = (yield* listEvents(game.id))[1]
        assert.strictEqual(updated?.type, "game.updated")
        assert.deepStrictEqual(updated?.data["changed"], ["scheduled_at"])
        assert.strictEqual(updated?.data["version"], 2)
        assert.strictEqual(updated?.data["scheduled_at"], DateTime.formatIso(moved.scheduled_at))
      })
    )

    it.effect("gets back a row that is missing, and an executed one becomes pending", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const game = yield* create()
        yield* sql`DELETE FROM game_status_schedule WHERE game_id = ${game.id} AND target_status = 'COMPLETED'`
        yield* sql`UPDATE game_status_schedule SET executed = TRUE, outcome = 'superseded' WHERE game_id = ${game.id}`
        yield* games.edit(game.id, { scheduled_at: yield* inMinutes(300) })
        const rows = yield* transitions(game.id)
        assert.strictEqual(rows.get("IN_PROGRESS")?.executed, false)
        assert.isNull(rows.get("IN_PROGRESS")?.outcome)
        assert.strictEqual(rows.get("COMPLETED")?.executed, false)
      })
    )

    it.effect("sends a reminder again whose own time has changed", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* markSent(game.id, 60)
        yield* games.edit(game.id, { scheduled_at: yield* inMinutes(240) })
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [
          [60, false],
          [15, false]
        ])
      })
    )

    it.effect("does not send a reminder again whose new time has passed, and drops a pending one", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create({ reminder_minutes: [60, 45, 15] })
        yield* markSent(game.id, 60)
        yield* games.edit(game.id, { scheduled_at: yield* inMinutes(30) })
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [
          [60, true],
          [15, false]
        ])
      })
    )

    it.effect("has its open dead letters superseded and its parked rows pending again", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create({ reminder_minutes: [15] })
        yield* park("game_status_schedule", game.id)
        yield* park("notification_schedule", game.id)
        yield* games.edit(game.id, { scheduled_at: yield* inMinutes(300) })
        for (const letter of yield* letters(game.id)) {
          assert.strictEqual(letter.resolution, "superseded")
          assert.strictEqual(letter.resolved_by, "api")
        }
        for (const row of (yield* transitions(game.id)).values()) {
          assert.isNull(row.hold)
          assert.strictEqual(row.attempts, 0)
        }
      })
    )

    it.effect("has a parked row pending again although the row's own time already was the new one", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const game = yield* create()
        const later = yield* inMinutes(300)
        yield* sql`UPDATE game_status_schedule SET transition_time = ${DateTime.toDateUtc(later)}
          WHERE game_id = ${game.id} AND target_status = 'IN_PROGRESS'`
        yield* park("game_status_schedule", game.id)
        yield* games.edit(game.id, { scheduled_at: later })
        assert.isNull((yield* transitions(game.id)).get("IN_PROGRESS")?.hold)
      })
    )
  })

  describe("a scheduled game whose duration changes", () => {
    it.effect("keeps its start, and its completion moves", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* games.edit(game.id, { expected_duration_minutes: 0 })
        const rows = yield* transitions(game.id)
        const at = DateTime.toEpochMillis(game.scheduled_at)
        assert.strictEqual(rows.get("IN_PROGRESS")?.at, at)
        assert.strictEqual(rows.get("COMPLETED")?.at, at)
      })
    )

    it.effect("gets back what another application did to its reminders", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const sql = yield* SqlClient.SqlClient
        const game = yield* create()
        yield* sql`
          UPDATE notification_schedule SET notification_time = notification_time - interval '1 minute'
          WHERE game_id = ${game.id} AND reminder_minutes = 60`
        yield* sql`DELETE FROM notification_schedule WHERE game_id = ${game.id} AND reminder_minutes = 15`
        yield* games.edit(game.id, { expected_duration_minutes: 30 })
        const at = DateTime.toEpochMillis(game.scheduled_at)
        assert.deepStrictEqual(
          (yield* reminders(game.id)).map((reminder) => reminder.at),
          [at - 60 * 60_000, at - 15 * 60_000]
        )
      })
    )

    it.effect("does not send its reminders again", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* markSent(game.id, 60)
        yield* games.edit(game.id, { expected_duration_minutes: 30 })
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [
          [60, true],
          [15, false]
        ])
      })
    )
  })

  describe("a scheduled game whose reminders change", () => {
    it.effect("loses those no longer wanted, gets the new ones, and keeps a sent one as sent", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create({ reminder_minutes: [60, 15] })
        yield* markSent(game.id, 60)
        const before = yield* transitions(game.id)
        yield* games.edit(game.id, { reminder_minutes: [60, 5] })
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [
          [60, true],
          [5, false]
        ])
        assert.deepStrictEqual(yield* transitions(game.id), before)
      })
    )

    it.effect("keeps a reminder that is due at this very moment", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const game = yield* create({ reminder_minutes: [60] })
        yield* sql`UPDATE game_sessions SET scheduled_at = now() + interval '59 minutes' WHERE id = ${game.id}`
        yield* sql`UPDATE notification_schedule SET notification_time = (
          SELECT scheduled_at - interval '60 minutes' FROM game_sessions WHERE id = ${game.id}
        ) WHERE game_id = ${game.id}`
        yield* games.edit(game.id, { reminder_minutes: [60, 15] })
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [
          [60, false],
          [15, false]
        ])
      })
    )
  })

  describe("a running game", () => {
    it.effect("has its completion moved by the difference of the durations, and its start left alone", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const game = yield* create({ expected_duration_minutes: 60 })
        yield* start(game.id)
        // The completion's own time decides, also where it differs from the plan.
        yield* sql`UPDATE game_status_schedule SET transition_time = transition_time + interval '7 minutes'
          WHERE game_id = ${game.id} AND target_status = 'COMPLETED'`
        const before = yield* transitions(game.id)
        yield* games.edit(game.id, { expected_duration_minutes: 45 })
        const after = yield* transitions(game.id)
        assert.deepStrictEqual(after.get("IN_PROGRESS"), before.get("IN_PROGRESS"))
        assert.strictEqual(after.get("COMPLETED")?.at, (before.get("COMPLETED")?.at ?? 0) - 15 * minute)
      })
    )

    it.effect("cannot be moved, but may be given its own time again", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* start(game.id)
        const refused = yield* Effect.flip(games.edit(game.id, { scheduled_at: yield* inMinutes(300) }))
        assert.strictEqual(refused._tag, "GameNotEditable")
        const same = yield* games.edit(game.id, { scheduled_at: game.scheduled_at })
        assert.strictEqual(same.version, 2)
      })
    )
  })

  describe("a game that is started by hand", () => {
    it.effect("has its start executed, its completion a duration from now and no pending reminder", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const game = yield* create({ expected_duration_minutes: 45 })
        yield* markSent(game.id, 60)
        const started = yield* games.edit(game.id, { status: "IN_PROGRESS" })
        assert.strictEqual(started.status, "IN_PROGRESS")
        assert.strictEqual(started.version, 2)
        const rows = yield* transitions(game.id)
        assert.strictEqual(rows.get("IN_PROGRESS")?.executed, true)
        assert.strictEqual(rows.get("IN_PROGRESS")?.outcome, "applied")
        const [left] = yield* sql<{ readonly minutes: number }>`
          SELECT (extract(epoch FROM transition_time - now()) / 60)::float8 AS minutes
          FROM game_status_schedule WHERE game_id = ${game.id} AND target_status = 'COMPLETED'`
        assert.isAbove(left?.minutes ?? 0, 44)
        assert.isAtMost(left?.minutes ?? 0, 45)
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [[60, true]])
        const events = yield* listEvents(game.id)
        assert.deepStrictEqual(typesOf(events), ["game.created", "game.started"])
        assert.isNull(events[1]?.data["transition_time"])
        assert.isNull(events[1]?.data["lateness_ms"])
        assert.strictEqual(events[1]?.data["version"], 2)
      })
    )

    it.effect("takes other fields along in the same version, told of by game.updated besides", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        const started = yield* games.edit(game.id, {
          status: "IN_PROGRESS",
          title: "now",
          expected_duration_minutes: 0
        })
        assert.strictEqual(started.version, 2)
        const [, first, second, ...others] = yield* listEvents(game.id)
        assert.lengthOf(others, 0)
        assert.strictEqual(first?.type, "game.started")
        assert.strictEqual(second?.type, "game.updated")
        assert.deepStrictEqual(second?.data["changed"], ["title", "expected_duration_minutes"])
        assert.strictEqual(first?.data["version"], 2)
        assert.strictEqual(second?.data["version"], 2)
      })
    )

    it.effect("cannot be moved in the same change", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        const patch: GamePatch = { status: "IN_PROGRESS", scheduled_at: yield* inMinutes(300) }
        assert.strictEqual((yield* Effect.flip(games.edit(game.id, patch)))._tag, "GameNotEditable")
        assert.strictEqual((yield* games.get(game.id)).version, 1)
      })
    )

    it.effect("gets schedule rows if another application had written none", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const id = yield* insertGame(60_000)
        yield* games.edit(GameId.make(id), { status: "IN_PROGRESS" })
        const rows = yield* transitions(id)
        assert.strictEqual(rows.get("IN_PROGRESS")?.executed, true)
        assert.strictEqual(rows.get("COMPLETED")?.executed, false)
      })
    )
  })

  describe("a game that is completed or cancelled", () => {
    it.effect("has no pending row, and keeps the done ones", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* markSent(game.id, 60)
        yield* games.edit(game.id, { status: "IN_PROGRESS" })
        const completed = yield* games.edit(game.id, { status: "COMPLETED" })
        assert.strictEqual(completed.version, 3)
        assert.deepStrictEqual([...(yield* transitions(game.id)).keys()], ["IN_PROGRESS"])
        assert.deepStrictEqual(planned(yield* reminders(game.id)), [[60, true]])
        const events = yield* listEvents(game.id)
        assert.deepStrictEqual(typesOf(events), ["game.created", "game.started", "game.completed"])
        assert.isNull(events[2]?.data["transition_time"])
      })
    )

    it.effect("is cancelled with one event, and once more without", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        const cancelled = yield* games.cancel(game.id)
        assert.strictEqual(cancelled.status, "CANCELLED")
        assert.strictEqual((yield* transitions(game.id)).size, 0)
        assert.deepStrictEqual(yield* reminders(game.id), [])
        const again = yield* games.cancel(game.id)
        assert.strictEqual(again.version, cancelled.version)
        const events = yield* listEvents(game.id)
        assert.deepStrictEqual(typesOf(events), ["game.created", "game.cancelled"])
        assert.deepInclude(events[1]?.data, { transition_time: null, lateness_ms: null })
      })
    )

    it.effect("keeps its time, duration and reminders, but its title may change", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* games.cancel(game.id)
        const refused: ReadonlyArray<GamePatch> = [
          { scheduled_at: yield* inMinutes(300) },
          { expected_duration_minutes: 1 },
          { reminder_minutes: [1] }
        ]
        for (const patch of refused) {
          assert.strictEqual((yield* Effect.flip(games.edit(game.id, patch)))._tag, "GameNotEditable")
        }
        assert.strictEqual((yield* games.edit(game.id, { title: "called off" })).version, 3)
        assert.strictEqual((yield* transitions(game.id)).size, 0)
      })
    )

    it.effect("never leaves its final status", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* games.cancel(game.id)
        for (const status of ["SCHEDULED", "IN_PROGRESS", "COMPLETED"] as const) {
          assert.strictEqual((yield* Effect.flip(games.edit(game.id, { status })))._tag, "IllegalTransition")
        }
      })
    )

    it.effect("cannot be completed without having been started", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        assert.strictEqual((yield* Effect.flip(games.edit(game.id, { status: "COMPLETED" })))._tag, "IllegalTransition")
      })
    )
  })

  describe("a deleted game", () => {
    it.effect("takes its schedule along and leaves its events, the last of them one version later", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* games.remove(game.id)
        assert.strictEqual((yield* transitions(game.id)).size, 0)
        assert.deepStrictEqual(yield* reminders(game.id), [])
        const events = yield* listEvents(game.id)
        assert.deepStrictEqual(typesOf(events), ["game.created", "game.deleted"])
        assert.strictEqual(events[1]?.data["version"], 2)
        assert.strictEqual((yield* Effect.flip(games.get(game.id)))._tag, "GameNotFound")
        assert.strictEqual((yield* Effect.flip(games.remove(game.id)))._tag, "GameNotFound")
      })
    )
  })

  describe("a change that changes nothing", () => {
    it.effect("gives no event, no signal and no new version, also when every field is repeated", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const signals = yield* Signals
        const game = yield* create({ description: "d", max_players: 4 })
        const before = yield* Ref.get(signals)
        const { channel_id, description, expected_duration_minutes, guild_id, host_id, location } = game
        const same = yield* games.edit(game.id, {
          channel_id,
          description,
          expected_duration_minutes,
          guild_id,
          host_id,
          location,
          title: game.title,
          scheduled_at: game.scheduled_at,
          status: "SCHEDULED",
          max_players: 4,
          reminder_minutes: [15, 60, 60]
        })
        assert.strictEqual(same.version, 1)
        assert.deepStrictEqual(yield* games.edit(game.id, {}), same)
        assert.deepStrictEqual(typesOf(yield* listEvents(game.id)), ["game.created"])
        assert.strictEqual(yield* Ref.get(signals), before)
      })
    )

    it.effect("is also the time that a client sees of a game with microseconds", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const game = yield* create()
        yield* sql`UPDATE game_sessions SET scheduled_at = '2040-01-01 00:00:00.123999+00' WHERE id = ${game.id}`
        const seen = yield* games.get(game.id)
        const same = yield* games.edit(game.id, { scheduled_at: seen.scheduled_at })
        assert.strictEqual(same.version, 1)
      })
    )
  })

  it.effect("the relay is told of events only after they were committed", () =>
    Effect.gen(function* () {
      const games = yield* Games
      const signals = yield* Signals
      const before = yield* Ref.get(signals)
      const game = yield* create()
      assert.strictEqual(yield* Ref.get(signals), before + 1)
      yield* Effect.flip(games.edit(game.id, { status: "COMPLETED" }))
      assert.strictEqual(yield* Ref.get(signals), before + 1)
      yield* games.cancel(game.id)
      assert.strictEqual(yield* Ref.get(signals), before + 2)
    })
  )

  it.effect("a failed change leaves nothing behind", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const games = yield* Games
      const game = yield* create()
      yield* sql`ALTER TABLE outbox ADD CONSTRAINT refuse CHECK (data ->> 'title' <> 'refused')`
      yield* Effect.flip(games.edit(game.id, { title: "refused", scheduled_at: yield* inMinutes(300) }))
      yield* sql`ALTER TABLE outbox DROP CONSTRAINT refuse`
      assert.deepStrictEqual(yield* games.get(game.id), game)
      assert.strictEqual(
        (yield* transitions(game.id)).get("IN_PROGRESS")?.at,
        DateTime.toEpochMillis(game.scheduled_at)
      )
    })
  )

  describe("two edits at once", () => {
    it.effect("both apply, one version after the other, with their events in that order", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        yield* Effect.all([games.edit(game.id, { title: "left" }), games.edit(game.id, { location: "right" })], {
          concurrency: "unbounded"
        })
        const after = yield* games.get(game.id)
        assert.deepStrictEqual([after.title, after.location, after.version], ["left", "right", 3])
        assert.deepStrictEqual(
          (yield* listEvents(game.id)).map(({ data }) => data["version"]),
          [1, 2, 3]
        )
      })
    )

    it.effect("that expect the same version: one applies, the other is refused", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const game = yield* create()
        const results = yield* Effect.forEach(
          ["left", "right"],
          (title) => Effect.result(games.edit(game.id, { title }, [1])),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(results.map(({ _tag }) => _tag).toSorted(), ["Failure", "Success"])
        assert.strictEqual((yield* games.get(game.id)).version, 2)
      })
    )
  })

  describe("a foreign transaction that holds the game", () => {
    it.effect("is waited for", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const database = yield* Database
        const games = yield* Games
        const game = yield* create()
        const held = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const foreign = yield* database
          .transaction(
            Effect.gen(function* () {
              yield* sql`UPDATE game_sessions SET status = 'CANCELLED', version = version + 1 WHERE id = ${game.id}`
              yield* Deferred.succeed(held, undefined)
              yield* Deferred.await(release)
            })
          )
          .pipe(Effect.forkChild)
        yield* Deferred.await(held)
        const edit = yield* Effect.forkChild(Effect.flip(games.edit(game.id, { status: "IN_PROGRESS" })))
        yield* eventually(
          sql`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`,
          (waiting) => waiting.length > 0
        )
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(foreign)
        assert.strictEqual((yield* Fiber.join(edit))._tag, "IllegalTransition")
        assert.strictEqual((yield* getGame(game.id)).status, "CANCELLED")
      })
    )
  })

  describe("an idempotency key", () => {
    it.effect("answers the same game to requests of the same content, also at once", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const at = yield* inMinutes(120)
        const created = yield* Effect.replicateEffect(games.create(newGame(at, { title: "one" }), "key-1"), 8, {
          concurrency: "unbounded"
        })
        assert.strictEqual(new Set(created.map(({ id }) => id)).size, 1)
        assert.lengthOf(yield* sql`SELECT FROM game_sessions WHERE title = 'one'`, 1)
        assert.deepStrictEqual(typesOf(yield* listEvents(created[0]?.id ?? "")), ["game.created"])
      })
    )

    it.effect("is refused with other content, and after its game was deleted", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const at = yield* inMinutes(120)
        const game = yield* games.create(newGame(at), "key-2")
        const other = yield* Effect.flip(games.create(newGame(at, { title: "other" }), "key-2"))
        assert.strictEqual(other._tag, "IdempotencyConflict")
        assert.match(other.message, /another request/)
        yield* games.remove(game.id)
        assert.match((yield* Effect.flip(games.create(newGame(at), "key-2"))).message, /deleted/)
      })
    )

    it.effect("is forgotten after 24 hours, and deleted some time later", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const at = yield* inMinutes(120)
        const first = yield* games.create(newGame(at), "key-3")
        yield* games.create(newGame(at), "key-4")
        yield* sql`UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes' WHERE key = 'key-3'`
        assert.strictEqual((yield* games.create(newGame(at), "key-3")).id, first.id)
        yield* sql`UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute' WHERE key = 'key-3'`
        yield* sql`UPDATE idempotency_keys SET created_at = now() - interval '26 hours' WHERE key = 'key-4'`
        assert.notStrictEqual((yield* games.create(newGame(at, { title: "new" }), "key-3")).id, first.id)
        assert.deepStrictEqual(yield* sql`SELECT key FROM idempotency_keys WHERE key IN ('key-3', 'key-4')`, [
          { key: "key-3" }
        ])
      })
    )

    it.effect("is free again when its request failed", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        const game = newGame(yield* inMinutes(120), { title: "refused" })
        yield* sql`ALTER TABLE outbox ADD CONSTRAINT refuse CHECK (data ->> 'title' <> 'refused')`
        yield* Effect.flip(games.create(game, "key-5"))
        yield* sql`ALTER TABLE outbox DROP CONSTRAINT refuse`
        assert.strictEqual((yield* games.create(game, "key-5")).title, "refused")
      })
    )
  })

  describe("the list", () => {
    it.effect("pages through games of the same instant and microsecond without losing or repeating one", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const games = yield* Games
        yield* sql`
          INSERT INTO game_sessions (guild_id, title, scheduled_at)
          SELECT 'paged', 'g', '9876-01-01T00:00:00Z'::timestamptz + (n / 3) * interval '1 microsecond'
          FROM generate_series(1, 20) AS n`
        const seen: Array<string> = []
        let after: Parameters<typeof games.list>[0]["after"]
        do {
          const page = yield* games.list({ guild_id: "paged", limit: 3, after })
          seen.push(...page.games.map(({ id }) => id))
          after = page.next._tag === "Some" ? page.next.value : undefined
        } while (after !== undefined)
        const all = yield* sql<{ readonly id: string }>`
          SELECT id FROM game_sessions WHERE guild_id = 'paged' ORDER BY scheduled_at, id`
        assert.deepStrictEqual(
          seen,
          all.map(({ id }) => id)
        )
      })
    )

    it.effect("keeps to the filter: from inclusive, to exclusive, status, guild", () =>
      Effect.gen(function* () {
        const games = yield* Games
        const at = (day: number) => DateTime.makeUnsafe(Date.UTC(2050, 0, day))
        const ids = yield* Effect.forEach([1, 2, 3], (day) =>
          Effect.map(games.create(newGame(at(day), { guild_id: "filtered" })), ({ id }) => id)
        )
        yield* games.cancel(GameId.make(ids[1] ?? ""))
        const list = (filter: Partial<Parameters<typeof games.list>[0]>) =>
          Effect.map(games.list({ guild_id: "filtered", limit: 50, ...filter }), (page) =>
            page.games.map(({ id }) => ids.indexOf(id) + 1)
          )
        assert.deepStrictEqual(yield* list({}), [1, 2, 3])
        assert.deepStrictEqual(yield* list({ from: at(2) }), [2, 3])
        assert.deepStrictEqual(yield* list({ to: at(3) }), [1, 2])
        assert.deepStrictEqual(yield* list({ status: "CANCELLED" }), [2])
        assert.deepStrictEqual(yield* list({ guild_id: "nobody" }), [])
      })
    )
  })

  it.effect("the schedule shows planned and done rows", () =>
    Effect.gen(function* () {
      const games = yield* Games
      const id = GameId.make(yield* insertGame(60_000))
      yield* insertTransition(id, "IN_PROGRESS", 60_000)
      yield* insertReminder(id, 15, 1000)
      yield* markSent(id, 15)
      const { notifications, status_transitions } = yield* games.schedule(id)
      assert.deepStrictEqual(
        status_transitions.map((row) => [row.target_status, row.executed]),
        [["IN_PROGRESS", false]]
      )
      assert.deepStrictEqual(
        notifications.map((row) => [row.reminder_minutes, row.sent, row.outcome]),
        [[15, true, "sent"]]
      )
    })
  )
})
