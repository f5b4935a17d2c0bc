/**
 * What the report makes of decisions and changes whose times are known exactly, because the test wrote them.
 *
 * Every instant is said in seconds after the same full minute, half an hour ago.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { type Line, type Question, ShadowReportRepository } from "../../src/shadow/ShadowReportRepository.ts"
import { ShadowRunRepository } from "../../src/shadow/ShadowRunRepository.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const repositories = Layer.merge(ShadowRunRepository.layer, ShadowReportRepository.layer).pipe(
  Layer.provideMerge(TestDatabase.layer)
)

/** A database that has been in shadow for an hour. */
const fresh = Layer.effectDiscard(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* (yield* ShadowRunRepository).begin
    yield* sql`UPDATE shadow_run SET since = now() - interval '1 hour'`
  })
).pipe(Layer.provideMerge(repositories))

const instant = (seconds: number) =>
  Effect.map(
    SqlClient.SqlClient,
    (sql) => sql`date_trunc('minute', now()) - interval '30 minutes' + ${seconds}::float8 * interval '1 second'`
  )

/** A game that is due to start then, with a row for it, both as they are at the end. */
const game = Effect.fnUntraced(function* (
  due: number,
  { status = "IN_PROGRESS", target = "IN_PROGRESS" }: { readonly status?: string; readonly target?: string } = {}
) {
  const sql = yield* SqlClient.SqlClient
  const at = yield* instant(due)
  const [row] = yield* sql<{ readonly game_id: string; readonly id: string }>`
    WITH game AS (
      INSERT INTO game_sessions (guild_id, title, status, scheduled_at) VALUES ('guild', 'a game', ${status}, ${at})
      RETURNING id
    )
    INSERT INTO game_status_schedule (game_id, target_status, transition_time) SELECT id, ${target}, ${at} FROM game
    RETURNING game_id, id`
  return row ?? { game_id: "", id: "" }
})

const decide = Effect.fnUntraced(function* (
  { game_id, id }: { readonly game_id: string; readonly id: string },
  due: number,
  decided: number,
  { kind = "status-transition", outcome = "applied", target = "IN_PROGRESS" } = {}
) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO shadow_decisions (kind, due_at, source_id, game_id, target, outcome, game_status, replica, decided_at)
    VALUES (${kind}, ${yield* instant(due)}, ${id}, ${game_id}, ${target}, ${outcome}, 'SCHEDULED', 'r',
      ${yield* instant(decided)})`
})

const change = Effect.fnUntraced(function* (
  { game_id, id }: { readonly game_id: string; readonly id: string },
  due: number,
  changed: number,
  { kind = "status-transition", target = "IN_PROGRESS" } = {}
) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    INSERT INTO shadow_changes (kind, game_id, source_id, target, due_at, changed_by, changed_at)
    VALUES (${kind}, ${game_id}, ${kind === "notification" ? id : null}, ${target}, ${yield* instant(due)}, 'worker',
      ${yield* instant(changed)})`
})

const question: Question = {
  reach: Duration.hours(24),
  tolerance: Duration.seconds(1),
  missedAfter: Duration.minutes(5),
  examples: 10
}

const compare = (overrides: Partial<Question> = {}) =>
  Effect.flatMap(ShadowReportRepository, (repository) => repository.compare({ ...question, ...overrides })).pipe(
    Effect.map(Option.getOrThrow)
  )

/** The line of a target, with figures to the millisecond. */
const lineOf = (lines: ReadonlyArray<Line>, target = "IN_PROGRESS") => {
  const line = lines.find((line) => line.target === target)
  if (line === undefined) throw new Error(`no line of ${target}`)
  const rounded = (millis: number | null) => (millis === null ? null : Math.round(millis))
  const figures = <A extends Line["kickoff"]>(lateness: A): A => ({
    ...lateness,
    p50_ms: rounded(lateness.p50_ms),
    p95_ms: rounded(lateness.p95_ms),
    max_ms: rounded(lateness.max_ms)
  })
  return { ...line, other_system: figures(line.other_system), kickoff: figures(line.kickoff) }
}

const nothing = { overtaken: 0, open: 0, unseen: 0, needless: 0, by_hand: 0 }

describe("the report of a shadow", () => {
  it.live("measures how late both were with the same thing", () =>
    Effect.gen(function* () {
      for (const [late, ours] of [
        [0.5, 0.002],
        [10, 0.004],
        [20, 0.006],
        [30, 0.008],
        [50, 3]
      ] as const) {
        const start = yield* game(0)
        yield* decide(start, 0, ours)
        yield* change(start, 0, late)
      }
      const { examples, lines } = yield* compare()
      assert.deepStrictEqual(lineOf(lines), {
        kind: "status-transition",
        target: "IN_PROGRESS",
        due: 5,
        both_on_time: 1,
        other_system: { late: 4, early: 0, missed: 0, p50_ms: 20_000, p95_ms: 46_000, max_ms: 50_000 },
        kickoff: { late: 1, missed: 0, p50_ms: 6, p95_ms: 2402, max_ms: 3000 },
        ...nothing
      })
      assert.deepStrictEqual(
        examples.map(({ other_system_ms }) => Math.round(other_system_ms ?? 0)),
        [50_000, 30_000, 20_000, 10_000]
      )
      assert.lengthOf((yield* compare({ examples: 2 })).examples, 2)
      const tolerant = lineOf((yield* compare({ tolerance: Duration.minutes(1) })).lines)
      assert.deepInclude(tolerant, { both_on_time: 5 })
    }).pipe(Effect.provide(fresh))
  )

  it.live("tells what the other system has missed from what it has not done yet", () =>
    Effect.gen(function* () {
      const missed = yield* game(0, { status: "SCHEDULED" })
      yield* decide(missed, 0, 0.003)
      const skipped = yield* game(0, { status: "COMPLETED" })
      yield* decide(skipped, 0, 0.003)
      const open = yield* game(28 * 60, { status: "SCHEDULED" })
      yield* decide(open, 28 * 60, 28 * 60)
      const { examples, lines } = yield* compare()
      const line = lineOf(lines)
      assert.deepInclude(line, { ...nothing, due: 3, both_on_time: 0, open: 1 })
      assert.deepInclude(line.other_system, { late: 0, missed: 2, p50_ms: null, max_ms: null })
      assert.deepStrictEqual(
        new Set(examples.map(({ game_id }) => game_id)),
        new Set([missed.game_id, skipped.game_id])
      )
      assert.isTrue(examples.every((example) => example.other_system_ms === null && example.missed_because === null))
      // With more patience, one is not missed yet; the other was passed over for good.
      const patient = lineOf((yield* compare({ missedAfter: Duration.hours(2) })).lines)
      assert.deepInclude(patient, { open: 2 })
      assert.deepInclude(patient.other_system, { missed: 1 })
    }).pipe(Effect.provide(fresh))
  )

  it.live("holds against nobody what was cancelled, moved or deleted before the other system got to it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const cancelled = yield* game(0, { status: "CANCELLED" })
      yield* decide(cancelled, 0, 0.003)
      yield* change(cancelled, 0, 20, { target: "CANCELLED" })
      const deleted = yield* game(0)
      yield* decide(deleted, 0, 0.003)
      yield* sql`DELETE FROM game_sessions WHERE id = ${deleted.game_id}`
      const moved = yield* game(1000, { status: "SCHEDULED" })
      yield* decide(moved, 0, 0.003)
      const replanned = yield* game(0, { status: "SCHEDULED" })
      yield* decide(replanned, 0, 0.003)
      yield* sql`DELETE FROM game_status_schedule WHERE id = ${replanned.id}`
      // Cancelled after ten minutes, in which it should have been started.
      const late = yield* game(0, { status: "CANCELLED" })
      yield* decide(late, 0, 0.003)
      yield* change(late, 0, 600, { target: "CANCELLED" })
      const line = lineOf((yield* compare()).lines)
      assert.deepInclude(line, { due: 5, overtaken: 4 })
      assert.deepInclude(line.other_system, { missed: 1 })
    }).pipe(Effect.provide(fresh))
  )

  it.live("holds each time of a game that was moved against what happened then", () =>
    Effect.gen(function* () {
      const moved = yield* game(600)
      yield* decide(moved, 0, 0.003)
      yield* decide(moved, 600, 600.005)
      yield* change(moved, 600, 612)
      const line = lineOf((yield* compare()).lines)
      assert.deepInclude(line, { due: 2, overtaken: 1 })
      assert.deepInclude(line.other_system, { late: 1, missed: 0, max_ms: 12_000 })
    }).pipe(Effect.provide(fresh))
  )

  it.live("sees when the other system was early, or faster than Kickoff", () =>
    Effect.gen(function* () {
      const early = yield* game(0)
      yield* decide(early, 0, 0.003, { outcome: "superseded" })
      yield* change(early, 0, -10)
      const faster = yield* game(0)
      yield* decide(faster, 0, 0.2, { outcome: "superseded" })
      yield* change(faster, 0, 0.1)
      // Its row was marked as done with it, so that it was never decided.
      const undecided = yield* game(0)
      yield* change(undecided, 0, -20)
      const byHand = yield* game(0)
      yield* decide(byHand, 0, 0.003, { outcome: "superseded" })
      yield* change(byHand, 0, -600)
      const line = lineOf((yield* compare()).lines)
      assert.deepInclude(line, { due: 3, both_on_time: 1, needless: 1, by_hand: 1 })
      assert.deepInclude(line.other_system, { early: 2, late: 0, missed: 0, max_ms: 100 })
      assert.deepInclude(line.kickoff, { late: 0, missed: 0, max_ms: 200 })
    }).pipe(Effect.provide(fresh))
  )

  it.live("says what Kickoff would have missed, and why", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const unplanned = yield* game(0)
      yield* sql`DELETE FROM game_status_schedule WHERE id = ${unplanned.id}`
      yield* change(unplanned, 0, 30)
      const undecided = yield* game(1)
      yield* change(undecided, 1, 30)
      const parked = yield* game(2, { target: "COMPLETED" })
      yield* decide(parked, 2, 2.003, { outcome: "parked", target: "COMPLETED" })
      yield* change(parked, 2, 30, { target: "COMPLETED" })
      const failed = yield* game(3)
      yield* decide(failed, 3, 3.003, { outcome: "failed" })
      const { examples, lines } = yield* compare()
      assert.deepInclude(lineOf(lines).kickoff, { missed: 3 })
      assert.deepInclude(lineOf(lines, "COMPLETED").kickoff, { missed: 1 })
      const reasons = new Map(examples.map(({ game_id, missed_because }) => [game_id, missed_because ?? ""]))
      assert.match(reasons.get(unplanned.game_id) ?? "", /^no row is planned for it, see kickoff backfill$/)
      assert.match(reasons.get(undecided.game_id) ?? "", /^its row was not decided/)
      assert.match(reasons.get(parked.game_id) ?? "", /^it would have become a dead letter/)
      assert.match(reasons.get(failed.game_id) ?? "", /^it could not be decided: failed$/)
    }).pipe(Effect.provide(fresh))
  )

  it.live("compares reminders as far as the other system leaves a trace of them", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const remind = Effect.fnUntraced(function* (minutes: number) {
        const { game_id } = yield* game(1000, { status: "SCHEDULED" })
        const [row] = yield* sql<{ readonly id: string }>`
          INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
          VALUES (${game_id}, ${minutes}, ${yield* instant(0)}) RETURNING id`
        const reminder = { game_id, id: row?.id ?? "" }
        yield* decide(reminder, 0, 0.003, { kind: "notification", outcome: "sent", target: String(minutes) })
        return reminder
      })
      const first = yield* remind(15)
      yield* remind(60)
      assert.deepInclude(lineOf((yield* compare()).lines, "reminder"), { due: 2, unseen: 2 })
      yield* change(first, 0, 12, { kind: "notification", target: "15" })
      const line = lineOf((yield* compare()).lines, "reminder")
      assert.deepInclude(line, { kind: "notification", due: 2, unseen: 0 })
      assert.deepInclude(line.other_system, { late: 1, missed: 1, max_ms: 12_000 })
    }).pipe(Effect.provide(fresh))
  )

  it.live("looks no further back than it is asked, and never before the shadow began", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const old = yield* game(0)
      yield* decide(old, 0, 0.003)
      yield* change(old, 0, 5)
      const recent = yield* game(20 * 60)
      yield* decide(recent, 20 * 60, 20 * 60)
      yield* change(recent, 20 * 60, 20 * 60 + 5)
      assert.strictEqual(lineOf((yield* compare()).lines).due, 2)
      const { lines, window } = yield* compare({ reach: Duration.minutes(15) })
      assert.strictEqual(lineOf(lines).due, 1)
      assert.strictEqual(Math.round((window.to - window.from) / 60_000), 15)
      // Started after the beginning, and due before it: nobody was there to decide it.
      const before = yield* game(-5)
      yield* change(before, -5, 10)
      yield* sql`UPDATE shadow_run SET since = ${yield* instant(-1)}`
      assert.deepInclude(lineOf((yield* compare()).lines).kickoff, { missed: 0 })
    }).pipe(Effect.provide(fresh))
  )

  it.live("is none where the database is not in shadow", () =>
    Effect.gen(function* () {
      const repository = yield* ShadowReportRepository
      assert.isTrue(Option.isNone(yield* repository.compare(question)))
    }).pipe(Effect.provide(repositories))
  )
})
