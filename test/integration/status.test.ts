/** `kickoff status` as an operator runs it, beside the service and without it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import packageJson from "../../package.json" with { type: "json" }
import { latestMigration } from "../../src/postgres/migrations.ts"
import { eventually, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { runProgram, startService } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const hour = 3_600_000

const run = Effect.fnUntraced(function* (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) {
  const { url } = yield* TestDatabase
  return yield* runProgram({ args: ["status", ...args], env: { DATABASE_URL: Redacted.value(url), ...env } })
})

const Report = Schema.fromJsonString(
  Schema.Struct({
    version: Schema.String,
    schema: Schema.Int,
    at: Schema.String,
    replicas: Schema.Array(
      Schema.Struct({
        replica: Schema.String,
        roles: Schema.Array(Schema.String),
        relays: Schema.Boolean,
        shadow: Schema.Boolean
      })
    ),
    unplayed_roles: Schema.Array(Schema.String),
    schedules: Schema.Array(
      Schema.Struct({
        kind: Schema.String,
        planned: Schema.Int,
        due: Schema.Int,
        next_due: Schema.NullOr(Schema.String),
        retrying: Schema.Int,
        waiting: Schema.Int,
        paused: Schema.NullOr(
          Schema.Struct({ since: Schema.String, by: Schema.String, reason: Schema.NullOr(Schema.String) })
        )
      })
    ),
    outbox: Schema.Struct({ events: Schema.Int, refused: Schema.Int, oldest_seconds: Schema.Finite }),
    dead_letters: Schema.Record(Schema.String, Schema.Int),
    broker: Schema.Struct({ state: Schema.String, detail: Schema.NullOr(Schema.String) })
  })
)

/** The report as JSON, which must be of this form and of no other. */
const read = Effect.fnUntraced(function* (env: Readonly<Record<string, string>> = {}) {
  const { code, stderr, stdout } = yield* run(env, "--json")
  assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
  return yield* Schema.decodeUnknownEffect(Report, { onExcessProperty: "error" })(stdout)
})

describe("kickoff status", () => {
  it.live("names the processes with their roles, and the one that relays", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const env = { DATABASE_URL: Redacted.value(url) }
      const first = yield* startService({ env: { ...env, KICKOFF_ROLES: "api,outbox" } })
      yield* first.output(/This process relays the events/)
      const second = yield* startService({ env: { ...env, KICKOFF_ROLES: "status-transitions" } })
      const { replicas, unplayed_roles } = yield* eventually(
        read(),
        ({ replicas }) => replicas.flatMap(({ roles }) => roles).length === 3
      )
      const byProcess = new Map(replicas.map((replica) => [replica.replica.split(":").at(-1), replica]))
      assert.strictEqual(byProcess.size, 2)
      assert.deepInclude(byProcess.get(String(first.pid)), { roles: ["api", "outbox"], relays: true })
      assert.deepInclude(byProcess.get(String(second.pid)), { roles: ["status-transitions"], relays: false })
      assert.deepStrictEqual(unplayed_roles, ["notifications"])
      const { stdout } = yield* run({})
      assert.match(stdout, new RegExp(`^\\S+:${first.pid} +api, outbox +relays$`, "m"))
      assert.match(stdout, /^no process plays notifications$/m)
      yield* first.stop
      const { replicas: left } = yield* eventually(read(), ({ replicas }) => replicas.length === 1)
      assert.deepStrictEqual(left[0]?.roles, ["status-transitions"])
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer))
  )

  it.live("tells what is next and what waits, and what is paused and why", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const nothing = yield* read()
      assert.deepInclude(nothing, { version: packageJson.version, schema: latestMigration, replicas: [] })
      assert.deepStrictEqual(
        nothing.schedules.map(({ due, next_due, planned }) => [planned, due, next_due]),
        [
          [0, 0, null],
          [0, 0, null]
        ]
      )
      assert.match((yield* run({})).stdout, /Outbox {8}empty\nDead letters {2}none are open\n/)

      const game = yield* insertGame(hour)
      yield* insertTransition(game, "IN_PROGRESS", hour)
      yield* insertTransition(game, "COMPLETED", 2 * hour)
      yield* insertReminder(game, 15, -60_000)
      yield* sql`
        INSERT INTO outbox (game_id, type, occurred_at, data)
        VALUES (${game}, 'game.created', now() - interval '90 seconds', '{}')`
      yield* sql`
        INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload)
        VALUES ('event', gen_random_uuid(), 'EventRefused', 'too large', 8, '{}')`
      yield* sql`INSERT INTO pauses (kind, paused_by, reason) VALUES ('notification', 'anna', ${"a new\nbot"})`
      const { dead_letters, outbox, schedules } = yield* read()
      const [transitions, reminders] = schedules
      assert.deepInclude(transitions, { kind: "status-transition", planned: 2, due: 0, paused: null })
      assert.closeTo(Date.parse(transitions?.next_due ?? ""), Date.now() + hour, 60_000)
      assert.deepInclude(reminders, { kind: "notification", planned: 1, due: 1 })
      assert.deepInclude(reminders?.paused, { by: "anna", reason: "a new\nbot" })
      assert.strictEqual(outbox.events, 1)
      assert.closeTo(outbox.oldest_seconds, 90, 60)
      assert.deepStrictEqual(dead_letters, { "status-transition": 0, notification: 0, event: 1 })

      const { stdout } = yield* run({})
      assert.match(stdout, /^status-transition +2 +0 +0 +0 +\S+Z, in (59m|1h)/m)
      assert.match(stdout, /^notification +1 +1 +0 +0 +\S+Z, 1m.* ago$/m)
      assert.match(stdout, /^notification is paused since \S+Z, by anna: a new bot$/m)
      assert.match(stdout, /^Outbox {8}1 event, the first for 1m/m)
      assert.match(stdout, /^Dead letters {2}1 event$/m)
      assert.match(stdout, /^Broker {8}RABBITMQ_URL is not set$/m)
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("tells what the broker calls itself, or why it is away, without its password", () =>
    Effect.gen(function* () {
      const there = yield* read({ RABBITMQ_URL: inject("rabbitmqUrl") })
      assert.strictEqual(there.broker.state, "ok")
      assert.match(there.broker.detail ?? "", /^RabbitMQ \d+\.\d+/)
      const away = yield* run({ RABBITMQ_URL: "amqp://user:s3cret@127.0.0.1:9" })
      assert.strictEqual(away.code, 0)
      assert.match(away.stdout, /^Broker {8}away: .*ECONNREFUSED/m)
      assert.notInclude(`${away.stdout}${away.stderr}`, "s3cret")
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("ends with exit code 1 and what to do where the database is not migrated", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* run({})
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(stderr, /^kickoff: the database is at migration 0, this program needs \d+: run kickoff migrate\n$/)
    }).pipe(Effect.provide(TestDatabase.layerWith({ migrated: false })))
  )
})
