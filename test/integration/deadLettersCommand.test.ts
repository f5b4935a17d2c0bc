/** `kickoff dead-letters` as an operator runs it, on a real database. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer, Queue, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { userInfo } from "node:os"
import { GameId } from "../../src/domain/Game.ts"
import { Games } from "../../src/games/Games.ts"
import { EventRefused, PublishError } from "../../src/messaging/Publisher.ts"
import { anybody } from "../support/callers.ts"
import { openLetter, parkReminder, parkTransition } from "../support/deadLetters.ts"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { eventually, insertGame } from "../support/games.ts"
import { runProgram } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const hour = 3_600_000

const withEngine = Layer.merge(Games.layer, anybody).pipe(Layer.provideMerge(engineLayer({ maxAttempts: 1 })))

/** Runs `kickoff dead-letters` on the test's database. */
const run = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const { url } = yield* TestDatabase
  return yield* runProgram({ args: ["dead-letters", ...args], env: { DATABASE_URL: Redacted.value(url) } })
})

/** The same with `--json`, which must succeed with this exit code and print one document. */
const runJson = Effect.fnUntraced(function* (code: number, ...args: ReadonlyArray<string>) {
  const ended = yield* run(...args, "--json")
  assert.strictEqual(ended.code, code, `${ended.stdout}${ended.stderr}`)
  const body: Readonly<Record<string, unknown>> = JSON.parse(ended.stdout)
  return body
})

const idsOf = (body: Readonly<Record<string, unknown>>) =>
  (body["dead_letters"] as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id)

layer(withEngine, { excludeTestServices: true })("kickoff dead-letters", (it) => {
  it.effect("lists by every filter, page by page, for people and as JSON", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const guild = randomUUID()
      const game = yield* insertGame(hour)
      yield* sql`UPDATE game_sessions SET guild_id = ${guild} WHERE id = ${game}`
      const start = (yield* parkTransition(game, "IN_PROGRESS")).letter
      const reminder = (yield* parkReminder(game)).letter
      yield* sql`
          UPDATE dead_letters SET message = ${"two\nlines and \u001B[31mred"} WHERE id = ${start}`

      const { code, stderr, stdout } = yield* run("list", "--game-id", game)
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      const [headings = "", first = "", second = "", ...rest] = stdout.split("\n")
      assert.deepStrictEqual(rest, [""])
      assert.match(headings, /^ID +WRITTEN +STATE +KIND +GAME +TRIES +REASON$/)
      assert.include(first, `${start}  `)
      assert.match(first, /open +status-transition .* 1 +ConstraintError: two lines and \[31mred$/)
      assert.match(second, new RegExp(`^${reminder} .* notification `))

      assert.deepStrictEqual(idsOf(yield* runJson(0, "list", "--guild-id", guild)), [start, reminder])
      assert.deepStrictEqual(idsOf(yield* runJson(0, "list", "--guild-id", guild, "--kind", "notification")), [
        reminder
      ])
      assert.deepStrictEqual(idsOf(yield* runJson(0, "list", "--guild-id", guild, "--state", "resolved")), [])
      assert.deepStrictEqual(idsOf(yield* runJson(0, "list", "--guild-id", guild, "--to", "2020-01-01T00:00:00Z")), [])
      const page = yield* runJson(0, "list", "--guild-id", guild, "--limit", "1")
      assert.deepStrictEqual(idsOf(page), [start])
      const last = yield* runJson(0, "list", "--guild-id", guild, "--cursor", String(page["next_cursor"]))
      assert.deepStrictEqual([idsOf(last), last["next_cursor"]], [[reminder], null])
      assert.include((yield* run("list", "--guild-id", guild, "--limit", "1")).stdout, "More with --cursor ")
      assert.strictEqual((yield* run("list", "--game-id", randomUUID())).stdout, "No dead letters\n")
    })
  )

  it.effect("shows one with its payload, and says when there is none", () =>
    Effect.gen(function* () {
      const { id, letter } = yield* parkReminder(yield* insertGame(hour))
      const shown = yield* run("show", letter)
      assert.strictEqual(shown.code, 0)
      assert.match(shown.stdout, new RegExp(`^source_id +${id}$`, "m"))
      assert.match(shown.stdout, /^payload +\{\n[\s\S]*"reminder_minutes": 15/m)
      assert.deepInclude(yield* runJson(0, "show", letter), { id: letter, kind: "notification", resolution: null })
      const unknown = randomUUID()
      const missing = yield* run("show", unknown)
      assert.deepInclude(missing, { code: 1, stdout: "", stderr: `kickoff: There is no dead letter ${unknown}\n` })
    })
  )

  it.effect("settles by id, in the name of who runs it; what is refused ends with exit code 1", () =>
    Effect.gen(function* () {
      const game = yield* insertGame(hour)
      const start = (yield* parkTransition(game, "IN_PROGRESS")).letter
      const reminder = (yield* parkReminder(game)).letter
      const cancelled = (yield* parkReminder(yield* insertGame(hour, { status: "CANCELLED" }))).letter
      const replayed = yield* run("replay", start, cancelled)
      assert.deepInclude(replayed, { code: 0, stderr: "" })
      assert.strictEqual(
        replayed.stdout,
        `replayed ${start}\nsuperseded ${cancelled}: the game is CANCELLED\n1 replayed, 1 superseded, 0 refused\n`
      )
      assert.deepInclude(yield* runJson(0, "show", start), {
        resolution: "replayed",
        resolved_by: userInfo().username
      })

      const again = yield* run("discard", start, reminder)
      assert.strictEqual(again.code, 1)
      assert.match(again.stdout, new RegExp(`^refused ${start}: .*was replayed already`))
      assert.match(again.stdout, new RegExp(`^discarded ${reminder}\n1 discarded, 1 refused\n$`, "m"))
      assert.strictEqual(again.stderr, "kickoff: a dead letter was refused\n")
      const body = yield* runJson(1, "replay", reminder)
      assert.deepInclude(body, { replayed: 0, superseded: 0, refused: 1 })
      assert.deepInclude((body["results"] as ReadonlyArray<object>)[0], { id: reminder, outcome: "refused" })
    })
  )

  it.effect("settles all that pass the filters, and nothing else", () =>
    Effect.gen(function* () {
      const game = yield* insertGame(hour)
      const start = (yield* parkTransition(game, "IN_PROGRESS")).letter
      const reminder = (yield* parkReminder(game)).letter
      const other = (yield* parkReminder(yield* insertGame(hour))).letter
      assert.deepStrictEqual(yield* runJson(0, "replay", "--all", "--kind", "notification", "--game-id", game), {
        results: [{ id: reminder, outcome: "replayed", reason: null }],
        replayed: 1,
        superseded: 0,
        refused: 0
      })
      assert.deepStrictEqual(idsOf(yield* runJson(0, "list", "--game-id", game)), [start])
      assert.strictEqual(
        (yield* run("discard", "--all", "--game-id", game)).stdout,
        `discarded ${start}\n1 discarded, 0 refused\n`
      )
      assert.deepInclude(yield* runJson(0, "show", other), { resolution: null })
    })
  )

  describe("that is called wrongly", () => {
    it.effect.each([
      { args: ["show", "x"], named: "<id>" },
      { args: ["list", "--kind", "x"], named: "--kind" },
      { args: ["list", "--from", "2020-01-01"], named: "--from" },
      { args: ["list", "--game-id", "1"], named: "--game-id" },
      { args: ["list", "--limit", "0"], named: "--limit" },
      { args: ["list", "--cursor", "x"], named: "--cursor" },
      { args: ["replay"], named: "--all" },
      { args: ["replay", "--kind", "event"], named: "--all" },
      { args: ["discard", "--all", randomUUID()], named: "--all" },
      { args: ["discard", "--kind", "event", randomUUID()], named: "--all" },
      { args: ["burn"], named: "burn" }
    ])("ends with exit code 2 and one line: $args", ({ args, named }) =>
      Effect.gen(function* () {
        const { code, stderr, stdout } = yield* run(...args)
        assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
        assert.match(stderr, /^kickoff: [^\n]+\n$/)
        assert.include(stderr, named)
      })
    )

    it.effect("as without a database: exit code 2 and one line that names the variable", () =>
      Effect.gen(function* () {
        const { code, stderr, stdout } = yield* runProgram({ args: ["dead-letters", "list"] })
        assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
        assert.match(stderr, /^kickoff: DATABASE_URL: [^\n]+\n$/)
      })
    )
  })
})

describe("kickoff dead-letters beside a running service", () => {
  it.live("wakes a relay elsewhere for the event that it puts back", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const refused = yield* Queue.unbounded<string>()
      broker.answer = ({ id }) =>
        Effect.andThen(
          Queue.offer(refused, id),
          Effect.fail(new PublishError({ event_id: id, reason: new EventRefused({ detail: "no" }) }))
        )
      yield* Effect.forkScoped(engine)
      const game = GameId.make(yield* insertGame(hour))
      yield* (yield* Games).edit(game, { title: "refused" })
      const id = yield* Queue.take(refused)
      const sql = yield* SqlClient.SqlClient
      yield* eventually(sql`SELECT FROM dead_letters WHERE source_id = ${id}`, (rows) => rows.length === 1)
      broker.answer = () => Effect.void
      const letter = yield* openLetter(id)
      // Until the backstop, a minute away, the relay looks only when it is told.
      assert.deepInclude(yield* run("replay", letter), { code: 0, stderr: "" })
      const event = yield* eventually(Queue.take(broker.received), ({ subject }) => subject === game)
      assert.strictEqual(event.id, id)
    }).pipe(Effect.provide(withEngine))
  )
})

layer(TestDatabase.layerWith({ migrated: false }), { excludeTestServices: true })(
  "kickoff dead-letters on a database without the schema",
  (it) => {
    it.effect("ends with exit code 1 and one line that says so", () =>
      Effect.gen(function* () {
        const { code, stderr, stdout } = yield* run("list")
        assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
        assert.match(stderr, /^kickoff: the database refused: [^\n]*dead_letters[^\n]*\n$/)
      })
    )
  }
)
