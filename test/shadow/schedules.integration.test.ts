/** What a shadow decides, on a real database: that it is what Kickoff would do, once, and that nothing else is touched. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { Replica } from "../../src/observability/Replica.ts"
import { Database } from "../../src/postgres/Database.ts"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { notifications, statusTransitions } from "../../src/shadow/footing.ts"
import { ShadowRunRepository } from "../../src/shadow/ShadowRunRepository.ts"
import { eventually, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** A database that has been in shadow for a minute. */
const inShadow = Layer.effectDiscard(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* (yield* ShadowRunRepository).begin
    yield* sql`UPDATE shadow_run SET since = since - interval '1 minute'`
  })
).pipe(Layer.provideMerge(ShadowRunRepository.layer), Layer.provideMerge(TestDatabase.layer))

const fresh = Layer.merge(statusTransitions, notifications).pipe(Layer.provideMerge(inShadow))

interface Decision {
  readonly source_id: string
  readonly target: string
  readonly outcome: string
  readonly game_status: string
  readonly replica: string
  readonly lateness: number
}

const decisions = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<Decision>`
    SELECT source_id, target, outcome, game_status, replica,
      (extract(epoch FROM decided_at - due_at) * 1000)::float8 AS lateness
    FROM shadow_decisions ORDER BY decided_at, due_at`
})

const outcomes = Effect.map(decisions, (made) => made.map(({ outcome, target }) => `${target} ${outcome}`))

/** Everything that Kickoff has, with what PostgreSQL notes of every change and of every lock. */
const everything = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const tables = ["game_sessions", "game_status_schedule", "notification_schedule", "outbox", "ledger", "confirmations"]
  return yield* Effect.forEach([...tables, "dead_letters", "idempotency_keys", "shadow_changes"], (table) =>
    Effect.map(
      sql`SELECT row.xmin::text, row.xmax::text, row.ctid::text, row::text FROM ${sql(table)} AS row ORDER BY row::text`,
      (rows) => ({ table, rows })
    )
  )
})

/** Decides until nothing is due, as the loop does. */
const drain = (repository: DueRepository) =>
  Effect.gen(function* () {
    for (;;) {
      const { fresh } = yield* repository.look(undefined)
      if (!Option.exists(fresh, Duration.isLessThanOrEqualTo(Duration.zero))) return
      yield* repository.applyDue(1000, undefined)
    }
  })

/** Sets a status as another application does. */
const setStatus = (game: string, status: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`UPDATE game_sessions SET status = ${status} WHERE id = ${game}`
  })

describe("a schedule in shadow", () => {
  it.live("decides what is due and when it did, and changes and locks nothing", () =>
    Effect.gen(function* () {
      const game = yield* insertGame(-1000)
      const start = yield* insertTransition(game, "IN_PROGRESS", -1000)
      const completion = yield* insertTransition(game, "COMPLETED", 3_600_000)
      const other = yield* insertGame(60_000)
      const reminder = yield* insertReminder(other, 15, -500)
      const before = yield* everything

      const transitions = yield* StatusTransitionRepository
      const processed = yield* transitions.applyDue(10, undefined)
      assert.deepInclude(processed[0], { id: start, target: "IN_PROGRESS", outcome: "shadowed" })
      assert.strictEqual(String(processed[0]?.game_id), game)
      assert.isAtLeast(processed[0]?.lateness_ms ?? -1, 1000)
      yield* drain(yield* NotificationRepository)

      const made = yield* decisions
      assert.deepStrictEqual(
        made.map(({ outcome, source_id }) => [source_id, outcome]),
        [
          [start, "applied"],
          [reminder, "sent"]
        ]
      )
      assert.isTrue(made.every(({ lateness }) => lateness >= 500))
      assert.deepStrictEqual(yield* everything, before)

      // And the next that is looked for is the first that is not decided.
      const look = yield* transitions.look(undefined)
      assert.isAbove(Duration.toMillis(Option.getOrThrow(look.fresh)), 3_500_000)
      assert.deepStrictEqual([look.retry, look.stalled], [Option.none(), false])
      assert.notInclude(JSON.stringify(made), completion)
    }).pipe(Effect.provide(fresh))
  )

  it.live("decides nothing early", () =>
    Effect.gen(function* () {
      yield* insertTransition(yield* insertGame(60_000), "IN_PROGRESS", 60_000)
      const transitions = yield* StatusTransitionRepository
      assert.deepStrictEqual(yield* transitions.applyDue(10, undefined), [])
      assert.deepStrictEqual(yield* transitions.listDue(10), [])
      assert.deepStrictEqual(yield* decisions, [])
    }).pipe(Effect.provide(fresh))
  )

  it.live("decides each row once, whichever of several processes comes first", () =>
    Effect.gen(function* () {
      const rows = 3000
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        WITH game AS (
          INSERT INTO game_sessions (guild_id, title, scheduled_at)
          SELECT 'guild', 'a game', now() - interval '1 second' FROM generate_series(1, ${rows}::int)
          RETURNING id, scheduled_at
        )
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        SELECT id, 'IN_PROGRESS', scheduled_at - random() * interval '1 second' FROM game`
      const { url } = yield* TestDatabase
      const replicas = Array.from({ length: 4 }, (_, n) => `replica ${n}`)
      const counts = yield* Effect.forEach(
        replicas,
        (replica) =>
          Effect.gen(function* () {
            const transitions = yield* StatusTransitionRepository
            let count = 0
            for (;;) {
              const { fresh } = yield* transitions.look(undefined)
              if (Option.isNone(fresh)) return count
              count += (yield* transitions.applyDue(20, undefined)).length
            }
          }).pipe(
            Effect.provide(statusTransitions),
            Effect.provide(Database.layer({ url, connections: 1, name: "test", steady: true })),
            Effect.provideService(Replica, replica)
          ),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(
        counts.reduce((sum, count) => sum + count, 0),
        rows
      )
      const made = yield* decisions
      assert.lengthOf(new Set(made.map(({ source_id }) => source_id)), rows)
      assert.lengthOf(made, rows)
    }).pipe(Effect.provide(fresh))
  )

  it.live("decides a row that was moved again, for its new time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* insertTransition(yield* insertGame(-2000), "IN_PROGRESS", -2000)
      const transitions = yield* StatusTransitionRepository
      yield* drain(transitions)
      yield* sql`UPDATE game_status_schedule SET transition_time = now() + interval '1 hour' WHERE id = ${id}`
      assert.isAbove(Duration.toMillis(Option.getOrThrow((yield* transitions.look(undefined)).fresh)), 3_500_000)
      yield* sql`UPDATE game_status_schedule SET transition_time = now() - interval '1 second' WHERE id = ${id}`
      yield* drain(transitions)
      yield* drain(transitions)
      assert.deepStrictEqual(
        (yield* decisions).map(({ source_id }) => source_id),
        [id, id]
      )
    }).pipe(Effect.provide(fresh))
  )

  it.live(
    "takes a game that the other system has not started yet to be running, because Kickoff would have started it",
    () =>
      Effect.gen(function* () {
        const game = yield* insertGame(-3000)
        yield* insertTransition(game, "COMPLETED", -2000)
        yield* insertTransition(game, "IN_PROGRESS", -3000)
        const transitions = yield* StatusTransitionRepository
        // One row of a game at a time: the start first.
        assert.lengthOf(yield* transitions.applyDue(10, undefined), 1)
        assert.lengthOf(yield* transitions.applyDue(10, undefined), 1)
        assert.deepStrictEqual(yield* outcomes, ["IN_PROGRESS applied", "COMPLETED applied"])
      }).pipe(Effect.provide(fresh))
  )

  it.live("judges by the game's own status what the other system, or somebody, has done before", () =>
    Effect.gen(function* () {
      const transitions = yield* StatusTransitionRepository
      for (const [status, target] of [
        ["IN_PROGRESS", "COMPLETED"],
        ["IN_PROGRESS", "IN_PROGRESS"],
        ["CANCELLED", "IN_PROGRESS"],
        ["COMPLETED", "COMPLETED"]
      ] as const) {
        yield* insertTransition(yield* insertGame(-1000, { status }), target, -1000)
        yield* drain(transitions)
      }
      assert.deepStrictEqual(yield* outcomes, [
        "COMPLETED applied",
        "IN_PROGRESS superseded",
        "IN_PROGRESS superseded",
        "COMPLETED superseded"
      ])
      assert.deepStrictEqual(
        (yield* decisions).map(({ game_status }) => game_status),
        ["IN_PROGRESS", "IN_PROGRESS", "CANCELLED", "COMPLETED"]
      )
    }).pipe(Effect.provide(fresh))
  )

  it.live("tells of a row that Kickoff would have put aside or given up, once, and goes on", () =>
    Effect.gen(function* () {
      const transitions = yield* StatusTransitionRepository
      yield* insertTransition(yield* insertGame(-4000), "COMPLETED", -4000)
      const later = yield* insertGame(-3000)
      yield* insertTransition(later, "COMPLETED", -3000)
      yield* insertTransition(later, "IN_PROGRESS", 60_000)
      yield* insertTransition(yield* insertGame(-2000), "CANCELLED", -2000)
      yield* insertTransition(yield* insertGame(-1000), "IN_PROGRESS", -1000)
      yield* drain(transitions)
      assert.sameMembers(
        [...(yield* outcomes)],
        ["COMPLETED parked", "COMPLETED waiting", "CANCELLED parked", "IN_PROGRESS applied"]
      )
    }).pipe(Effect.provide(fresh))
  )

  it.live("skips reminders of games that are not to come any more", () =>
    Effect.gen(function* () {
      yield* insertReminder(yield* insertGame(60_000), 1, -3000)
      yield* insertReminder(yield* insertGame(60_000, { status: "CANCELLED" }), 2, -2000)
      yield* insertReminder(yield* insertGame(-500), 3, -1000)
      yield* drain(yield* NotificationRepository)
      assert.deepStrictEqual(yield* outcomes, ["1 sent", "2 skipped", "3 skipped"])
    }).pipe(Effect.provide(fresh))
  )

  it.live("leaves alone what was due before the shadow began", () =>
    Effect.gen(function* () {
      yield* insertTransition(yield* insertGame(-61_000), "IN_PROGRESS", -61_000)
      const after = yield* insertTransition(yield* insertGame(-50_000), "IN_PROGRESS", -50_000)
      yield* drain(yield* StatusTransitionRepository)
      assert.deepStrictEqual(
        (yield* decisions).map(({ source_id }) => source_id),
        [after]
      )
    }).pipe(Effect.provide(fresh))
  )

  it.live("finds what is planned into the past of the last hour, and what became due while no process was there", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE shadow_run SET since = now() - interval '1 day'`
      const transitions = yield* StatusTransitionRepository
      const hour = 3_600_000
      yield* insertTransition(yield* insertGame(-5 * hour), "IN_PROGRESS", -5 * hour)
      yield* drain(transitions)
      // Nothing ran for four hours.
      yield* insertTransition(yield* insertGame(-3 * hour), "IN_PROGRESS", -3 * hour)
      yield* insertTransition(yield* insertGame(-1000), "IN_PROGRESS", -1000)
      yield* drain(transitions)
      assert.lengthOf(yield* decisions, 3)
      yield* insertTransition(yield* insertGame(-hour / 2), "IN_PROGRESS", -hour / 2)
      yield* drain(transitions)
      assert.lengthOf(yield* decisions, 4)
      // Passed over, so that the past need not be read for ever.
      yield* insertTransition(yield* insertGame(-2 * hour), "IN_PROGRESS", -2 * hour)
      yield* drain(transitions)
      assert.lengthOf(yield* decisions, 4)
    }).pipe(Effect.provide(fresh))
  )

  it.live("begins a look where it is told to", () =>
    Effect.gen(function* () {
      yield* insertTransition(yield* insertGame(-30_000), "IN_PROGRESS", -30_000)
      const transitions = yield* StatusTransitionRepository
      const { from } = yield* transitions.look(undefined)
      assert.isTrue(Option.isSome((yield* transitions.look(from)).fresh))
      assert.isTrue(Option.isNone((yield* transitions.look(from + 10_000)).fresh))
      assert.deepStrictEqual(yield* transitions.applyDue(10, from + 10_000), [])
      assert.lengthOf(yield* transitions.applyDue(10, from), 1)
    }).pipe(Effect.provide(fresh))
  )

  it.live("decides exactly the rows it is told, as far as they have not changed", () =>
    Effect.gen(function* () {
      const a = yield* insertTransition(yield* insertGame(-2000), "IN_PROGRESS", -2000)
      const b = yield* insertTransition(yield* insertGame(-1000), "IN_PROGRESS", -1000)
      const transitions = yield* StatusTransitionRepository
      const [first, second] = yield* transitions.listDue(10)
      assert.deepStrictEqual([first?.id, second?.id], [a, b])
      if (first === undefined || second === undefined) return
      assert.deepStrictEqual(yield* transitions.applyThese([{ ...first, due: "2001-01-01 00:00:00+00" }]), [])
      assert.lengthOf(yield* transitions.applyThese([second]), 1)
      assert.deepStrictEqual(yield* transitions.listDue(10), [first])
    }).pipe(Effect.provide(fresh))
  )

  it.live("records a row that cannot be decided as failed, and does not try it again", () =>
    Effect.gen(function* () {
      const game = yield* insertGame(-30_000)
      yield* insertTransition(game, "IN_PROGRESS", -30_000)
      const transitions = yield* StatusTransitionRepository
      const left = Option.getOrThrow(yield* transitions.findLeft(Duration.seconds(15), undefined))
      assert.strictEqual(left.game_id, game)
      const failure = { error: "DataError", message: "out of range" }
      const recorded = Option.getOrThrow(yield* transitions.recordFailure(left, failure, 8))
      assert.deepInclude(recorded, { target: "IN_PROGRESS", attempts: 1, parked: true })
      assert.isTrue(Option.isNone(yield* transitions.recordFailure(left, failure, 8)))
      assert.isTrue(Option.isNone(yield* transitions.findLeft(Duration.seconds(15), undefined)))
      assert.deepStrictEqual(yield* transitions.listRetries(10), [])
      assert.deepStrictEqual(yield* outcomes, ["IN_PROGRESS failed"])
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT * FROM dead_letters`, [])
    }).pipe(Effect.provide(fresh))
  )

  it.live("notes every change of a status and every reminder that is marked, with its time and who it was", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(60_000)
      const reminder = yield* insertReminder(game, 15, -1000)
      yield* sql`UPDATE game_sessions SET title = 'another' WHERE id = ${game}`
      yield* setStatus(game, "SCHEDULED")
      yield* sql`UPDATE notification_schedule SET sent = TRUE WHERE id = ${reminder}`
      yield* sql`UPDATE notification_schedule SET sent = TRUE WHERE id = ${reminder}`
      for (const status of ["IN_PROGRESS", "COMPLETED"]) yield* setStatus(game, status)
      const changes = yield* eventually(
        sql<{ readonly kind: string; readonly target: string; readonly changed_by: string; readonly due_in: number }>`
          SELECT kind, target, split_part(changed_by, '@', 1) AS changed_by,
            round(extract(epoch FROM due_at - (SELECT scheduled_at FROM game_sessions)))::int AS due_in
          FROM shadow_changes ORDER BY id`,
        (rows) => rows.length >= 3
      )
      assert.deepStrictEqual(changes, [
        { kind: "notification", target: "15", changed_by: "kickoff:test", due_in: -61 },
        { kind: "status-transition", target: "IN_PROGRESS", changed_by: "kickoff:test", due_in: 0 },
        { kind: "status-transition", target: "COMPLETED", changed_by: "kickoff:test", due_in: 3600 }
      ])
    }).pipe(Effect.provide(fresh))
  )
})
