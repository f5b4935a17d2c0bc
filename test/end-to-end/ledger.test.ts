/** The commands `verify` and `backfill`, as an operator runs them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { insertGame } from "../support/games.ts"
import { runProgram } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const kickoff = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    return yield* runProgram({ args, env: { DATABASE_URL: Redacted.value(url) } })
  })

describe("kickoff verify", () => {
  it.live("exits 0 when nothing contradicts the promises, and says what was looked at", () =>
    Effect.gen(function* () {
      const ended = yield* kickoff("verify", "--since", "2 hours")
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.match(ended.stdout, /^0 rows took effect since /)
      assert.strictEqual(ended.stdout.match(/^ok {3}/gm)?.length, 7)
      assert.match(ended.stdout, /^undecided: 0,.*\ngiven up: 0,/m)
    }).pipe(Effect.provide(TestDatabase.layerWith({})))
  )

  it.live("exits 1 and names the offenders, also as JSON; backfill plans what is missing", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const id = yield* insertGame(3_600_000)
      const ended = yield* kickoff("verify")
      assert.strictEqual(ended.code, 1)
      assert.include(ended.stdout, `game ${id}: a game that is SCHEDULED has no pending row for IN_PROGRESS`)
      assert.include(ended.stderr, "2 findings contradict the promises")
      const json = yield* kickoff("verify", "--json")
      const report: unknown = JSON.parse(json.stdout)
      const none = { count: 0, examples: [] }
      assert.deepInclude(report, { effects: 0, clean: false, undecided: none, given_up: none })

      yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        VALUES (${id}::uuid, 'IN_PROGRESS', now() + interval '1 hour')`
      const one = yield* kickoff("verify")
      assert.include(one.stderr, "1 finding contradicts the promises")
      yield* sql`DELETE FROM notification_schedule WHERE game_id = ${id}::uuid`
      yield* sql`UPDATE game_sessions SET reminder_minutes = '{15}' WHERE id = ${id}::uuid`
      assert.strictEqual((yield* kickoff("backfill")).stdout, "Planned 1 transition and 1 reminder of 1 game\n")
      yield* sql`DELETE FROM game_status_schedule WHERE game_id = ${id}::uuid`
      yield* sql`DELETE FROM notification_schedule WHERE game_id = ${id}::uuid`

      const filled = yield* kickoff("backfill", "--json")
      assert.strictEqual(filled.code, 0, filled.stderr)
      assert.deepStrictEqual(JSON.parse(filled.stdout), { games: 1, transitions: 2, reminders: 1 })
      assert.strictEqual((yield* kickoff("verify")).code, 0)
      assert.lengthOf(yield* sql`SELECT id FROM game_status_schedule`, 2)
    }).pipe(Effect.provide(TestDatabase.layerWith({})))
  )

  it.live("exits 2 with one line for a window that it cannot read", () =>
    Effect.gen(function* () {
      const ended = yield* kickoff("verify", "--since", "yesterday")
      assert.strictEqual(ended.code, 2)
      assert.strictEqual(ended.stderr, 'kickoff: --since: Expected a time like "24 hours" or "7 days"\n')
    }).pipe(Effect.provide(TestDatabase.layerWith({})))
  )
})
