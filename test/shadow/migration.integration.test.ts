/**
 * The page on moving from another system, followed step by step: every statement and every command of it is run as it
 * stands there, on a database where a simulated old system does the work, late and with a gap.
 *
 * Roles belong to the whole server, so those of a test have names of their own.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { Database } from "../../src/postgres/Database.ts"
import { consumeExchange, openChannel, readEvent } from "../messaging/consumer.ts"
import { eventually } from "../support/games.ts"
import { mainFile, startProcess, toItsEnd, untilReady } from "../support/service.ts"
import { makeTestDatabase } from "../support/TestDatabase.ts"

const docs = fileURLToPath(new URL("../../docs", import.meta.url))
const read = (file: string) => readFileSync(join(docs, file), "utf8")

interface Block {
  readonly language: string
  readonly text: string
}

/** Those of a page that are to be run; some stand in a list. */
const blocksOf = (page: string): ReadonlyArray<Block> =>
  [...page.matchAll(/^( *)```(sql|sh)\n([^]*?)^\1```$/gm)].map(([, indentation = "", language = "", text = ""]) => ({
    language,
    text: text.replaceAll(new RegExp(`^${indentation}`, "gm"), "").trim()
  }))

const page = blocksOf(read(readdirSync(docs).find((file) => file.startsWith("MIGRATING_FROM_")) ?? ""))

/** The statements of a block; bodies of functions have semicolons of their own. */
const statementsOf = (text: string): ReadonlyArray<string> => {
  const bodies: Array<string> = []
  const folded = text.replaceAll(/\$\$[^]*?\$\$/g, (body) => `«${bodies.push(body) - 1}»`)
  return folded
    .split(";")
    .map((statement) => statement.replaceAll(/«(\d+)»/g, (_, index) => bodies[Number(index)] ?? "").trim())
    .filter((statement) => statement !== "")
}

/** The old system's tables, as such tables are: ids are texts or UUIDs, instants say no zone, reminders are JSON. */
const oldTables = (id: string) => [
  `CREATE TABLE public.game_sessions (
     id ${id} PRIMARY KEY DEFAULT gen_random_uuid(), guild_id varchar(20) NOT NULL, channel_id varchar(20),
     host_id varchar(20), title varchar(200) NOT NULL, description text, status varchar(20) NOT NULL DEFAULT 'scheduled',
     scheduled_at timestamp NOT NULL, expected_duration_minutes integer, reminder_minutes json
   )`,
  `CREATE TABLE public.reminders_sent (game_id ${id}, minutes integer, PRIMARY KEY (game_id, minutes))`
]

/** How late the old system is at least, as one that looks once in a while. */
const late = "interval '1500 milliseconds'"

/** What it does whenever it looks; it never gets to games that are called "forgotten". */
const beatStatements = [
  `UPDATE public.game_sessions SET status = 'in_progress'
   WHERE status = 'scheduled' AND title <> 'forgotten' AND scheduled_at <= (now() AT TIME ZONE 'UTC') - ${late}`,
  `UPDATE public.game_sessions SET status = 'completed'
   WHERE status = 'in_progress'
     AND scheduled_at + make_interval(mins => expected_duration_minutes) <= (now() AT TIME ZONE 'UTC') - ${late}`
]

const follow = (server: string, id: string) =>
  Effect.gen(function* () {
    const suffix = randomBytes(6).toString("hex")
    const rabbitmq = inject("rabbitmqUrl")
    const exchange = `test.${suffix}`
    const roles = { owner: `owner_${suffix}`, service: `service_${suffix}`, app: `app_${suffix}` }
    /** The page's names as those of this test. */
    const named = (text: string) =>
      text
        .replaceAll("kickoff_owner", roles.owner)
        .replaceAll("kickoff_service", roles.service)
        .replaceAll(/\bTO app\b/g, `TO ${roles.app}`)
        .replaceAll("DATABASE games", `DATABASE ${database}`)
        .replaceAll("'…'", `'${suffix}'`)
        .replaceAll("amqp://kickoff:…@broker.example", rabbitmq)

    const as =
      (url: string) =>
      (text: string, parameters: ReadonlyArray<unknown> = []) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          let rows: ReadonlyArray<Readonly<Record<string, unknown>>> = []
          for (const statement of statementsOf(text))
            rows = yield* sql.unsafe<Readonly<Record<string, unknown>>>(named(statement), parameters)
          return rows
        }).pipe(Effect.provide(Database.layer({ url: Redacted.make(url), connections: 1, name: "test" })))

    // Before the database, so that they go after it.
    yield* Effect.addFinalizer(() =>
      Effect.orDie(Effect.forEach(Object.values(roles), (role) => as(server)(`DROP ROLE IF EXISTS ${role}`)))
    )
    const superuserUrl = Redacted.value(yield* makeTestDatabase({ server, migrated: false }))
    const database = new URL(superuserUrl).pathname.slice(1)
    const urlOf = (role: string) => Object.assign(new URL(superuserUrl), { username: role, password: suffix }).href
    const superuser = as(superuserUrl)
    const owner = as(urlOf(roles.owner))
    const app = as(urlOf(roles.app))

    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    )
    writeFileSync(join(folder, "kickoff"), `#!/bin/sh\nexec '${process.execPath}' '${mainFile}' "$@"\n`)
    chmodSync(join(folder, "kickoff"), 0o755)
    const variables: Record<string, string> = {
      PATH: `${folder}:${process.env["PATH"] ?? ""}`,
      OWNER: urlOf(roles.owner),
      SERVICE: urlOf(roles.service),
      HTTP_PORT: "0",
      LOG_FORMAT: "json",
      RABBITMQ_EXCHANGE: exchange
    }
    const shell = (text: string) => startProcess(() => spawn("bash", ["-euc", text], { cwd: folder, env: variables }))
    const toEnd = (text: string) =>
      Effect.map(toItsEnd(shell(named(text))), (ended) => {
        assert.strictEqual(ended.code, 0, `${text}\n${ended.stdout}${ended.stderr}`)
        return ended.stdout
      })
    /** A process that goes on, in place of its shell, which would keep a signal from it. */
    const serve = (text: string) =>
      Effect.flatMap(shell(named(text).replace(/\bkickoff serve$/, "exec kickoff serve")), (program) =>
        untilReady(program)
      )

    const left = [...page]
    /** The next block of the page, which must have this in it. */
    const next = (language: string, part: string): string => {
      const block = left.shift()
      assert.strictEqual(block?.language, language, `${part}: ${block?.text}`)
      assert.include(block?.text, part)
      return block?.text ?? ""
    }

    /** Plans a game as the application does. */
    const plan = (
      title: string,
      startsIn: string,
      more: { readonly reminders?: string; readonly status?: string } = {}
    ) =>
      Effect.map(
        app(
          `INSERT INTO public.game_sessions (guild_id, title, status, scheduled_at, expected_duration_minutes, reminder_minutes)
           VALUES ('guild', $1, $2, (now() AT TIME ZONE 'UTC') + $3::interval, 0, $4::json) RETURNING id`,
          [title, more.status ?? "scheduled", startsIn, more.reminders ?? "[]"]
        ),
        ([row]) => String(row?.["id"])
      )
    const statusOf = (id: string) =>
      Effect.map(app("SELECT status FROM public.game_sessions WHERE id = $1", [id]), ([row]) => row?.["status"])

    yield* superuser(oldTables(id).join(";"))
    yield* superuser(`CREATE ROLE ${roles.app} LOGIN PASSWORD '${suffix}'`)
    yield* superuser(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${roles.app}`)
    const upcoming = yield* plan("upcoming", "1 hour", { reminders: "[90, 15]" })
    yield* plan("over", "-2 hours", { status: "completed" })
    yield* app("UPDATE public.game_sessions SET expected_duration_minutes = 60 WHERE id = $1", [
      yield* plan("running", "-30 minutes", { status: "in_progress" })
    ])

    // 1. A schema of its own
    yield* superuser(next("sql", "CREATE SCHEMA kickoff"))
    assert.include(next("sh", "OWNER="), "SERVICE=")
    assert.include(yield* toEnd(next("sh", "kickoff migrate")), "Applied 0001_create_tables")
    const grants = blocksOf(read("security.md")).find(({ text }) => text.includes("GRANT SELECT ON schema_migrations"))
    yield* owner(grants?.text ?? "")

    // 2. Following the games
    yield* superuser(next("sql", "CREATE FUNCTION kickoff.follow"))
    yield* superuser(next("sql", "CREATE TRIGGER kickoff_follow"))
    const findStrays = next("sql", "FULL JOIN")
    assert.deepStrictEqual(yield* superuser(findStrays), [])
    const backfill = next("sh", "kickoff backfill")
    assert.strictEqual(yield* toEnd(backfill), "Nothing to plan, every game has its rows\n")
    const planned = yield* superuser(
      `SELECT title, array_agg(target_status ORDER BY target_status) AS targets
       FROM kickoff.game_sessions AS game JOIN kickoff.game_status_schedule AS row ON row.game_id = game.id
       GROUP BY title ORDER BY title`
    )
    assert.deepStrictEqual(planned, [
      { title: "running", targets: ["COMPLETED"] },
      { title: "upcoming", targets: ["COMPLETED", "IN_PROGRESS"] }
    ])
    const reminders = superuser(
      `SELECT row.reminder_minutes AS minutes, row.sent FROM kickoff.notification_schedule AS row WHERE game_id = $1::uuid
       ORDER BY minutes`,
      [upcoming]
    )
    assert.deepStrictEqual(yield* reminders, [{ minutes: 15, sent: false }])
    // What the application changes is followed, and what Kickoff cannot take is the application's all the same.
    yield* app("UPDATE public.game_sessions SET reminder_minutes = '[30, 20]' WHERE id = $1", [upcoming])
    assert.deepStrictEqual(
      (yield* reminders).map(({ minutes }) => minutes),
      [20, 30]
    )
    const strange = yield* plan("strange", "1 hour", { status: "postponed" })
    assert.strictEqual(yield* statusOf(strange), "postponed")
    yield* app("UPDATE public.game_sessions SET status = 'scheduled' WHERE id = $1", [strange])
    yield* app("DELETE FROM public.game_sessions WHERE id = $1", [strange])
    assert.deepStrictEqual(yield* superuser(findStrays), [])

    // 3. The shadow
    yield* toEnd(next("sh", "kickoff shadow begin"))
    const unable = yield* toItsEnd(shell("DATABASE_URL=$SERVICE kickoff doctor"))
    assert.match(
      unable.stdout,
      /^TROUBLE privileges: .*lacks SELECT on shadow_run; .*lacks INSERT on shadow_decisions/m
    )
    const grantRecord = next("sql", "shadow_decisions TO kickoff_service")
    yield* owner(grantRecord)
    const serveShadow = next("sh", "KICKOFF_SHADOW=true")
    const shadow = yield* serve(serveShadow)
    yield* superuser(next("sql", "GRANT USAGE ON SCHEMA kickoff TO app"))
    const markSent = next("sql", "SET sent = TRUE")

    const beat = Effect.gen(function* () {
      for (const statement of beatStatements) yield* app(statement)
      const due = yield* app(
        `INSERT INTO public.reminders_sent
         SELECT id, minutes::int FROM public.game_sessions, json_array_elements_text(reminder_minutes) AS minutes
         WHERE status = 'scheduled'
           AND scheduled_at - make_interval(mins => minutes::int) <= (now() AT TIME ZONE 'UTC') - ${late}
         ON CONFLICT DO NOTHING RETURNING *`
      )
      for (const { game_id, minutes } of due) yield* app(markSent, [game_id, minutes])
    }).pipe(Effect.repeat(Schedule.spaced("200 millis")))

    const oldSystem = yield* Effect.forkScoped(beat)
    const played = yield* plan("played", "2 seconds")
    const forgotten = yield* plan("forgotten", "2 seconds")
    const called = yield* plan("called off", "2 seconds")
    yield* app("UPDATE public.game_sessions SET status = 'cancelled' WHERE id = $1", [called])
    const reminded = yield* plan("reminded", "1 hour 2 seconds", { reminders: "[60]" })
    const moved = yield* plan("moved", "1 hour")
    yield* app(
      "UPDATE public.game_sessions SET scheduled_at = (now() AT TIME ZONE 'UTC') + interval '2 seconds' WHERE id = $1",
      [moved]
    )
    for (const id of [played, moved]) yield* eventually(statusOf(id), (status) => status === "completed")
    yield* eventually(
      superuser("SELECT FROM kickoff.shadow_changes WHERE kind = 'notification'"),
      (rows) => rows.length > 0
    )
    // Two rows of three games, and a reminder.
    yield* eventually(superuser("SELECT FROM kickoff.shadow_decisions"), (rows) => rows.length === 7)
    assert.strictEqual(yield* statusOf(forgotten), "scheduled")

    // 4. The report
    const report = next("sh", "kickoff shadow report")
    const shown = yield* toItsEnd(shell(named(report)))
    assert.match(shown.stdout, /^3 starts +other system +/m)
    // With a tolerance of which no machine is too slow.
    const exact: unknown = JSON.parse(
      yield* toEnd(`${report} --tolerance "60 seconds" --missed-after "0 seconds" --json`)
    )
    assert.deepNestedInclude(exact, {
      ready: true,
      "lines[0].target": "IN_PROGRESS",
      "lines[0].due": 3,
      "lines[0].both_on_time": 2,
      "lines[0].other_system.missed": 1,
      "lines[1].target": "COMPLETED",
      "lines[1].due": 3,
      "lines[2].target": "reminder",
      "lines[2].both_on_time": 1,
      "examples[0].game_id": forgotten
    })
    const strict: unknown = JSON.parse((yield* toItsEnd(shell(named(`${report} --json`)))).stdout)
    assert.deepNestedInclude(strict, { "lines[0].other_system.late": 2, "lines[2].other_system.late": 1 })
    assert.deepStrictEqual(yield* superuser("SELECT FROM kickoff.outbox UNION ALL SELECT FROM kickoff.ledger"), [])

    // 5. The cut-over
    const channel = yield* openChannel(rabbitmq)
    yield* Effect.addFinalizer(() => Effect.promise(() => channel.deleteExchange(exchange)))
    const doctorInShadow = yield* toEnd(next("sh", "kickoff doctor"))
    assert.match(doctorInShadow, /^warning shadow: /m)
    const messages = yield* consumeExchange(rabbitmq, exchange)
    const keepStarted = next("sql", "SET status = 'IN_PROGRESS'")
    const keepCompleted = next("sql", "SET status = 'COMPLETED'")
    const told: Array<string> = []
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.flatMap(Queue.take(messages), (message) => {
          const { subject, type } = readEvent(message)
          told.push(`${type} ${subject}`)
          // The page spells statuses as Kickoff does; this application writes them in small letters.
          const keep = (text: string) =>
            app(
              text.replaceAll(/'[A-Z_]+'/g, (status) => status.toLowerCase()),
              [subject]
            )
          return type === "game.started"
            ? keep(keepStarted)
            : type === "game.completed"
              ? keep(keepCompleted)
              : Effect.void
        })
      )
    )
    const findMissed = next("sql", "row.transition_time < now() - interval '5 minutes'")
    assert.deepStrictEqual(yield* superuser(findMissed), [])
    yield* superuser(
      "UPDATE kickoff.game_status_schedule SET transition_time = now() - interval '1 hour' WHERE game_id = $1::uuid",
      [forgotten]
    )
    const missed = yield* superuser(findMissed)
    assert.deepStrictEqual(
      missed.map(({ title }) => title),
      ["forgotten", "forgotten"]
    )
    assert.deepStrictEqual(yield* superuser(findStrays), [])

    yield* Fiber.interrupt(oldSystem)
    const stopped = yield* toEnd(`${next("sh", "STOPPED=")}; printf %s "$STOPPED"`)
    variables["STOPPED"] = stopped
    assert.deepStrictEqual(yield* shadow.stop, { code: 0, signal: null })
    // What becomes due between the two.
    const between = yield* plan("between", "0 seconds")
    const handOver = next("sh", "kickoff shadow end").split("\n")
    assert.lengthOf(handOver, 3)
    const [keepReport = "", end = "", forecast = ""] = handOver
    yield* toItsEnd(shell(named(keepReport)))
    assert.deepNestedInclude(JSON.parse(readFileSync(join(folder, "shadow.json"), "utf8")), {
      "lines[0].target": "IN_PROGRESS"
    })
    const handedOver = yield* toEnd(end)
    assert.match(
      handedOver,
      /^Left for Kickoff, which does it as soon as it starts: 2 starts, 2 completions, 0 reminders$/m
    )
    assert.match(yield* toEnd(forecast), /^\d+ starts, \d+ completions and \d+ reminders in the next hour/)

    const service = yield* serve(next("sh", "RABBITMQ_URL=amqp://kickoff:…@broker.example kickoff serve"))
    for (const id of [forgotten, between]) yield* eventually(statusOf(id), (status) => status === "completed")
    const onTime = yield* plan("on time", "1 second", { reminders: "[]" })
    yield* eventually(statusOf(onTime), (status) => status === "completed")
    assert.sameMembers(
      told,
      [forgotten, between, onTime].flatMap((id) => [`game.started ${id}`, `game.completed ${id}`])
    )
    // Neither what the old system has done is done again, nor does an edit over there take anything back.
    yield* app("UPDATE public.game_sessions SET title = 'edited', status = 'scheduled' WHERE id = $1", [onTime])
    const after = yield* superuser("SELECT title, status FROM kickoff.game_sessions WHERE id = $1::uuid", [onTime])
    assert.deepStrictEqual(after, [{ title: "edited", status: "COMPLETED" }])
    assert.deepStrictEqual(
      yield* superuser("SELECT sent FROM kickoff.notification_schedule WHERE game_id = $1::uuid", [reminded]),
      [{ sent: true }]
    )
    const checks = next("sh", "kickoff verify").split("\n")
    assert.lengthOf(checks, 3)
    const [status = "", doctor = "", verify = ""] = checks
    assert.match(yield* toEnd(status), /relays/)
    assert.notMatch(yield* toEnd(doctor), /^TROUBLE/m)
    assert.notMatch(yield* toEnd(verify), /^FAIL/m)

    const dropFollowing = next("sql", "DROP TRIGGER kickoff_follow")

    // The way back
    assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
    const repaired = yield* superuser(next("sql", "RETURNING theirs.id, theirs.status"))
    assert.deepStrictEqual(repaired, [{ id: onTime, status: "COMPLETED" }])
    assert.deepStrictEqual(yield* superuser(next("sql", "sent_at")), [])
    yield* toEnd(next("sh", "kickoff shadow begin"))
    yield* owner(grantRecord)
    const again = yield* plan("again", "2 seconds")
    yield* Effect.forkScoped(beat)
    const shadowAgain = yield* serve(serveShadow)
    yield* eventually(statusOf(again), (status) => status === "completed")
    yield* eventually(superuser("SELECT FROM kickoff.shadow_decisions"), (rows) => rows.length === 2)
    yield* shadowAgain.stop
    assert.isFalse(told.some((event) => event.includes(again)))

    yield* superuser(dropFollowing)
    const unseen = yield* plan("unseen", "1 hour")
    assert.deepStrictEqual(yield* superuser("SELECT FROM kickoff.game_sessions WHERE id = $1::uuid", [unseen]), [])
    assert.deepStrictEqual(left, [], "every block of the page was run")
  }).pipe(Effect.scoped)

describe.each([
  ["18", "varchar(36)", inject("postgresUrl")],
  ["15", "uuid", inject("postgres15Url")]
])("the page on moving from another system, on PostgreSQL %s, with ids of the type %s", (_, id, server) => {
  if (server === null) return
  it.live("leads from the old system to Kickoff and back", () => follow(server, id), 180_000)
})
