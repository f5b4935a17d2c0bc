/** A pause of a kind of schedule, beside the running engine on a real database, and those who ask for one. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Queue, Redacted } from "effect"
import { SqlClient, Statement } from "effect/sql"
import type { Guilds } from "../../src/domain/Caller.ts"
import { Pauses } from "../../src/operations/Pauses.ts"
import { Database } from "../../src/postgres/Database.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { request, serverLayer } from "../http/apiServer.ts"
import { callerLayer } from "../support/callers.ts"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { eventually, getGame, getTransitions, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { runProgram } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** Pauses a kind by plain SQL, as anybody may. */
const pause = (kind: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO pauses (kind) VALUES (${kind})`)

const resume = (kind: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`UPDATE pauses SET resumed_at = clock_timestamp() WHERE kind = ${kind} AND resumed_at IS NULL`
  )

describe("a pause", () => {
  it.live("of status transitions lets no game start until its end, and then at once; reminders stay on time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      yield* Effect.forkScoped(engine)
      yield* pause("status-transition")
      const game = yield* insertGame(20)
      yield* insertTransition(game, "IN_PROGRESS", 20)
      yield* insertTransition(game, "COMPLETED", 30)
      const other = yield* insertGame(60_000)
      yield* insertReminder(other, 15, 100)
      const reminder = yield* Queue.take(broker.received)
      assert.deepStrictEqual([reminder.type, reminder.subject], ["game.reminder_due", other])
      assert.isBelow(Number(reminder.data["lateness_ms"]), 5000)
      assert.deepInclude(yield* getGame(game), { status: "SCHEDULED", version: 1 })

      yield* resume("status-transition")
      const events = [yield* Queue.take(broker.received), yield* Queue.take(broker.received)]
      assert.deepStrictEqual(
        events.map(({ subject, type }) => [type, subject]),
        [
          ["game.started", game],
          ["game.completed", game]
        ]
      )
      // Of the two instants both are the database's, so this proves that nothing was done before.
      const [proof] = yield* sql`
        SELECT bool_and(executed_at >= resumed_at) AS after, max(executed_at - resumed_at) < interval '10 seconds' AS soon
        FROM game_status_schedule CROSS JOIN pauses WHERE game_id = ${game}`
      assert.deepStrictEqual(proof, { after: true, soon: true })
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )

  it.live("of reminders lets games start on time, and at its end skips those whose game has begun", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      yield* Effect.forkScoped(engine)
      yield* pause("notification")
      const game = yield* insertGame(50)
      const skipped = yield* insertReminder(game, 5, 10)
      yield* insertTransition(game, "IN_PROGRESS", 50)
      const later = yield* insertGame(3_600_000)
      const sent = yield* insertReminder(later, 15, 10)
      const started = yield* Queue.take(broker.received)
      assert.deepStrictEqual([started.type, started.subject], ["game.started", game])

      yield* resume("notification")
      const reminder = yield* Queue.take(broker.received)
      assert.deepStrictEqual([reminder.type, reminder.subject], ["game.reminder_due", later])
      const outcomes = yield* eventually(
        sql<{ readonly id: string; readonly outcome: string }>`
          SELECT id, outcome FROM notification_schedule WHERE sent`,
        (rows) => rows.length === 2
      )
      assert.deepStrictEqual(
        new Map(outcomes.map(({ id, outcome }) => [id, outcome])),
        new Map([
          [skipped, "skipped"],
          [sent, "sent"]
        ])
      )
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )

  it.live("lets what failed before wait as well, and try again at its end", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const broker = yield* Broker
      yield* pause("status-transition")
      const game = yield* insertGame(-1000)
      const row = yield* insertTransition(game, "IN_PROGRESS", -1000)
      yield* sql`
        UPDATE game_status_schedule SET hold = 'retry', attempts = 1, retry_at = now() - interval '1 second'
        WHERE id = ${row}`
      yield* Effect.forkScoped(engine)
      const fence = yield* insertGame(60_000)
      yield* insertReminder(fence, 15, 100)
      assert.strictEqual((yield* Queue.take(broker.received)).subject, fence)
      assert.isFalse((yield* getTransitions(game)).get("IN_PROGRESS")?.executed)
      yield* resume("status-transition")
      assert.strictEqual((yield* Queue.take(broker.received)).subject, game)
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )

  it.live("is open once at most for a kind, and stays on record", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* pause("status-transition")
      const again = yield* Effect.flip(pause("status-transition"))
      assert.strictEqual(again.reason._tag, "UniqueViolation")
      yield* resume("status-transition")
      yield* pause("status-transition")
      assert.lengthOf(yield* sql`SELECT FROM pauses`, 2)
    }).pipe(Effect.scoped, Effect.provide(engineLayer()))
  )
})

const useCases = Layer.mergeAll(Pauses.layer, StatusTransitionRepository.layer, NotificationRepository.layer).pipe(
  Layer.provideMerge(TestDatabase.layer)
)

const as = (name: string, guilds: Guilds = "every") => Effect.provide(callerLayer(name, guilds))

describe("pausing", () => {
  it.live("records who did it first, when and why, and leaves what is paused as it is", () =>
    Effect.gen(function* () {
      const pauses = yield* Pauses
      const [first] = yield* pauses.pause(["notification"], "a new bot").pipe(as("anna"))
      assert.deepInclude(first?.pause, { kind: "notification", paused_by: "anna", reason: "a new bot" })
      const both = yield* pauses.pause(["status-transition", "notification"], null).pipe(as("ben"))
      assert.deepStrictEqual(
        both.map(({ fresh, pause }) => [pause.kind, fresh, pause.paused_by, pause.reason]),
        [
          ["status-transition", true, "ben", null],
          ["notification", false, "anna", "a new bot"]
        ]
      )
      assert.lengthOf(yield* pauses.list.pipe(as("ben")), 2)

      const ended = yield* pauses.resume(["notification"]).pipe(as("ben"))
      assert.deepStrictEqual(
        ended.map(({ kind, paused_by, resumed_by }) => [kind, paused_by, resumed_by]),
        [["notification", "anna", "ben"]]
      )
      assert.deepStrictEqual(yield* pauses.resume(["notification"]).pipe(as("ben")), [])
      const [again] = yield* pauses.pause(["notification"], null).pipe(as("ben"))
      assert.isTrue(again?.fresh)
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`SELECT FROM pauses WHERE kind = 'notification'`, 2)
    }).pipe(Effect.provide(useCases))
  )

  it.live("at the same time opens one pause", () =>
    Effect.gen(function* () {
      const pauses = yield* Pauses
      const opened = yield* Effect.replicateEffect(pauses.pause(["status-transition", "notification"], null), 8, {
        concurrency: "unbounded"
      }).pipe(as("anna"))
      assert.deepStrictEqual(opened.flat().filter(({ fresh }) => fresh).length, 2)
    }).pipe(Effect.provide(useCases))
  )

  it.live("is for those alone who deal with every guild", () =>
    Effect.gen(function* () {
      const pauses = yield* Pauses
      const asked = [
        Effect.asVoid(pauses.list),
        Effect.asVoid(pauses.pause(["notification"], null)),
        Effect.asVoid(pauses.resume(["notification"]))
      ]
      for (const effect of asked) {
        const error = yield* Effect.flip(effect).pipe(as("anna", ["red"]))
        assert.strictEqual(error._tag, "PauseForbidden")
      }
      assert.deepStrictEqual(yield* pauses.list.pipe(as("ben")), [])
    }).pipe(Effect.provide(useCases))
  )

  it.live("has succeeded only once what was claimed before is done, and waits for nothing of the other kind", () =>
    Effect.gen(function* () {
      const database = yield* Database
      const pauses = yield* Pauses
      const transitions = yield* StatusTransitionRepository
      const game = yield* insertGame(-1000)
      yield* insertTransition(game, "IN_PROGRESS", -1000)
      const claimed = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const claiming = yield* Effect.forkScoped(
        database.transaction(
          Effect.gen(function* () {
            assert.lengthOf(yield* transitions.applyDue(10, undefined), 1)
            yield* Deferred.succeed(claimed, undefined)
            yield* Deferred.await(release)
          })
        )
      )
      yield* Deferred.await(claimed)
      const sent = yield* Queue.unbounded<void>()
      const record: Statement.Transformer = (statement) => Effect.as(Queue.offer(sent, undefined), statement)
      const pausing = yield* pauses
        .pause(["status-transition"], null)
        .pipe(as("anna"), Effect.provideService(Statement.CurrentTransformer, record), Effect.forkScoped)
      // The pause itself, then looks at what is under way.
      for (let n = 0; n < 4; n++) yield* Queue.take(sent)
      assert.isUndefined(pausing.pollUnsafe())
      yield* pauses.pause(["notification"], null).pipe(as("anna"))
      yield* Deferred.succeed(release, undefined)
      assert.lengthOf(yield* Fiber.join(pausing), 1)
      yield* Fiber.join(claiming)
      assert.deepInclude(yield* getGame(game), { status: "IN_PROGRESS" })
    }).pipe(Effect.scoped, Effect.provide(useCases))
  )
})

describe("kickoff pause and resume", () => {
  const run = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
    const { url } = yield* TestDatabase
    return yield* runProgram({ args, env: { DATABASE_URL: Redacted.value(url) } })
  })
  const instant = /\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z/.source

  it.live("say what is paused, by whom and why, and for how long it was", () =>
    Effect.gen(function* () {
      const paused = yield* run("pause", "all", "--reason", "a new\nbot")
      assert.deepInclude(paused, { code: 0, stderr: "" })
      const clause = `since ${instant}, by \\S.*: a new bot`
      assert.match(
        paused.stdout,
        new RegExp(`^status-transition is paused ${clause}\nnotification is paused ${clause}\n$`)
      )
      const again = yield* run("pause", "notification", "--reason", "mine")
      assert.match(again.stdout, new RegExp(`^notification has been paused already ${clause}\n$`))
      const resumed = yield* run("resume", "notification")
      assert.match(resumed.stdout, new RegExp(`^notification goes on after .*; it was paused ${clause}\n$`))
      const all = yield* run("resume", "all")
      assert.match(all.stdout, /^status-transition goes on after .*\nnotification was not paused\n$/)
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("refuse what is no kind and what is no reason, in one line", () =>
    Effect.gen(function* () {
      for (const args of [["events"], [], ["all", "--reason", ""], ["all", "--reason", "x".repeat(501)]]) {
        const { code, stderr, stdout } = yield* run("pause", ...args)
        assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" }, args.join(" "))
        assert.match(stderr, /^kickoff: .*\n$/)
      }
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})

layer(serverLayer().pipe(Layer.provideMerge(TestDatabase.layer)), { excludeTestServices: true })(
  "The HTTP API of pauses",
  (it) => {
    it.effect("pauses, lists and lets go on, each as often as one likes", () =>
      Effect.gen(function* () {
        const paused = yield* request("PUT", "/v1/pauses/notification", { body: { reason: "a new bot" } })
        assert.strictEqual(paused.status, 200, paused.text)
        const { paused_at, ...rest } = paused.body
        assert.match(String(paused_at), /^\d{4}-.*Z$/)
        assert.deepStrictEqual(rest, {
          kind: "notification",
          paused_by: "api",
          reason: "a new bot",
          resumed_at: null,
          resumed_by: null
        })
        const again = yield* request("PUT", "/v1/pauses/notification", { body: {} })
        assert.deepStrictEqual(again.body, paused.body)
        assert.deepStrictEqual((yield* request("GET", "/v1/pauses")).body, { pauses: [paused.body] })
        for (let n = 0; n < 2; n++) {
          assert.strictEqual((yield* request("DELETE", "/v1/pauses/notification")).status, 204)
        }
        assert.deepStrictEqual((yield* request("GET", "/v1/pauses")).body, { pauses: [] })
      })
    )

    it.effect("refuses what is no kind, what is no reason, and what is not known", () =>
      Effect.gen(function* () {
        for (const [path, body] of [
          ["event", {}],
          ["all", {}],
          ["notification", { reason: "" }],
          ["notification", { reason: "x".repeat(501) }],
          ["notification", { reason: "a\u0000b" }],
          ["notification", { until: "tomorrow" }],
          ["notification", undefined]
        ] as const) {
          const answer = yield* request("PUT", `/v1/pauses/${path}`, body === undefined ? {} : { body })
          assert.include([400, 415], answer.status, answer.text)
          assert.strictEqual(answer.headers.get("content-type"), "application/problem+json")
        }
        assert.deepStrictEqual((yield* request("GET", "/v1/pauses")).body, { pauses: [] })
      })
    )
  }
)
