/**
 * Every alert, fired by the fault that it tells of: in real processes on real servers, whose metrics Prometheus' rules judge.
 *
 * Where a runbook leads to a culprit, its queries must name it here, and what it says to do must put things right. A process
 * asks its database for metrics at most every nine seconds, so a fault is planted before the first scrape where it can be.
 */
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Metric, Redacted, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import { Health } from "../../src/observability/Health.ts"
import * as Metrics from "../../src/observability/Metrics.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { relayLock } from "../../src/outbox/relayLock.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import { run as runLoop } from "../../src/scheduling/DueLoop.ts"
import { MemorySchedule } from "../../src/scheduling/MemoryDueRepository.ts"
import { roles, Settings } from "../../src/Settings.ts"
import { alerts } from "../support/alerts.ts"
import { findFaketime, wrongClock } from "../support/faketime.ts"
import { eventually, getGame, insertGame, insertTransition } from "../support/games.ts"
import { makeBroker } from "../support/rabbitmq.ts"
import { acceptGames, refuseGames } from "../support/refuse.ts"
import { brokerCommands, hasPlaceholder, operationsPage, runbookCommands, words } from "../support/runbooks.ts"
import { freePort, runProgram, type Service, startService } from "../support/service.ts"
import { makeTcpProxy } from "../support/TcpProxy.ts"
import { makeTestDatabase, TestDatabase } from "../support/TestDatabase.ts"
import { assertFiring, type Phase, scrapeOf, scrapeUntil, valueIn } from "../support/timeline.ts"

type Environment = Readonly<Record<string, string>>

const fired = new Set<string>()

/** A test of a database of its own, after which these alerts have fired. */
const fault = <E>(
  name: string,
  names: ReadonlyArray<string>,
  test: Effect.Effect<void, E, TestDatabase | SqlClient.SqlClient | Scope.Scope>
) => {
  for (const each of names) fired.add(each)
  it.live(`${names.join(", ")}: ${name}`, () => test.pipe(Effect.scoped, Effect.provide(TestDatabase.layerWith({}))))
}

const environment = Effect.map(TestDatabase, ({ url }): Environment => ({
  DATABASE_URL: Redacted.value(url),
  RABBITMQ_URL: inject("rabbitmqUrl")
}))

/** A process that listens to nobody yet. */
const startDeaf = (env: Environment = {}, args: ReadonlyArray<string> = []) =>
  Effect.flatMap(environment, (given) => startService({ args, env: { ...given, ...env } }))

const readinessOf = (service: Service) =>
  Effect.flatMap(service.get("/health/ready"), (answer) => Effect.promise(() => answer.text()))

/** A process that is well: it also hears the database's notifications. */
const start = (env?: Environment, args?: ReadonlyArray<string>) =>
  Effect.tap(startDeaf(env, args), (service) =>
    eventually(readinessOf(service), (body) => body.includes('"listener":{"state":"ok"'))
  )

const untilRelaying = (service: Service) => service.output(/This process relays the events/)

/** One that has taken the relay's lock besides. */
const startRelay = (env?: Environment) => Effect.tap(start(env), untilRelaying)

const kickoff = (...args: ReadonlyArray<string>) => Effect.flatMap(environment, (env) => runProgram({ args, env }))

type Row = Readonly<Record<string, unknown>>

const run = (statement: string) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Row>(statement))

/** Answers the rows of the queries of a runbook, all of them together. */
const look = (runbook: string) =>
  Effect.gen(function* () {
    const queries = runbookCommands(operationsPage).filter(
      (command) => command.runbook === runbook && command.text.startsWith("SELECT") && !hasPlaceholder(command)
    )
    assert.isNotEmpty(queries, runbook)
    return (yield* Effect.forEach(queries, ({ text }) => run(text))).flat()
  })

/** Ends the session that a runbook has found. */
const terminate = (rows: ReadonlyArray<Row>, application: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const pid = rows.find((row) => row["application_name"] === application)?.["pid"]
    assert.isNumber(pid, `no session of ${application}`)
    yield* sql`SELECT pg_terminate_backend(${Number(pid)}::int)`
  })

/** A session of another application, with statements that it has run. */
const anotherApplication = Effect.fnUntraced(function* (name: string, statements: ReadonlyArray<string>) {
  const { url } = yield* TestDatabase
  const session = yield* PgConnection.make({ url, applicationName: name })
  for (const statement of statements) yield* session.query(statement)
})

/** A role that may do what the service does and read no statistics of others; `revoke` takes something away from it. */
const asServiceRole = Effect.fnUntraced(function* (revoke: ReadonlyArray<string> = []) {
  const { url } = yield* TestDatabase
  const role = `service_${randomBytes(6).toString("hex")}`
  yield* Effect.acquireRelease(run(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'`), () =>
    Effect.orDie(Effect.andThen(run(`DROP OWNED BY ${role}`), run(`DROP ROLE ${role}`)))
  )
  yield* run(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role}`)
  for (const what of revoke) yield* run(`REVOKE ${what} FROM ${role}`)
  const address = new URL(Redacted.value(url))
  Object.assign(address, { username: role, password: role })
  return { role, env: { DATABASE_URL: address.href, KICKOFF_MIGRATE: "false" } }
})

/** The same server through a proxy, for which `port` of the URL is another one. */
const through = (url: string, port: number) => {
  const address = new URL(url)
  address.port = String(port)
  return address.href
}

const portOf = (url: string) => Number(new URL(url).port)

const isStarted = (id: string) => eventually(getGame(id), ({ status }) => status === "IN_PROGRESS")

describe.concurrent("fired by the fault that it tells of,", { timeout: 180_000 }, () => {
  fault(
    "a process is killed, then starts again and again",
    ["KickoffDown", "KickoffRestarts"],
    Effect.gen(function* () {
      const a = yield* scrapeOf(yield* startRelay())
      const other = yield* start()
      const phases: Array<Phase> = [{ scrapes: { a, b: yield* scrapeOf(other) }, minutes: 10, fires: [] }]
      yield* other.crash
      phases.push({ scrapes: { a, b: yield* scrapeOf(other) }, minutes: 3, fires: ["KickoffDown"] })
      for (const fires of [[], [], ["KickoffRestarts"]]) {
        const again = yield* start()
        phases.push({ scrapes: { a, b: yield* scrapeOf(again) }, minutes: 0.5, fires })
        yield* again.crash
      }
      yield* assertFiring(phases)
    })
  )

  fault(
    "a game is started a quarter of a minute after its time, as after an outage",
    ["KickoffLate", "KickoffVeryLate"],
    Effect.gen(function* () {
      const service = yield* startRelay()
      const before = yield* scrapeOf(service)
      yield* insertTransition(yield* insertGame(-15_000), "IN_PROGRESS", -15_000)
      const count = "kickoff_lateness_confirmed_seconds_count"
      const after = yield* scrapeUntil(service, count, (value) => value > 0, { type: "game.started" })
      yield* assertFiring([
        { scrapes: { a: before }, minutes: 6, fires: [] },
        { scrapes: { a: after }, minutes: 3, fires: ["KickoffLate", "KickoffVeryLate"] },
        { scrapes: { a: after }, minutes: 6, fires: [] }
      ])
    })
  )

  fault(
    "another application keeps a game locked that is due",
    ["KickoffOverdue"],
    Effect.gen(function* () {
      const game = yield* insertGame(-60_000)
      yield* insertTransition(game, "IN_PROGRESS", -60_000)
      yield* anotherApplication("editor", ["BEGIN", `SELECT FROM game_sessions WHERE id = '${game}' FOR UPDATE`])
      const a = yield* scrapeOf(yield* startRelay())
      yield* assertFiring([{ scrapes: { a }, minutes: 2, fires: ["KickoffOverdue"] }])
      const rows = yield* look("KickoffOverdue")
      assert.deepInclude(
        rows.map((row) => row["game_id"]),
        game
      )
      yield* terminate(rows, "editor")
      yield* isStarted(game)
    })
  )

  fault(
    "no process plays the role of a game that is due",
    ["KickoffOverdue", "KickoffRoleUnplayed"],
    Effect.gen(function* () {
      const game = yield* insertGame(-60_000)
      yield* insertTransition(game, "IN_PROGRESS", -60_000)
      const others = roles.filter((role) => role !== "status-transitions")
      const other = yield* start({}, ["serve", "--roles", others.join(",")])
      const before = yield* scrapeOf(other)
      const played = yield* start({}, ["serve", "--roles", "status-transitions"])
      yield* isStarted(game)
      const b = yield* scrapeOf(played)
      const labels = { kind: "status-transition" }
      const after = yield* scrapeUntil(other, "kickoff_overdue_rows", (overdue) => overdue === 0, labels)
      yield* assertFiring([
        { scrapes: { a: before }, minutes: 2, fires: ["KickoffOverdue", "KickoffRoleUnplayed"] },
        // It came a minute late.
        { scrapes: { a: after, b }, minutes: 2, fires: ["KickoffLate", "KickoffVeryLate"] }
      ])
    })
  )

  fault(
    "somebody has paused the reminders and forgotten it",
    ["KickoffPaused"],
    Effect.gen(function* () {
      assert.strictEqual((yield* kickoff("pause", "notification")).code, 0)
      const service = yield* startRelay()
      const paused = yield* scrapeOf(service)
      assert.strictEqual((yield* kickoff("resume", "notification")).code, 0)
      const resumed = yield* scrapeUntil(service, "kickoff_paused", (value) => value === 0, { kind: "notification" })
      yield* assertFiring([
        { scrapes: { a: paused }, minutes: 16, fires: ["KickoffPaused"] },
        { scrapes: { a: resumed }, minutes: 1, fires: [] }
      ])
    })
  )

  fault(
    "a trigger of somebody else's refuses every start",
    ["KickoffDeadLetters", "KickoffGivingUp"],
    Effect.gen(function* () {
      const service = yield* startRelay({ KICKOFF_MAX_ATTEMPTS: "1" })
      const before = yield* scrapeOf(service)
      yield* refuseGames()
      const games = yield* Effect.forEach(Array.from({ length: 12 }), () => insertGame(0))
      for (const game of games) yield* insertTransition(game, "IN_PROGRESS", 0)
      const after = yield* scrapeUntil(service, "kickoff_dead_letters_open", (open) => open === games.length, {
        kind: "status-transition"
      })
      yield* assertFiring([
        { scrapes: { a: before }, minutes: 5, fires: [] },
        { scrapes: { a: after }, minutes: 3, fires: ["KickoffDeadLetters", "KickoffGivingUp"] }
      ])
      const [worst] = yield* look("KickoffGivingUp")
      assert.deepInclude(worst, { kind: "status-transition", count: BigInt(games.length) })
      assert.match(String(worst?.["message"]), /this game is refused/)
      yield* acceptGames
      assert.strictEqual((yield* kickoff("dead-letters", "replay", "--all")).code, 0)
      for (const game of games) yield* isStarted(game)
    })
  )

  fault(
    "RabbitMQ is short of memory, and an event has waited for ten minutes",
    ["KickoffBrokerBlocked", "KickoffOutboxAgeing"],
    Effect.gen(function* () {
      const broker = yield* Effect.acquireRelease(
        Effect.promise(() => makeBroker()),
        (broker) => Effect.promise(() => broker.stop())
      )
      const service = yield* startRelay({ RABBITMQ_URL: broker.url })
      yield* Effect.promise(() => broker.ctl("set_vm_memory_high_watermark", "0.0000001"))
      yield* eventually(
        Effect.promise(() => broker.tool("rabbitmq-diagnostics", "-q", "alarms")),
        (alarms) => alarms.includes("Memory alarm")
      )
      const planned = yield* service.post("/v1/games", {
        guild_id: "guild",
        title: "Friday raid",
        scheduled_at: "2099-05-01T20:00:00Z"
      })
      assert.strictEqual(planned.status, 201)
      yield* run("UPDATE outbox SET occurred_at = now() - interval '10 minutes'")
      const blocked = yield* scrapeUntil(service, "kickoff_broker_blocked", (value) => value === 1)
      yield* assertFiring([
        { scrapes: { a: blocked }, minutes: 3, fires: ["KickoffBrokerBlocked", "KickoffOutboxAgeing"] }
      ])
      const [event] = yield* look("KickoffOutboxAgeing")
      assert.deepInclude(event, { type: "game.created", attempts: 0 })
      const said = yield* Effect.forEach(brokerCommands, (command) => {
        const [program = "", ...args] = words(command)
        return Effect.promise(() => broker.tool(program, ...args))
      })
      assert.match(said.join("\n"), /Memory alarm/)
      assert.match(said.join("\n"), /^kickoff\.unrouted\t/m)
      yield* Effect.promise(() => broker.ctl("set_vm_memory_high_watermark", "0.4"))
      yield* eventually(run("SELECT FROM outbox"), (left) => left.length === 0)
    })
  )

  fault(
    "a process has lost its broker",
    ["KickoffBrokerAway"],
    Effect.gen(function* () {
      const url = inject("rabbitmqUrl")
      const proxy = yield* makeTcpProxy(portOf(url))
      const service = yield* startRelay({ RABBITMQ_URL: through(url, proxy.port) })
      const before = yield* scrapeUntil(service, "kickoff_broker_connected", (value) => value === 1)
      yield* proxy.redirect(yield* freePort)
      const away = yield* scrapeUntil(service, "kickoff_broker_connected", (value) => value === 0)
      yield* proxy.redirect(portOf(url))
      const back = yield* scrapeUntil(service, "kickoff_broker_connected", (value) => value === 1)
      yield* assertFiring([
        { scrapes: { a: before }, minutes: 2, fires: [] },
        { scrapes: { a: away }, minutes: 2, fires: ["KickoffBrokerAway"] },
        { scrapes: { a: back }, minutes: 2, fires: [] }
      ])
    })
  )

  fault(
    "a pooler swallows the notifications",
    ["KickoffListenerDown"],
    Effect.gen(function* () {
      // A server that takes LISTEN and NOTIFY and delivers nothing, as a transaction pooler does.
      yield* run("CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT NULL::void'")
      const { DATABASE_URL = "" } = yield* environment
      const swallowing = new URL(DATABASE_URL)
      swallowing.searchParams.set("options", "-c search_path=public,pg_catalog")
      const service = yield* Effect.tap(startDeaf({ DATABASE_LISTEN_URL: swallowing.href }), untilRelaying)
      yield* service.output(/DATABASE_LISTEN_URL must lead to PostgreSQL directly/)
      yield* assertFiring([{ scrapes: { a: yield* scrapeOf(service) }, minutes: 2, fires: ["KickoffListenerDown"] }])
      const sessions = yield* look("KickoffListenerDown")
      assert.isTrue(sessions.some((row) => String(row["application_name"]).startsWith("kickoff:listener@")))
    })
  )

  fault(
    "somebody else holds the relay's lock",
    ["KickoffNoRelay"],
    Effect.gen(function* () {
      yield* anotherApplication("forgotten", [`SELECT pg_advisory_lock(${relayLock})`])
      const service = yield* start()
      yield* assertFiring([{ scrapes: { a: yield* scrapeOf(service) }, minutes: 2, fires: ["KickoffNoRelay"] }])
      const holders = yield* look("KickoffNoRelay")
      assert.deepInclude(holders[0], { application_name: "forgotten", granted: true })
      yield* terminate(holders, "forgotten")
      yield* untilRelaying(service)
      const relaying = yield* scrapeUntil(service, "kickoff_relay_leader", (value) => value === 1)
      yield* assertFiring([{ scrapes: { a: relaying }, minutes: 2, fires: [] }])
    })
  )

  fault(
    "processes of one job work on two databases",
    ["KickoffTwoRelays"],
    Effect.gen(function* () {
      const another = Redacted.value(yield* makeTestDatabase())
      const a = yield* scrapeUntil(yield* startRelay(), "kickoff_relay_leader", (value) => value === 1)
      const b = yield* scrapeUntil(
        yield* startRelay({ DATABASE_URL: another }),
        "kickoff_relay_leader",
        (value) => value === 1
      )
      yield* assertFiring([
        { scrapes: { a }, minutes: 3, fires: [] },
        { scrapes: { a, b }, minutes: 3, fires: ["KickoffTwoRelays"] }
      ])
    })
  )

  fault(
    "the database is away, and with it the relay's lock, the listener's session and the API's answers",
    ["KickoffDatabaseAway", "KickoffListenerDown", "KickoffNoRelay", "KickoffServerErrors"],
    Effect.gen(function* () {
      const { DATABASE_URL = "" } = yield* environment
      const proxy = yield* makeTcpProxy(portOf(DATABASE_URL))
      const HTTP_PORT = String(yield* freePort)
      const service = yield* startRelay({ DATABASE_URL: through(DATABASE_URL, proxy.port), HTTP_PORT })
      const askInVain = Effect.forEach(Array.from({ length: 5 }), () =>
        Effect.map(service.get("/v1/games"), ({ status }) => assert.strictEqual(status, 503))
      )
      yield* proxy.redirect(yield* freePort)
      yield* scrapeUntil(service, "kickoff_relay_leader", (value) => value === 0)
      yield* scrapeUntil(service, "kickoff_listener_up", (value) => value === 0)
      yield* askInVain
      const earlier = yield* scrapeOf(service)
      yield* askInVain
      const later = yield* scrapeOf(service)
      const growth = { since: { a: earlier }, of: ["kickoff_http_requests_total"] }
      const fires = ["KickoffDatabaseAway", "KickoffListenerDown", "KickoffNoRelay", "KickoffServerErrors"]
      yield* assertFiring([{ scrapes: { a: later }, minutes: 5, fires, growth }])
      const isHealthy = Effect.map(runProgram({ args: ["health"], env: { HTTP_PORT } }), ({ code }) => code === 0)
      assert.isFalse(yield* isHealthy)
      yield* proxy.redirect(portOf(DATABASE_URL))
      yield* eventually(isHealthy, (healthy) => healthy)
    })
  )

  fault(
    "a report keeps its snapshot while events come and go",
    ["KickoffDeadRows", "KickoffVacuumHeldBack"],
    Effect.gen(function* () {
      const work = `DO $$ BEGIN FOR n IN 1..1500 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`
      yield* run("ALTER TABLE outbox SET (autovacuum_enabled = false)")
      yield* anotherApplication("reports", ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT FROM game_sessions"])
      yield* run(`
        INSERT INTO outbox (game_id, type, data)
        SELECT gen_random_uuid(), 'game.created', '{}' FROM generate_series(1, 100001)`)
      yield* run("DELETE FROM outbox")
      yield* run(work)
      const deadRows = run("SELECT pg_stat_get_dead_tuples('outbox'::regclass)::int AS dead")
      yield* eventually(deadRows, ([row]) => Number(row?.["dead"]) > 100_000)

      const { env } = yield* asServiceRole()
      const service = yield* startRelay(env)
      const labels = { application: "reports" }
      const earlier = yield* scrapeOf(service)
      const age = valueIn(earlier, "kickoff_xmin_age_transactions", labels) ?? Number.NaN
      assert.isAtLeast(age, 1500)
      yield* run(work)
      const later = yield* scrapeUntil(service, "kickoff_xmin_age_transactions", (value) => value > age, labels)
      const growth = { since: { a: earlier }, of: ["kickoff_xmin_age_transactions"] }
      yield* assertFiring([
        { scrapes: { a: later }, minutes: 180, fires: ["KickoffDeadRows", "KickoffVacuumHeldBack"], growth }
      ])
      yield* terminate(yield* look("KickoffVacuumHeldBack"), "reports")
      // The session takes a moment to end, and the statistics to show it.
      const vacuumed = Effect.andThen(run("VACUUM (ANALYZE) outbox"), look("KickoffDeadRows"))
      yield* eventually(vacuumed, (tables) =>
        tables.some((row) => row["relname"] === "outbox" && Number(row["n_dead_tup"]) === 0)
      )
    })
  )

  fault(
    "the clock of a machine is five minutes fast",
    ["KickoffClockOffset"],
    Effect.gen(function* () {
      const wrong = wrongClock(yield* Effect.promise(() => findFaketime()), 300)
      const env = Object.fromEntries(Object.entries(wrong).map(([name, value = ""]) => [name, value]))
      const a = yield* scrapeOf(yield* startRelay(env))
      yield* assertFiring([{ scrapes: { a }, minutes: 6, fires: ["KickoffClockOffset"] }])
    })
  )

  fault(
    "the service's role may not read the dead letters",
    ["KickoffBlind"],
    Effect.gen(function* () {
      const { env, role } = yield* asServiceRole(["SELECT ON dead_letters"])
      const service = yield* startRelay(env)
      const errors = "kickoff_database_metrics_errors_total"
      const earlier = yield* scrapeUntil(service, errors, (count) => count >= 1)
      const later = yield* scrapeUntil(service, errors, (count) => count > (valueIn(earlier, errors) ?? Number.NaN))
      const growth = { since: { a: earlier }, of: [errors] }
      yield* assertFiring([{ scrapes: { a: later }, minutes: 15, fires: ["KickoffBlind"], growth }])
      yield* service.output(/Metrics are missing until the database answers: .*dead_letters/)
      yield* run(`GRANT SELECT ON dead_letters TO ${role}`)
      yield* scrapeUntil(service, "kickoff_dead_letters_open", (open) => open === 0)
    })
  )

  fired.add("KickoffLoopStuck")
  it.effect("KickoffLoopStuck: a loop leaves an overdue row undone that nobody holds", () =>
    Effect.gen(function* () {
      const schedule = yield* MemorySchedule
      const health = yield* Health
      yield* schedule.add("left", Duration.zero)
      yield* Effect.forkScoped(runLoop({ ...schedule.repository, applyDue: () => Effect.succeed([]) }))
      const loop = "status-transitions"
      const scrape = Effect.gen(function* () {
        yield* health.measure
        const { value } = yield* Metric.value(Metric.withAttributes(Metrics.loopOverdue, { loop }))
        const played = roles.map((role) => ({ name: Metrics.rolePlayed.id, labels: { role }, value: 1 }))
        return [...played, { name: Metrics.loopOverdue.id, labels: { loop }, value }]
      })
      yield* TestClock.adjust(Duration.zero)
      const before = yield* scrape
      // In steps, as the loop waits again and again.
      for (let second = 0; second < 60; second++) yield* TestClock.adjust(Duration.seconds(1))
      const after = yield* scrape
      yield* assertFiring([
        { scrapes: { a: before }, minutes: 2, fires: [] },
        { scrapes: { a: after }, minutes: 2, fires: ["KickoffLoopStuck"] }
      ])
    }).pipe(
      Effect.provide(
        Layer.mergeAll(
          MemorySchedule.layer,
          Listener.layerMemory,
          OutboxSignal.layerMemory,
          Settings.layerWith({}),
          Health.layer
        )
      )
    )
  )
})

describe("every alert", () => {
  it("has been fired by a fault", () => {
    assert.sameMembers(
      [...fired],
      alerts.map(({ alert }) => alert)
    )
  })
})
