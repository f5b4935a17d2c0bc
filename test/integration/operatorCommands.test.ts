/** `kickoff explain` and `kickoff forecast` as an operator runs them, beside an engine on a real database. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer, Queue, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { Games } from "../../src/games/Games.ts"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { eventually, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { runProgram } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const hour = 3_600_000

const run = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const { url } = yield* TestDatabase
  return yield* runProgram({ args, env: { DATABASE_URL: Redacted.value(url) } })
})

const runJson = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const ended = yield* run(...args, "--json")
  assert.strictEqual(ended.code, 0, ended.stderr)
  const body: Readonly<Record<string, unknown>> = JSON.parse(ended.stdout)
  return body
})

layer(Games.layer.pipe(Layer.provideMerge(engineLayer())), { excludeTestServices: true })("kickoff explain", (it) => {
  it.effect("tells what the clock did, by which process and when its event was confirmed, and what is to come", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      const game = yield* insertGame(-20, { title: "Friday\nraid" })
      yield* insertTransition(game, "IN_PROGRESS", -20)
      yield* insertTransition(game, "COMPLETED", hour)
      yield* Effect.forkScoped(engine)
      yield* Queue.take(broker.received)
      yield* eventually(sql`SELECT id FROM confirmations`, (rows) => rows.length === 1)

      const { code, stderr, stdout } = yield* run("explain", game)
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.match(stdout, new RegExp(`^Game ${game} "Friday raid" of guild guild: IN_PROGRESS, version 2`))
      assert.match(
        stdout,
        /The start took effect by \S+:\d+, \d+ ms after its time; its event [0-9a-f-]{36} was confirmed \d+ ms later/
      )
      assert.match(stdout, /To come\n.*in 59m|1h.*: The completion/)
      assert.notInclude(stdout, "Remarks")

      yield* sql`DELETE FROM game_sessions WHERE id = ${game}`
      const gone = yield* runJson("explain", game)
      assert.isNull(gone["game"])
      assert.lengthOf(gone["history"] as ReadonlyArray<unknown>, 1)
      assert.deepStrictEqual(gone["remarks"], ["The game is not there: it was deleted, or never existed"])
    }).pipe(Effect.scoped)
  )
})

describe("kickoff explain", () => {
  it.live("exits 2 with one line for what is no id", () =>
    Effect.gen(function* () {
      const { code, stderr } = yield* run("explain", "friday")
      assert.strictEqual(code, 2)
      assert.match(stderr, /^kickoff: .*Expected a UUID.*\n$/)
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})

describe("kickoff explain and kickoff status", () => {
  it.live("tell of times that no calendar of ours has", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(hour)
      yield* sql`UPDATE game_sessions SET created_at = 'infinity' WHERE id = ${game}::uuid`
      yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        VALUES (${game}::uuid, 'IN_PROGRESS', '290000-01-01T00:00:00Z')`
      for (const args of [["explain", game], ["explain", game, "--json"], ["status"], ["status", "--json"]]) {
        const { code, stderr, stdout } = yield* run(...args)
        assert.deepStrictEqual([code, stderr], [0, ""])
        assert.include(stdout, "+275760-09-13T00:00:00.000Z")
      }
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})

describe("kickoff forecast", () => {
  it.live("counts per minute what is planned, without what is done, held or too far ahead", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const empty = yield* run("forecast", "--hours", "1")
      assert.deepStrictEqual([empty.code, empty.stdout.split("\n").length], [0, 2], empty.stderr)
      assert.match(empty.stdout, /^0 starts, 0 completions and 0 reminders in the next hour, from /)

      for (let n = 0; n < 3; n++) {
        const game = yield* insertGame(hour)
        yield* insertTransition(game, "IN_PROGRESS", hour)
        yield* insertTransition(game, "COMPLETED", 30 * hour)
        yield* insertReminder(game, 15, hour / 2)
      }
      const late = yield* insertGame(-hour)
      yield* insertTransition(late, "IN_PROGRESS", -hour)
      const done = yield* insertGame(hour)
      yield* insertTransition(done, "IN_PROGRESS", hour)
      yield* sql`UPDATE game_status_schedule SET executed = TRUE WHERE game_id = ${done}`
      const parked = yield* insertGame(hour)
      yield* insertTransition(parked, "IN_PROGRESS", hour)
      yield* sql`UPDATE game_status_schedule SET hold = 'parked' WHERE game_id = ${parked}`

      const body = yield* runJson("forecast")
      assert.deepInclude(body, { hours: 24, starts: 4, completions: 0, reminders: 3 })
      const minutes = body["minutes"] as ReadonlyArray<{ readonly at: string; readonly starts: number }>
      assert.strictEqual(
        minutes.reduce((sum, { starts }) => sum + starts, 0),
        4
      )
      const peaks = body["peaks"] as ReadonlyArray<object>
      for (const minute of [...minutes, ...peaks]) {
        assert.sameMembers(Object.keys(minute), ["at", "starts", "completions", "reminders"])
      }
      const { stdout } = yield* run("forecast", "--hours", "2")
      assert.match(stdout, /^4 starts, 0 completions and 3 reminders in the next 2 hours/)
      assert.lengthOf(stdout.split("\n"), 2 + 1 + 24 + 1)
      assert.include(stdout, "█")
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})
