/** The record of what was done, and the proof that is made of it, on a real database. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Deferred, Duration, Effect, Fiber, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { DeadLetters } from "../../src/deadLetters/DeadLetters.ts"
import { GameRepository } from "../../src/games/GameRepository.ts"
import { Games } from "../../src/games/Games.ts"
import { LedgerRepository } from "../../src/ledger/LedgerRepository.ts"
import { isClean, verify } from "../../src/ledger/Verification.ts"
import { Database } from "../../src/postgres/Database.ts"
import { parkEvent, parkTransition } from "../support/deadLetters.ts"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { anybody } from "../support/callers.ts"
import { eventually, insertGame, insertReminder, insertTransition } from "../support/games.ts"

const layer = () =>
  Layer.mergeAll(Games.layer, DeadLetters.layer, LedgerRepository.layer, GameRepository.layer, anybody).pipe(
    Layer.provideMerge(engineLayer())
  )

/** What the checks find since an instant, by name. */
const findingsSince = Effect.fnUntraced(function* (from: DateTime.Utc) {
  const report = yield* verify({ from, to: DateTime.addDuration(yield* DateTime.now, "1 minute") })
  return {
    report,
    found: Object.fromEntries(
      report.checks.filter((check) => check.count > 0).map((check) => [check.name, check.count])
    )
  }
})

/** The same since a minute ago. */
const findings = Effect.flatMap(DateTime.now, (now) => findingsSince(DateTime.subtractDuration(now, "1 minute")))

/** A game that was planned, started and completed by the running engine, with all its events published. */
const played = Effect.gen(function* () {
  const games = yield* Games
  const broker = yield* Broker
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forkScoped(engine)
  const now = yield* DateTime.now
  const game = yield* games.create({
    guild_id: "guild",
    title: "a game",
    scheduled_at: DateTime.addDuration(now, Duration.millis(50)),
    expected_duration_minutes: 0
  })
  while ((yield* Queue.take(broker.received)).type !== "game.completed");
  yield* eventually(sql<object>`SELECT id FROM outbox`, (rows) => rows.length === 0)
  return game
})

describe("verify", () => {
  it.live("finds nothing in an empty database", () =>
    Effect.gen(function* () {
      const { report } = yield* findings
      assert.isTrue(isClean(report))
      assert.strictEqual(report.effects, 0)
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds nothing after a game went its way", () =>
    Effect.gen(function* () {
      yield* played
      const { found, report } = yield* findings
      assert.deepStrictEqual(found, {})
      assert.strictEqual(report.effects, 2)
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds nothing after games were started, completed, moved, cancelled and deleted by hand", () =>
    Effect.gen(function* () {
      const games = yield* Games
      const now = yield* DateTime.now
      const plan = games.create({
        guild_id: "guild",
        title: "a game",
        scheduled_at: DateTime.addDuration(now, "1 hour")
      })
      const started = yield* plan
      yield* games.edit(started.id, { status: "IN_PROGRESS" })
      const completed = yield* plan
      yield* games.edit(completed.id, { status: "IN_PROGRESS" })
      yield* games.edit(completed.id, { status: "COMPLETED" })
      const moved = yield* plan
      yield* games.edit(moved.id, { scheduled_at: DateTime.addDuration(now, "2 hours") })
      yield* games.cancel((yield* plan).id)
      yield* games.remove((yield* plan).id)
      assert.deepStrictEqual((yield* findings).found, {})
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds nothing after two reminders of one game were due at once: each is sent and on record once", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const game = yield* insertGame(3_600_000)
      yield* insertTransition(game, "IN_PROGRESS", 3_600_000)
      yield* insertTransition(game, "COMPLETED", 7_200_000)
      yield* insertReminder(game, 60, -2000)
      yield* insertReminder(game, 15, -1000)
      yield* Effect.forkScoped(engine)
      const sent = [yield* Queue.take(broker.received), yield* Queue.take(broker.received)]
      assert.deepStrictEqual(
        sent.map(({ data }) => data["reminder_minutes"]),
        [60, 15]
      )
      const sql = yield* SqlClient.SqlClient
      yield* eventually(sql<object>`SELECT id FROM outbox`, (rows) => rows.length === 0)
      const { found, report } = yield* findings
      assert.deepStrictEqual(found, {})
      assert.strictEqual(report.effects, 2)
    }).pipe(Effect.provide(layer()))
  )

  it.live("keeps the evidence of a game that was deleted", () =>
    Effect.gen(function* () {
      const games = yield* Games
      const game = yield* played
      yield* games.remove(game.id)
      assert.strictEqual((yield* findings).report.effects, 2)
    }).pipe(Effect.provide(layer()))
  )

  it.live("tells what is due while its kind is paused, objects to it once it has not been done after that", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(-60_000)
      yield* insertTransition(game, "IN_PROGRESS", -60_000)
      yield* insertTransition(game, "COMPLETED", 3_600_000)
      const resting = yield* insertReminder(game, 15, -60_000)
      yield* sql`UPDATE notification_schedule SET hold = 'retry', retry_at = now() WHERE id = ${resting}`
      yield* sql`
        INSERT INTO pauses (kind, paused_by, reason)
        VALUES ('status-transition', 'anna', 'a new bot'), ('notification', 'ben', NULL)`
      const during = yield* findings
      assert.deepStrictEqual(during.found, {})
      assert.strictEqual(during.report.paused.count, 2)
      const details = during.report.paused.examples.map(({ detail }) => detail)
      assert.match(
        details[0] ?? "",
        /^status-transition IN_PROGRESS, due at .*, waits because anna has paused its kind since .*: a new bot$/
      )
      assert.match(details[1] ?? "", /^notification 15, due at .*, waits because ben has paused its kind since [^:]+:/)

      // There was no time yet to do it.
      yield* sql`UPDATE pauses SET resumed_at = now()`
      assert.deepStrictEqual((yield* findings).found, {})
      yield* sql`UPDATE pauses SET resumed_at = now() - interval '30 seconds'`
      const after = yield* findings
      assert.deepStrictEqual(after.found, { overdue: 2 })
      assert.strictEqual(after.report.paused.count, 0)
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds a row that took effect twice", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* played
      yield* sql`
        INSERT INTO ledger (replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
        SELECT 'another', kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids
        FROM ledger WHERE 'IN_PROGRESS' = ANY(targets)`
      const { found, report } = yield* findings
      assert.deepStrictEqual(found, { repeated: 1 })
      assert.match(report.checks[0]?.examples[0]?.detail ?? "", /IN_PROGRESS took effect 2 times/)
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds an effect that came before its time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* played
      yield* sql`UPDATE ledger SET recorded_at = due_at[1] - interval '1 millisecond' WHERE 'IN_PROGRESS' = ANY(targets)`
      assert.deepStrictEqual((yield* findings).found, { early: 1 })
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds an effect whose event is lost, and is content while the event waits or is a dead letter", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* played
      const [row] = yield* sql<{ readonly event_id: string }>`SELECT event_ids[1] AS event_id FROM ledger LIMIT 1`
      const eventId = row?.event_id ?? ""
      yield* sql`UPDATE confirmations SET event_ids = array_remove(event_ids, ${eventId}::uuid)`
      assert.deepStrictEqual((yield* findings).found, { untold: 1 })
      yield* sql`
        INSERT INTO outbox (event_id, game_id, type, data) VALUES (${eventId}, gen_random_uuid(), 'game.started', '{}')`
      assert.deepStrictEqual((yield* findings).found, {})
      yield* sql`DELETE FROM outbox`
      assert.deepStrictEqual((yield* findings).found, { untold: 1 })
      yield* sql`
        INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload)
        VALUES ('event', ${eventId}, 'EventRefused', 'nack', 8, '{}')`
      assert.deepStrictEqual((yield* findings).found, {})
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds a row that is done and not on record", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* played
      yield* sql`DELETE FROM ledger WHERE 'COMPLETED' = ANY(targets)`
      assert.deepStrictEqual((yield* findings).found, { unrecorded: 1 })
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds the record of a row also when the window begins between the two", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* played
      const [row] = yield* sql<{ readonly done: Date }>`
        UPDATE ledger SET recorded_at = row.executed_at - interval '2 milliseconds'
        FROM game_status_schedule AS row
        WHERE row.target_status = 'IN_PROGRESS' AND row.id = ANY(ledger.source_ids)
        RETURNING row.executed_at AS done`
      const { found, report } = yield* findingsSince(DateTime.fromDateUnsafe(row?.done ?? new Date(0)))
      assert.deepStrictEqual(found, {})
      assert.strictEqual(report.effects, 1)
    }).pipe(Effect.provide(layer()))
  )

  it.live("compares thousands of rows in time that the planner does not know of yet", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* Database
      const play = (ago: string) =>
        database.transaction(
          Effect.gen(function* () {
            // Without triggers and keys being checked, which would only take time.
            yield* sql`SET LOCAL session_replication_role = replica`
            yield* sql`
              INSERT INTO game_status_schedule (game_id, target_status, transition_time, executed, executed_at, outcome)
              SELECT gen_random_uuid(), 'IN_PROGRESS', due, TRUE, due, 'applied'
              FROM generate_series(1, 20000), (SELECT now() - ${ago}::interval AS due)`
            yield* sql`
              INSERT INTO ledger (recorded_at, replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
              SELECT executed_at, 'r', 'status-transition', ARRAY[id], ARRAY[game_id], ARRAY[target_status],
                ARRAY[transition_time], ARRAY[outcome], ARRAY[0], ARRAY[gen_random_uuid()]
              FROM game_status_schedule WHERE transition_time = now() - ${ago}::interval`
            yield* sql`
              INSERT INTO confirmations (confirmed_at, replica, event_ids)
              SELECT recorded_at, 'r', event_ids FROM ledger WHERE recorded_at = now() - ${ago}::interval`
          })
        )
      yield* Effect.forEach(
        ["game_status_schedule", "ledger", "confirmations"],
        (table) => sql`ALTER TABLE ${sql(table)} SET (autovacuum_enabled = false)`
      )
      yield* play("1 day")
      yield* sql`ANALYZE`
      yield* play("30 seconds")
      // Comparing each with each would take longer than a statement may.
      const { found, report } = yield* findings
      assert.deepStrictEqual(found, {})
      assert.strictEqual(report.effects, 20_000)
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds what is overdue, and leaves alone what rests as a dead letter", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* insertGame(-60_000)
      const row = yield* insertTransition(id, "IN_PROGRESS", -60_000)
      yield* insertTransition(id, "COMPLETED", 60_000)
      assert.deepStrictEqual((yield* findings).found, { overdue: 1 })
      yield* sql`UPDATE game_status_schedule SET hold = 'parked' WHERE id = ${row}`
      assert.deepStrictEqual((yield* findings).found, { orphans: 1 })
      yield* sql`
        INSERT INTO dead_letters (kind, source_id, game_id, error, message, attempts, payload)
        VALUES ('status-transition', ${row}, ${id}, 'ConstraintError', 'refused', 8, '{}')`
      assert.deepStrictEqual((yield* findings).found, {})
      yield* sql`DELETE FROM game_sessions`
      assert.deepStrictEqual((yield* findings).found, { orphans: 1 })
    }).pipe(Effect.provide(layer()))
  )
})

describe("verify, of reminders and of what waits,", () => {
  it.live("finds a reminder that is overdue, parked without a dead letter, or done and not on record", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(3_600_000)
      yield* insertTransition(game, "IN_PROGRESS", 3_600_000)
      yield* insertTransition(game, "COMPLETED", 7_200_000)
      const reminder = yield* insertReminder(game, 15, -60_000)
      assert.deepStrictEqual((yield* findings).found, { overdue: 1 })
      yield* sql`UPDATE notification_schedule SET hold = 'parked' WHERE id = ${reminder}`
      assert.deepStrictEqual((yield* findings).found, { orphans: 1 })
      yield* sql`UPDATE notification_schedule SET sent = TRUE, sent_at = now(), outcome = 'sent' WHERE id = ${reminder}`
      assert.deepStrictEqual((yield* findings).found, { unrecorded: 1 })
    }).pipe(Effect.provide(layer()))
  )

  it.live("finds a completion that waits for a start that is not to come, and leaves alone one whose start is", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(3_600_000)
      const start = yield* insertTransition(game, "IN_PROGRESS", 3_600_000)
      const completion = yield* insertTransition(game, "COMPLETED", -600_000)
      yield* sql`UPDATE game_status_schedule SET hold = 'waiting' WHERE id = ${completion}`
      assert.deepStrictEqual((yield* findings).found, {})
      yield* sql`DELETE FROM game_status_schedule WHERE id = ${start}`
      assert.deepStrictEqual((yield* findings).found, { overdue: 1, unplanned: 1 })
    }).pipe(Effect.provide(layer()))
  )
})

describe("verify, of dead letters,", () => {
  it.live("names what waits for a decision and what was given up, and holds neither against the promises", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const deadLetters = yield* DeadLetters
      const planned = Effect.gen(function* () {
        const game = yield* insertGame(-1000)
        yield* insertTransition(game, "COMPLETED", 3_600_000)
        return game
      })
      const open = yield* parkTransition(yield* planned, "IN_PROGRESS")
      const discarded = yield* parkTransition(yield* planned, "IN_PROGRESS")
      yield* deadLetters.discard(discarded.letter)
      const teller = yield* insertGame(3_600_000, { status: "CANCELLED" })
      yield* sql`INSERT INTO outbox (game_id, type, data) VALUES (${teller}, 'game.cancelled', '{}')`
      const event = yield* parkEvent(teller)
      yield* deadLetters.discard(event.letter)
      // Given up once, and pending again since: somebody moved it.
      const revived = yield* parkTransition(yield* planned, "IN_PROGRESS", 3_600_000)
      yield* deadLetters.discard(revived.letter)
      yield* sql`UPDATE game_status_schedule SET transition_time = now() + interval '2 hours' WHERE id = ${revived.id}`
      const { found, report } = yield* findings
      assert.deepStrictEqual(found, {})
      assert.isTrue(isClean(report))
      assert.deepStrictEqual(
        report.undecided.examples.map(({ detail, source_id }) => [source_id, detail]),
        [[open.id, "status-transition, attempt 1: ConstraintError, this cannot be"]]
      )
      assert.strictEqual(report.givenUp.count, 2)
      const details = new Map(report.givenUp.examples.map(({ detail, source_id }) => [source_id, detail]))
      assert.match(details.get(discarded.id) ?? "", /^status-transition IN_PROGRESS, due at .*, was discarded by api$/)
      assert.strictEqual(details.get(event.event.event_id), "event game.cancelled was discarded by api")
    }).pipe(Effect.provide(layer()))
  )
})

describe("backfill", () => {
  it.live("plans what games written by other means lack, and nothing the second time", () =>
    Effect.gen(function* () {
      const repository = yield* GameRepository
      const scheduled = yield* insertGame(3_600_000 * 2)
      const running = yield* insertGame(-60_000, { status: "IN_PROGRESS" })
      yield* insertGame(-60_000, { status: "COMPLETED" })
      yield* insertGame(60_000, { status: "CANCELLED" })
      assert.deepStrictEqual((yield* findings).found, { unplanned: 3 })
      assert.deepStrictEqual(yield* repository.backfill, { games: 2, transitions: 3, reminders: 2 })
      assert.deepStrictEqual((yield* findings).found, {})
      assert.deepStrictEqual(yield* repository.backfill, { games: 0, transitions: 0, reminders: 0 })
      const sql = yield* SqlClient.SqlClient
      const rows =
        yield* sql`SELECT game_id, target_status FROM game_status_schedule ORDER BY target_status, transition_time DESC`
      assert.deepStrictEqual(rows, [
        { game_id: scheduled, target_status: "COMPLETED" },
        { game_id: running, target_status: "COMPLETED" },
        { game_id: scheduled, target_status: "IN_PROGRESS" }
      ])
    }).pipe(Effect.provide(layer()))
  )

  for (const change of ["cancelled", "deleted"] as const) {
    it.live(`plans nothing for a game that is just being ${change}, and what the others lack`, () =>
      Effect.gen(function* () {
        const repository = yield* GameRepository
        const database = yield* Database
        const sql = yield* SqlClient.SqlClient
        const going = yield* insertGame(3_600_000)
        const other = yield* insertGame(3_600_000)
        const held = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const changing = yield* Effect.forkChild(
          database.transaction(
            Effect.gen(function* () {
              yield* change === "cancelled"
                ? sql`UPDATE game_sessions SET status = 'CANCELLED' WHERE id = ${going}`
                : sql`DELETE FROM game_sessions WHERE id = ${going}`
              yield* Deferred.succeed(held, undefined)
              yield* Deferred.await(release)
            })
          )
        )
        yield* Deferred.await(held)
        const planning = yield* Effect.forkChild(repository.backfill)
        yield* eventually(
          sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          (waiting) => waiting.length === 1
        )
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(changing)
        assert.strictEqual((yield* Fiber.join(planning)).games, 1)
        const planned = yield* sql`SELECT DISTINCT game_id FROM game_status_schedule`
        assert.deepStrictEqual(planned, [{ game_id: other }])
      }).pipe(Effect.provide(layer()))
    )
  }
})

describe("the retention", () => {
  it.live(
    "forgets what is older, in batches, and keeps open pauses and the dead letters of what is still open or parked",
    () =>
      Effect.gen(function* () {
        const ledger = yield* LedgerRepository
        const sql = yield* SqlClient.SqlClient
        yield* sql`
        INSERT INTO ledger (recorded_at, replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
        SELECT now() - n * interval '1 day', 'r', 'notification', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
        FROM generate_series(0, 2500) AS n`
        yield* sql`INSERT INTO confirmations (confirmed_at, replica, event_ids) VALUES (now() - interval '90 days', 'r', '{}')`
        yield* sql`
        INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload, created_at, resolved_at)
        VALUES ('event', gen_random_uuid(), 'e', 'open', 8, '{}', now() - interval '90 days', NULL),
          ('event', gen_random_uuid(), 'e', 'resolved', 8, '{}', now() - interval '90 days', now() - interval '80 days')`
        const game = yield* insertGame(60_000)
        const parked = yield* insertTransition(game, "IN_PROGRESS", -60_000)
        yield* sql`UPDATE game_status_schedule SET hold = 'parked' WHERE id = ${parked}`
        yield* sql`
        INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload, created_at, resolved_at)
        VALUES ('status-transition', ${parked}, 'e', 'discarded', 8, '{}', now() - interval '90 days',
          now() - interval '80 days')`
        yield* sql`
        INSERT INTO pauses (kind, paused_at, resumed_at)
        VALUES ('notification', now() - interval '90 days', now() - interval '80 days'),
          ('notification', now() - interval '90 days', NULL),
          ('status-transition', now() - interval '90 days', now() - interval '1 day')`
        const counts: Array<number> = []
        for (let count = -1; count !== 0; counts.push(count)) count = yield* ledger.prune(Duration.days(30))
        assert.deepStrictEqual(counts, [1003, 1000, 471, 0])
        const [left] = yield* sql`
        SELECT (SELECT count(*) FROM ledger)::int AS entries, (SELECT count(*) FROM confirmations)::int AS confirmations,
          (SELECT count(*) FROM dead_letters)::int AS letters, (SELECT count(*) FROM pauses)::int AS pauses`
        assert.deepStrictEqual(left, { entries: 30, confirmations: 0, letters: 2, pauses: 2 })
      }).pipe(Effect.provide(layer()))
  )
})
