/** `kickoff doctor` and its checks on a real database and broker, with one fault after the other planted. */
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { Database } from "../../src/postgres/Database.ts"
import { migrationsTable } from "../../src/postgres/migrations.ts"
import { diagnose, expected, type Finding, repositories } from "../../src/operations/Diagnosis.ts"
import { DiagnosisRepository, privileges } from "../../src/operations/DiagnosisRepository.ts"
import { openChannel } from "../messaging/consumer.ts"
import { insertGame, insertTransition } from "../support/games.ts"
import { runProgram, startService } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const fresh = repositories.pipe(Layer.provideMerge(TestDatabase.layer))

/** What is not well, without what only says that no service runs here. */
const examine = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const findings = yield* diagnose(url)
  return findings.filter(({ check, verdict }) => verdict !== "ok" && check !== "processes" && check !== "relay")
})

const theOnly = (findings: ReadonlyArray<Finding>) => {
  const [finding, ...others] = findings
  assert.deepStrictEqual(others, [])
  assert.isDefined(finding)
  assert.isDefined(finding?.cure)
  return finding
}

const planted = (
  name: string,
  fault: Effect.Effect<unknown, unknown, SqlClient.SqlClient>,
  check: string,
  detail: RegExp
) =>
  it.live(name, () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* examine, [])
      yield* fault
      const finding = theOnly(yield* examine)
      assert.strictEqual(finding.check, check)
      assert.match(finding.detail, detail)
    }).pipe(Effect.provide(fresh))
  )

const run = (statement: string) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement))

describe("the doctor finds and names", () => {
  planted(
    "a trigger that is disabled",
    run("ALTER TABLE game_status_schedule DISABLE TRIGGER game_status_schedule_notify_insert"),
    "triggers",
    /^game_status_schedule_notify_insert is disabled$/
  )
  planted(
    "a trigger that is missing",
    run("DROP TRIGGER notification_schedule_reset ON notification_schedule"),
    "triggers",
    /^notification_schedule_reset is missing$/
  )
  planted(
    "an index that is missing",
    run("DROP INDEX game_status_schedule_due_idx"),
    "indexes",
    /^game_status_schedule_due_idx is missing$/
  )
  planted(
    "a table that is never cleaned up",
    run("ALTER TABLE outbox SET (autovacuum_enabled = false)"),
    "autovacuum",
    /^off for outbox$/
  )
  planted(
    "a schema that is older than the program",
    run("DELETE FROM schema_migrations WHERE migration_id > 2"),
    "migrations",
    /^at 2, this program needs \d+$/
  )
  planted(
    "a due row that nobody applies",
    Effect.flatMap(insertGame(-60_000), (game) => insertTransition(game, "IN_PROGRESS", -60_000)),
    "overdue",
    /^1 transitions and 0 reminders are due, the earliest for 1m/
  )
  planted(
    "a pause that somebody has forgotten, and not what waits for its end",
    Effect.gen(function* () {
      yield* run("INSERT INTO pauses (kind, paused_by, reason) VALUES ('status-transition', 'anna', 'a new bot')")
      yield* insertTransition(yield* insertGame(-60_000), "IN_PROGRESS", -60_000)
    }),
    "pauses",
    /^status-transition since \d{4}-.*Z by anna, because: a new bot; 1 of them are due$/
  )
  planted(
    "an event that does not leave",
    run(`INSERT INTO outbox (game_id, type, occurred_at, data)
      VALUES (gen_random_uuid(), 'game.created', now() - interval '1 hour', '{}')`),
    "outbox",
    /^the oldest event has waited for 1h/
  )
  planted(
    "dead letters that nobody has settled",
    run(`INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload)
      VALUES ('event', gen_random_uuid(), 'EventRefused', 'too large', 8, '{}')`),
    "dead letters",
    /^1 are open$/
  )

  it.live("a role that may not do what the service does", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const role = `doctor_${randomUUID().replaceAll("-", "")}`
      const asRole = new URL(Redacted.value(url))
      Object.assign(asRole, { username: role, password: "secret" })
      yield* Effect.acquireRelease(run(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`), () =>
        Effect.orDie(Effect.andThen(run(`DROP OWNED BY ${role}`), run(`DROP ROLE ${role}`)))
      )
      yield* run(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role}`)
      yield* run(`REVOKE INSERT ON outbox FROM ${role}`)
      const findings = yield* diagnose(url).pipe(
        Effect.provide(repositories),
        Effect.provide(Database.layer({ url: Redacted.make(asRole.href), connections: 1, name: "test" }))
      )
      const finding = theOnly(findings.filter(({ check }) => check === "privileges"))
      assert.strictEqual(finding.detail, `${role} lacks INSERT on outbox`)
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer))
  )

  it.live("sessions in which no trigger fires", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const silent = new URL(Redacted.value(url))
      silent.searchParams.set("options", "-c session_replication_role=replica")
      const findings = yield* diagnose(url).pipe(
        Effect.provide(repositories),
        Effect.provide(Database.layer({ url: Redacted.make(silent.href), connections: 1, name: "test" }))
      )
      assert.strictEqual(findings.find(({ check }) => check === "replication role")?.verdict, "trouble")
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("a pooler that swallows notifications", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      // A session on which a notification is taken and goes nowhere, as behind a transaction pooler.
      yield* run("CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT NULL::void'")
      const swallowing = new URL(Redacted.value(url))
      swallowing.searchParams.set("options", "-c search_path=public,pg_catalog")
      const findings = yield* diagnose(url).pipe(
        Effect.provide(repositories),
        Effect.provide(Database.layer({ url: Redacted.make(swallowing.href), connections: 1, name: "test" }))
      )
      const finding = findings.find(({ check }) => check === "LISTEN")
      assert.match(finding?.detail ?? "", /did not come back within 2s/)
      assert.include(finding?.cure, "DATABASE_LISTEN_URL")
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("a transaction that keeps old versions of rows, by its application", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const session = yield* PgConnection.make({ url, applicationName: "reporting" })
      yield* session.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
      yield* session.query("SELECT count(*)::int FROM game_sessions")
      const findings = yield* diagnose(url, Duration.zero)
      const finding = findings.find(({ check }) => check === "old snapshots")
      assert.strictEqual(finding?.verdict, "warning")
      assert.match(finding?.detail ?? "", /transaction of reporting \(pid \d+\)/)
    }).pipe(Effect.scoped, Effect.provide(fresh))
  )

  it.live("nothing of ours that is not in the catalogue, and forgets none of our triggers", () =>
    Effect.gen(function* () {
      const repository = yield* DiagnosisRepository
      assert.sameMembers(
        (yield* repository.triggers).map(({ name }) => name),
        expected.triggers
      )
      assert.includeMembers(
        (yield* repository.indexes).map(({ name }) => name),
        expected.indexes
      )
      const sql = yield* SqlClient.SqlClient
      const tables = yield* sql<{ readonly tablename: string }>`
        SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ${migrationsTable}`
      assert.sameMembers(
        tables.map(({ tablename }) => tablename),
        Object.keys(privileges)
      )
    }).pipe(Effect.provide(fresh))
  )
})

describe("kickoff doctor", () => {
  const doctor = (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) =>
    Effect.flatMap(TestDatabase, ({ url }) =>
      runProgram({ args: ["doctor", ...args], env: { DATABASE_URL: Redacted.value(url), ...env } })
    )

  it.live("exits 0 beside a service that is well, and 1 with the reason when its broker is not as declared", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const exchange = `doctor.${randomUUID()}`
      const env = { RABBITMQ_URL: inject("rabbitmqUrl"), RABBITMQ_EXCHANGE: exchange }
      const service = yield* startService({ env: { DATABASE_URL: Redacted.value(url), ...env } })
      yield* service.output(/This process relays the events/)
      const well = yield* doctor(env)
      assert.strictEqual(well.code, 0, `${well.stdout}${well.stderr}`)
      assert.match(well.stdout, /^ok {6}relay: one process relays the events$/m)
      assert.notMatch(well.stdout, /^(warning|TROUBLE)/m)

      const channel = yield* openChannel(inject("rabbitmqUrl"))
      const other = `doctor.${randomUUID()}`
      yield* Effect.promise(() => channel.assertExchange(other, "fanout"))
      const mismatched = yield* doctor({ ...env, RABBITMQ_EXCHANGE: other }, "--json")
      assert.strictEqual(mismatched.code, 1)
      const report: { readonly healthy: boolean; readonly findings: ReadonlyArray<Finding> } = JSON.parse(
        mismatched.stdout
      )
      assert.isFalse(report.healthy)
      assert.include(report.findings.find(({ check }) => check === "broker")?.detail, "exists with another 'type'")
      yield* Effect.promise(() => channel.deleteExchange(other))

      const missing = yield* doctor({ ...env, RABBITMQ_EXCHANGE: `doctor.${randomUUID()}` })
      assert.match(missing.stdout, /^warning broker: was missing and is declared anew: exchange doctor\./m)

      const away = yield* doctor({ ...env, RABBITMQ_URL: "amqp://user:s3cret@127.0.0.1:9" })
      assert.strictEqual(away.code, 1)
      assert.match(away.stdout, /^TROUBLE broker: .*ECONNREFUSED/m)
      assert.notInclude(`${away.stdout}${away.stderr}`, "s3cret")
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer))
  )

  it.live("names the roles that no process plays", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* startService({ env: { DATABASE_URL: Redacted.value(url), KICKOFF_ROLES: "api,outbox" } })
      const { code, stdout } = yield* doctor({})
      assert.strictEqual(code, 1)
      assert.match(
        stdout,
        /^TROUBLE processes: no process has a session for status-transitions; .* for notifications$/m
      )
      assert.match(stdout, /^warning broker: RABBITMQ_URL is not set/m)
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer))
  )
})
