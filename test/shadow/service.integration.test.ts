/** A process in shadow as an operator sees it, beside another system that the test plays, and how it is told from a live one. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { eventually, getGame, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { runProgram, type Service, startService } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const environment = (shadow: boolean) =>
  Effect.map(TestDatabase, ({ url }) => ({
    DATABASE_URL: Redacted.value(url),
    ...(shadow ? { KICKOFF_SHADOW: "true" } : {})
  }))

const start = (shadow: boolean, env: Readonly<Record<string, string>> = {}) =>
  Effect.flatMap(environment(shadow), (base) => startService({ env: { ...base, ...env } }))

/** Runs a program that is to end at once. */
const run = (shadow: boolean, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  Effect.flatMap(environment(shadow), (base) => runProgram({ args, env: { HTTP_PORT: "0", ...base, ...env } }))

/** The body of an answer, of which only what is used is named. */
const body = (service: Service, path: string) =>
  Effect.flatMap(service.get(path), (response) =>
    Effect.promise(async () => ({
      status: response.status,
      body: (await response.json()) as Readonly<Record<string, unknown>>
    }))
  )

const decided = (count: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* eventually(sql`SELECT FROM shadow_decisions`, (rows) => rows.length >= count)
  })

/** What a live process would have written. */
const traces = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql`
    SELECT (SELECT count(*) FROM outbox)::int AS events, (SELECT count(*) FROM ledger)::int AS batches,
      (SELECT count(*) FROM confirmations)::int AS confirmations, (SELECT count(*) FROM dead_letters)::int AS letters,
      (SELECT count(*) FROM game_status_schedule WHERE executed OR hold IS NOT NULL)::int AS transitions,
      (SELECT count(*) FROM notification_schedule WHERE sent OR hold IS NOT NULL)::int AS reminders`
  return row
})

describe("a service in shadow", () => {
  it.live(
    "records what it would do, says what it is, refuses writes, and changes and publishes nothing",
    () =>
      Effect.gen(function* () {
        const service = yield* start(true, { RABBITMQ_URL: inject("rabbitmqUrl") })
        assert.match(service.stdout(), /Kickoff \S+ plays api, status-transitions, notifications, as a shadow/)
        assert.match(service.stdout(), /In shadow since \S+: nothing is changed or published/)

        const soon = yield* insertGame(300)
        yield* insertTransition(soon, "IN_PROGRESS", 300)
        yield* insertTransition(soon, "COMPLETED", 400)
        const later = yield* insertGame(3_600_000)
        yield* insertReminder(later, 60, 300)
        yield* decided(3)
        assert.deepInclude(yield* getGame(soon), { status: "SCHEDULED", version: 1 })
        assert.deepStrictEqual(yield* traces, {
          events: 0,
          batches: 0,
          confirmations: 0,
          letters: 0,
          transitions: 0,
          reminders: 0
        })

        assert.deepInclude((yield* body(service, "/health/live")).body, { status: "ok", shadow: true })
        assert.deepInclude((yield* body(service, "/health/ready")).body, { status: "ok", shadow: true })
        const metrics = yield* Effect.promise(async () => (await fetch(`${service.url}/metrics`)).text())
        assert.match(metrics, /^kickoff_shadow 1$/m)
        assert.match(metrics, /^kickoff_schedule_rows_total\{.*outcome="shadowed".*\} 2$/m)
        // Another system's backlog is not ours to warn of, and nobody is to relay.
        assert.notMatch(metrics, /^kickoff_(next_due_seconds|overdue_rows|relay_leader)/m)
        assert.notMatch(metrics, /^kickoff_role\{.*outbox/m)

        assert.deepInclude((yield* body(service, `/v1/games/${soon}`)).body, { id: soon, status: "SCHEDULED" })
        const refused = yield* service.post("/v1/games", {
          guild_id: "guild",
          title: "a game",
          scheduled_at: "2040-01-01T20:00:00Z"
        })
        assert.strictEqual(refused.status, 409)
        const problem: unknown = yield* Effect.promise(() => refused.json())
        assert.deepInclude(problem, { type: "urn:kickoff:problem:in-shadow", status: 409 })
        assert.strictEqual((yield* service.post(`/v1/games/${soon}/cancel`, {})).status, 409)
        assert.strictEqual((yield* getGame(soon)).version, 1)

        const doctor = yield* run(true, ["doctor"], { RABBITMQ_URL: inject("rabbitmqUrl") })
        assert.strictEqual(doctor.code, 0, doctor.stdout + doctor.stderr)
        assert.match(doctor.stdout, /^warning shadow: the database is in shadow/m)
        const explained = yield* run(true, ["explain", soon])
        assert.include(explained.stdout, "The database is in shadow: what is due is left to another system")
        const status = yield* run(true, ["status"])
        assert.match(status.stdout, /api, status-transitions, notifications +in shadow, does nothing/)
        assert.match(status.stdout, /no process plays outbox/)

        assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
        assert.notMatch(service.stdout() + service.stderr(), /"level":"(warn|error|fatal)"/)
      }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer)),
    60_000
  )

  it.live(
    "keeps live processes out until it is ended, and then they do what was left",
    () =>
      Effect.gen(function* () {
        const service = yield* start(true)
        const game = yield* insertGame(100)
        yield* insertTransition(game, "IN_PROGRESS", 100)
        yield* decided(1)
        const live = yield* run(false, ["serve"])
        assert.strictEqual(live.code, 2)
        assert.match(
          live.stderr,
          /^kickoff: KICKOFF_SHADOW: Expected true, because this database has been in shadow since \S+; "kickoff shadow end" ends that\n$/
        )
        const early = yield* run(false, ["shadow", "end"])
        assert.strictEqual(early.code, 1)
        assert.match(early.stderr, /^kickoff: processes in shadow work on this database, stop them first: /)
        yield* service.stop

        const ended = yield* run(false, ["shadow", "end", "--json"])
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.deepInclude(JSON.parse(ended.stdout), { settled_transitions: 0, overdue_starts: 1 })
        yield* start(false)
        yield* eventually(getGame(game), ({ status }) => status === "IN_PROGRESS")
        const again = yield* run(false, ["shadow", "begin"])
        assert.strictEqual(again.code, 1)
        assert.match(again.stderr, /^kickoff: live processes work on this database, stop them first: /)
      }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer)),
    60_000
  )

  it.live(
    "does not begin by itself where it may not change the schema, and not without a database of another system",
    () =>
      Effect.gen(function* () {
        const unbegun = yield* run(true, ["serve"], { KICKOFF_MIGRATE: "false" })
        assert.deepStrictEqual([unbegun.code, unbegun.stdout.includes("Ready")], [2, false])
        assert.match(unbegun.stderr, /^kickoff: KICKOFF_SHADOW: .*"kickoff shadow begin" begins it\n$/)
        const alone = yield* runProgram({ args: ["serve"], env: { HTTP_PORT: "0", KICKOFF_SHADOW: "true" } })
        assert.strictEqual(alone.code, 2)
        assert.match(
          alone.stderr,
          /^kickoff: DATABASE_URL: Expected the URL of the database that another system works on/
        )
      }).pipe(Effect.provide(TestDatabase.layer))
  )
})

describe("a command of an operator, on a database in shadow,", () => {
  it.live(
    "is refused if it would change what is the other system's, or judge it; what looks, and backfill, is not",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const game = yield* insertGame(3_600_000)
        const row = yield* insertTransition(game, "IN_PROGRESS", -1000)
        yield* sql`UPDATE game_status_schedule SET hold = 'parked', attempts = 8 WHERE id = ${row}`
        const letters = yield* sql<{ readonly id: string }>`
          INSERT INTO dead_letters (kind, source_id, game_id, due_at, error, message, attempts, payload)
          SELECT 'status-transition', id, game_id, transition_time, 'ConstraintError', 'refused', 8, '{}'
          FROM game_status_schedule
          RETURNING id`
        const letter = letters[0]?.id ?? ""
        assert.strictEqual((yield* run(false, ["pause", "notification"])).code, 0)
        assert.strictEqual((yield* run(false, ["shadow", "begin"])).code, 0)
        const state = sql`
          SELECT (SELECT jsonb_agg(letter) FROM dead_letters AS letter) AS letters,
            (SELECT jsonb_agg(pause) FROM pauses AS pause) AS pauses,
            (SELECT jsonb_agg(row) FROM game_status_schedule AS row) AS rows`
        const before = yield* state

        const writes = 'another system does the work, and this would change it; "kickoff shadow end" ends that'
        for (const [args, because] of [
          [["dead-letters", "replay", letter], writes],
          [["dead-letters", "replay", "--all", "--json"], writes],
          [["dead-letters", "discard", letter], writes],
          [["pause", "status-transition"], writes],
          [["resume", "all"], writes],
          [
            ["verify"],
            'what is due and not done is the other system\'s, so there is nothing to verify; "kickoff shadow report" compares the two'
          ]
        ] as const) {
          const { code, stderr, stdout } = yield* run(false, args)
          assert.deepStrictEqual([code, stdout, stderr], [1, "", `kickoff: the database is in shadow: ${because}\n`])
        }
        assert.deepStrictEqual(yield* state, before)

        for (const args of [["dead-letters", "list"], ["dead-letters", "show", letter], ["status"], ["backfill"]]) {
          assert.strictEqual((yield* run(false, args)).code, 0, args.join(" "))
        }
        assert.strictEqual((yield* run(false, ["shadow", "end"])).code, 0)
        assert.strictEqual((yield* run(false, ["dead-letters", "replay", letter])).code, 0)
      }).pipe(Effect.provide(TestDatabase.layer)),
    60_000
  )
})

describe("kickoff shadow", () => {
  it.live("says that there is nothing to report or to end where the database is not in shadow", () =>
    Effect.gen(function* () {
      for (const command of ["report", "end"]) {
        const { code, stderr } = yield* run(false, ["shadow", command])
        assert.strictEqual(code, 1)
        assert.match(stderr, /^kickoff: the database is not in shadow; "kickoff shadow begin" begins it\n$/)
      }
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live.each([
    { args: ["report", "--since", "yesterday"], named: "--since" },
    { args: ["report", "--tolerance", "1"], named: "--tolerance" },
    { args: ["report", "--missed-after", "soon"], named: "--missed-after" },
    { args: ["end", "--reminded-until", "2026-12-31 20:00"], named: "RFC 3339" }
  ])("refuses bad arguments by name: $args", ({ args, named }) =>
    Effect.gen(function* () {
      const { code, stderr } = yield* runProgram({ args: ["shadow", ...args] })
      assert.strictEqual(code, 2)
      assert.include(stderr, named)
    })
  )

  it.live("reports as text and as JSON, and by its exit code whether Kickoff fell short", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      assert.strictEqual((yield* run(false, ["shadow", "begin"])).code, 0)
      const empty = yield* run(false, ["shadow", "report"])
      assert.strictEqual(empty.code, 1)
      assert.match(empty.stderr, /nothing was due in the window/)

      yield* sql`UPDATE shadow_run SET since = now() - interval '1 hour'`
      const plan = (decidedAfter: string | null) =>
        Effect.gen(function* () {
          const game = yield* insertGame(-600_000)
          const row = yield* insertTransition(game, "IN_PROGRESS", -600_000)
          if (decidedAfter !== null) {
            yield* sql`
              INSERT INTO shadow_decisions (kind, due_at, source_id, game_id, target, outcome, game_status, replica, decided_at)
              SELECT 'status-transition', transition_time, id, game_id, target_status, 'applied', 'SCHEDULED', 'r',
                transition_time + ${decidedAfter}::interval
              FROM game_status_schedule WHERE id = ${row}`
          }
          return game
        })
      const late = yield* plan("4 milliseconds")
      yield* sql`UPDATE game_sessions SET status = 'IN_PROGRESS' WHERE id = ${late}`
      yield* sql`UPDATE shadow_changes SET changed_at = due_at + interval '30 seconds'`
      const missed = yield* plan("4 milliseconds")
      const well = yield* run(false, ["shadow", "report"])
      assert.strictEqual(well.code, 0, well.stderr)
      assert.match(well.stdout, /^In shadow since \S+; what was due from \S+ to \S+:\n/)
      assert.match(well.stdout, /^2 starts +other system +0 +0 +1 +1 +30\.0 s +30\.0 s +30\.0 s$/m)
      assert.match(well.stdout, /^ +Kickoff +2 +0 +0 +0 +4 ms +4 ms +4 ms$/m)
      assert.include(well.stdout, `game ${missed}, IN_PROGRESS at`)
      assert.match(well.stdout, /the other system missed it; Kickoff 4 ms$/m)
      assert.match(well.stdout, /the other system 30\.0 s after its time \(kickoff:test@.*\); Kickoff 4 ms$/m)

      const unseen = yield* plan(null)
      yield* sql`UPDATE game_sessions SET status = 'IN_PROGRESS' WHERE id = ${unseen}`
      const short = yield* run(false, ["shadow", "report", "--json", "--since", "1 hour"])
      assert.strictEqual(short.code, 1)
      assert.match(short.stderr, /^kickoff: Kickoff would have missed 1 and been late with 0\n$/)
      const report: unknown = JSON.parse(short.stdout)
      assert.deepNestedInclude(report, { ready: false, "lines[0].due": 3, "lines[0].kickoff.missed": 1 })
      assert.deepNestedInclude(report, { "examples[0].game_id": unseen })
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})
