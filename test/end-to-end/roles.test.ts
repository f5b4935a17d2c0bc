/**
 * The service under a role that may do no more than it must, with the statements of docs/security.md itself.
 *
 * Roles belong to the whole server, so those of a test have names of their own.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Queue, Redacted, Result } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { Database, sqlState } from "../../src/postgres/Database.ts"
import { consumeExchange, openChannel, readEvent } from "../messaging/consumer.ts"
import { eventually } from "../support/games.ts"
import { runProgram, startService } from "../support/service.ts"
import { makeTestDatabase } from "../support/TestDatabase.ts"

const page = readFileSync(fileURLToPath(new URL("../../docs/security.md", import.meta.url)), "utf8")

/** The statements of the page's blocks in SQL, block by block. */
const blocks = [...page.matchAll(/^```sql\n([^]*?)^```$/gm)].map(([, block = ""]) =>
  block
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "")
)

/** Runs statements as the role of a URL. */
const as = (url: string, statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    for (const statement of statements) yield* sql.unsafe(statement)
  }).pipe(Effect.provide(Database.layer({ url: Redacted.make(url), connections: 1, name: "test" })))

/** A database with the roles of the page, migrated by the one and open to the other. */
const makeWorld = Effect.fnUntraced(function* (server: string) {
  const suffix = randomBytes(6).toString("hex")
  const [owner, service] = [`owner_${suffix}`, `service_${suffix}`]
  // Before the database, so that they go after it.
  yield* Effect.addFinalizer(() =>
    Effect.orDie(as(server, [`DROP ROLE IF EXISTS ${owner}`, `DROP ROLE IF EXISTS ${service}`]))
  )
  const superuser = Redacted.value(yield* makeTestDatabase({ server, migrated: false }))
  const database = new URL(superuser).pathname.slice(1)
  const named = (statement: string) =>
    statement
      .replaceAll("kickoff_owner", owner)
      .replaceAll("kickoff_service", service)
      .replace(/DATABASE kickoff\b/, `DATABASE ${database}`)
      .replace("'…'", `'${suffix}'`)
  const urlOf = (role: string) => {
    const url = new URL(superuser)
    url.username = role
    url.password = suffix
    return url.href
  }
  const [roles = [], grants = []] = blocks
  yield* as(superuser, roles.map(named))
  const migrated = yield* runProgram({ args: ["migrate"], env: { DATABASE_URL: urlOf(owner) } })
  assert.strictEqual(migrated.code, 0, migrated.stderr)
  yield* as(urlOf(owner), grants.map(named))
  return { superuser, owner: urlOf(owner), service: urlOf(service), suffix }
})

describe.each([
  ["18", inject("postgresUrl")],
  ["15", inject("postgres15Url")]
])("the service under its own role, on PostgreSQL %s", (_, server) => {
  if (server === null) return

  it.live(
    "does everything that it is for, and the commands do too",
    () =>
      Effect.gen(function* () {
        const { service: DATABASE_URL, suffix, superuser } = yield* makeWorld(server)
        const RABBITMQ_URL = inject("rabbitmqUrl")
        const exchange = `test.${suffix}`
        const channel = yield* openChannel(RABBITMQ_URL)
        yield* Effect.acquireRelease(
          Effect.promise(() => channel.assertExchange(exchange, "topic", { alternateExchange: "kickoff.unrouted" })),
          () => Effect.promise(() => channel.deleteExchange(exchange))
        )
        const messages = yield* consumeExchange(RABBITMQ_URL, exchange)
        const next = Effect.map(Queue.take(messages), readEvent)
        // Something to forget, and something that was given up.
        yield* as(superuser, [
          `INSERT INTO ledger (recorded_at, replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
           VALUES (now() - interval '2 days', 'r', 'notification', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`,
          `INSERT INTO confirmations (confirmed_at, replica, event_ids) VALUES (now() - interval '2 days', 'r', '{}')`,
          `INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload, created_at)
           SELECT 'event', gen_random_uuid(), 'E', 'm', 8, jsonb_build_object('game_id', gen_random_uuid(), 'type', 'game.updated',
             'occurred_at', now(), 'due_at', NULL, 'data', '{}'::jsonb), now() + n * interval '1 second'
           FROM generate_series(1, 3) AS n`
        ])
        const env = {
          DATABASE_URL,
          RABBITMQ_URL,
          RABBITMQ_EXCHANGE: exchange,
          KICKOFF_MIGRATE: "false",
          KICKOFF_RETENTION: "1 day"
        }
        const service = yield* startService({ env })
        const call = (method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) =>
          Effect.promise(async () => {
            const response = await fetch(`${service.url}${path}`, {
              method,
              headers: { "content-type": "application/json", ...headers },
              ...(body === undefined ? {} : { body: JSON.stringify(body) })
            })
            const text = await response.text()
            assert.isBelow(response.status, 300, `${method} ${path}: ${text}`)
            // What the contract says of the answers; only what is used is named.
            return (text === "" || !text.startsWith("{") ? {} : JSON.parse(text)) as {
              readonly id: string
              readonly dead_letters: ReadonlyArray<{ readonly id: string }>
            }
          })
        const at = (millis: number) =>
          Effect.map(Clock.currentTimeMillis, (now) => new Date(now + millis).toISOString())
        const plan = { guild_id: "g", title: "a game", expected_duration_minutes: 0, reminder_minutes: [] }

        // The API, each of its use cases.
        const headers = { "idempotency-key": "k" }
        const far = { ...plan, expected_duration_minutes: 60, scheduled_at: yield* at(86_400_000) }
        const first = yield* call("POST", "/v1/games", far, headers)
        assert.strictEqual((yield* call("POST", "/v1/games", far, headers)).id, first.id)
        yield* call("PATCH", `/v1/games/${first.id}`, {
          title: "new",
          reminder_minutes: [5],
          scheduled_at: yield* at(90_000_000)
        })
        yield* call("GET", `/v1/games/${first.id}/schedule`)
        yield* call("PATCH", `/v1/games/${first.id}`, { status: "IN_PROGRESS" })
        yield* call("POST", `/v1/games/${first.id}/cancel`)
        yield* call("DELETE", `/v1/games/${first.id}`)
        const types: Array<string> = []
        while (types.at(-1) !== "game.deleted") types.push((yield* next).type)
        assert.deepStrictEqual(types, [
          "game.created",
          "game.updated",
          "game.started",
          "game.cancelled",
          "game.deleted"
        ])

        // The clock.
        const soon = yield* call("POST", "/v1/games", { ...plan, scheduled_at: yield* at(1000) })
        yield* as(DATABASE_URL, [
          `INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time) VALUES ('${soon.id}', 1, now())`
        ])
        const played: Array<string> = []
        while (played.at(-1) !== "game.completed") played.push((yield* next).type)
        assert.deepStrictEqual(played, ["game.created", "game.reminder_due", "game.started", "game.completed"])

        // Dead letters, by the API and by the command.
        const letters = (yield* call("GET", "/v1/dead-letters")).dead_letters.map(({ id }) => id)
        assert.lengthOf(letters, 3)
        yield* call("POST", `/v1/dead-letters/${letters[0]}/replay`)
        yield* call("POST", `/v1/dead-letters/${letters[1]}/discard`)
        assert.strictEqual((yield* next).type, "game.updated")

        // Retention.
        yield* eventually(
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            return yield* sql`
              SELECT 1 FROM ledger WHERE recorded_at < now() - interval '1 day'
              UNION ALL SELECT 1 FROM confirmations WHERE confirmed_at < now() - interval '1 day'`
          }).pipe(Effect.provide(Database.layer({ url: Redacted.make(superuser), connections: 1, name: "test" }))),
          (old) => old.length === 0
        )

        // The commands.
        for (const args of [
          ["status"],
          ["pause", "all"],
          ["resume", "all"],
          ["doctor"],
          ["verify"],
          ["backfill"],
          ["forecast"],
          ["explain", soon.id],
          ["dead-letters", "list"],
          ["dead-letters", "replay", letters[2] ?? ""]
        ]) {
          const ended = yield* runProgram({ args, env })
          assert.strictEqual(ended.code, 0, `${args.join(" ")}: ${ended.stdout}${ended.stderr}`)
        }
        for (const path of ["/health/ready", "/metrics"]) yield* call("GET", path)

        yield* service.stop
        // That it was paused is a warning, and meant.
        const lines = `${service.stdout()}${service.stderr()}`.replaceAll(/^.*"Nothing of the kind .*$/gm, "")
        assert.notMatch(lines, /permission denied|"level":"(warn|error|fatal)"/)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "cannot change the schema, what was done, or who may do what, nor reach beyond its database",
    () =>
      Effect.gen(function* () {
        const world = yield* makeWorld(server)
        yield* as(world.superuser, [
          `INSERT INTO ledger (replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
           VALUES ('r', 'notification', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`
        ])
        for (const statement of [
          "ALTER TABLE game_sessions ADD COLUMN x int",
          "ALTER TABLE game_sessions DISABLE TRIGGER ALL",
          "ALTER TABLE game_status_schedule DISABLE TRIGGER game_status_schedule_notify_insert",
          "ALTER TABLE outbox OWNER TO CURRENT_USER",
          "DROP TABLE outbox",
          "DROP TRIGGER game_status_schedule_notify_insert ON game_status_schedule",
          "DROP INDEX game_status_schedule_due_idx",
          "TRUNCATE game_sessions CASCADE",
          "TRUNCATE ledger",
          "CREATE TABLE x ()",
          "CREATE TEMPORARY TABLE x ()",
          "CREATE INDEX ON game_sessions (title)",
          "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
          "CREATE OR REPLACE FUNCTION forget_outcome() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
          "CREATE SCHEMA x",
          "CREATE ROLE x",
          "CREATE DATABASE x",
          "UPDATE ledger SET outcomes = '{applied}'",
          "UPDATE confirmations SET event_ids = '{}'",
          "DELETE FROM schema_migrations",
          "INSERT INTO schema_migrations (migration_id, name) VALUES (9999, 'x')",
          "SET session_replication_role = replica",
          "COPY game_sessions TO PROGRAM 'cat'",
          "COPY game_sessions TO '/tmp/x'",
          "SELECT pg_read_file('/etc/passwd')",
          "SELECT * FROM pg_authid"
        ]) {
          const result = yield* Effect.result(as(world.service, [statement]))
          assert.isTrue(Result.isFailure(result), statement)
          if (Result.isFailure(result)) assert.strictEqual(sqlState(result.failure), "42501", statement)
        }
        // The server warns of a grant by somebody who may not make it, and makes none.
        yield* as(world.service, ["GRANT ALL ON game_sessions TO PUBLIC"])
        yield* as(world.superuser, [
          `DO $$ BEGIN
             IF EXISTS (
               SELECT FROM information_schema.table_privileges WHERE grantee = 'PUBLIC' AND table_name = 'game_sessions'
             ) THEN RAISE EXCEPTION 'it was granted'; END IF;
           END $$`
        ])
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("says what it lacks when it is to migrate", () =>
    Effect.gen(function* () {
      const { service: DATABASE_URL } = yield* makeWorld(server)
      const { code, stderr } = yield* runProgram({ args: ["migrate"], env: { DATABASE_URL, LOG_FORMAT: "pretty" } })
      assert.strictEqual(code, 1)
      assert.match(
        stderr,
        /^kickoff: The database could not be migrated, nothing was changed: permission denied for .*\n$/
      )
    }).pipe(Effect.scoped)
  )
})
