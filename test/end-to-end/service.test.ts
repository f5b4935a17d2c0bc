import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { cpSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { inject } from "vitest"
import { Database } from "../../src/postgres/Database.ts"
import { eventually, getGame, getTransitions, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { freePort, mainFile, runProgram, type Service, startProgram, startService } from "../support/service.ts"
import { makeTcpProxy } from "../support/TcpProxy.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import { inWorld, makeWorld, type Received } from "../support/world.ts"

interface PlannedGame {
  readonly id: string
  readonly scheduled_at: string
}

/** Plans a game through the API. */
const plan = (service: Service, startsInMs: number, fields: Readonly<Record<string, unknown>> = {}) =>
  Effect.gen(function* () {
    const scheduled = new Date((yield* Clock.currentTimeMillis) + startsInMs).toISOString()
    const response = yield* service.post("/v1/games", {
      guild_id: "guild",
      title: "Friday raid",
      scheduled_at: scheduled,
      ...fields
    })
    assert.strictEqual(response.status, 201)
    // What the contract says of a game; the tests of the API check all of it.
    return (yield* Effect.promise(() => response.json())) as PlannedGame
  })

const isExecuted = (gameId: string, target: string) =>
  Effect.map(getTransitions(gameId), (rows) => rows.get(target)?.executed === true)

const startedIds = (received: ReadonlyArray<Received>) =>
  received.filter(({ event }) => event.type === "game.started").map(({ event }) => event.subject)

describe.concurrent("the running service", () => {
  it.live("starts a planned game on time and not early, and tells of it in a CloudEvent", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      const game = yield* plan(service, 1500, { channel_id: "raids", host_id: "ada", reminder_minutes: [] })
      const created = yield* world.nextOf("game.created", game.id)
      const { event, message, at } = yield* world.nextOf("game.started", game.id)
      assert.isAtLeast(at, Date.parse(game.scheduled_at))
      assert.isAtLeast(Date.parse(event.time), Date.parse(game.scheduled_at))
      assert.deepInclude(event, {
        specversion: "1.0",
        source: "/kickoff",
        type: "game.started",
        subject: game.id,
        datacontenttype: "application/json"
      })
      assert.match(event.id, /^[0-9a-f-]{36}$/)
      assert.notStrictEqual(event.id, created.event.id)
      const { lateness_ms, ...data } = event.data
      assert.deepStrictEqual(data, {
        game_id: game.id,
        title: "Friday raid",
        guild_id: "guild",
        channel_id: "raids",
        host_id: "ada",
        status: "IN_PROGRESS",
        scheduled_at: game.scheduled_at,
        version: 2,
        transition_time: game.scheduled_at
      })
      assert.isAtLeast(Number(lateness_ms), 0)
      // The backstop would need up to a minute.
      assert.isBelow(Number(lateness_ms), 10_000)
      assert.strictEqual(message.fields.routingKey, "game.started")
      assert.deepInclude(message.properties, {
        messageId: event.id,
        type: "game.started",
        contentType: "application/cloudevents+json",
        appId: "kickoff",
        deliveryMode: 2
      })
      assert.isTrue(yield* isExecuted(game.id, "IN_PROGRESS"))
      assert.isFalse(yield* isExecuted(game.id, "COMPLETED"))
      assert.strictEqual((yield* getGame(game.id)).status, "IN_PROGRESS")
      const sql = yield* SqlClient.SqlClient
      yield* eventually(sql`SELECT FROM outbox`, (rows) => rows.length === 0)
    }).pipe(inWorld)
  )

  it.live("starts and completes at once a game that was scheduled in the past with no duration", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      const game = yield* plan(service, -3_600_000, { expected_duration_minutes: 0 })
      yield* world.nextOf("game.completed", game.id)
      assert.deepStrictEqual(
        world.received.map(({ event }) => event.type),
        ["game.created", "game.started", "game.completed"]
      )
      assert.isTrue(yield* isExecuted(game.id, "IN_PROGRESS"))
      assert.isTrue(yield* isExecuted(game.id, "COMPLETED"))
    }).pipe(inWorld)
  )

  it.live("starts each of several games once while others are planned", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      const games = yield* Effect.forEach(
        Array.from({ length: 30 }, (_, n) => n),
        (n) => plan(service, 300 + n * 20),
        { concurrency: 10 }
      )
      yield* Effect.forEach(games, () => world.nextOf("game.started"))
      const last = yield* plan(service, -1000)
      yield* world.nextOf("game.started", last.id)
      assert.sameMembers(startedIds(world.received), [...games.map(({ id }) => id), last.id])
      for (const { event } of world.received) {
        if (event.type === "game.started") assert.isAtLeast(Number(event.data["lateness_ms"]), 0)
      }
    }).pipe(inWorld)
  )

  it.live("fires rows that plain SQL has inserted, reminders and starts side by side", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      assert.strictEqual((yield* service.get("/health/ready")).status, 200)
      const game = yield* insertGame(60_000)
      yield* insertTransition(game, "IN_PROGRESS", 500)
      const other = yield* insertGame(60_000)
      yield* insertReminder(other, 15, 500)
      const arrivals = [yield* world.nextOf("game.reminder_due", other)]
      if (startedIds(world.received).length === 0) arrivals.push(yield* world.nextOf("game.started", game))
      assert.deepStrictEqual(startedIds(world.received), [game])
      assert.strictEqual(arrivals[0]?.event.data["reminder_minutes"], 15)
      assert.isTrue(yield* isExecuted(game, "IN_PROGRESS"))
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT sent FROM notification_schedule WHERE game_id = ${other}`, [
        { sent: true }
      ])
    }).pipe(inWorld)
  )

  it.live("starts what became due while it was stopped", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const first = yield* world.start()
      const game = yield* plan(first, 600_000)
      assert.deepStrictEqual(yield* first.stop, { code: 0, signal: null })
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE game_status_schedule SET transition_time = now() WHERE target_status = 'IN_PROGRESS'`
      assert.isFalse(yield* isExecuted(game.id, "IN_PROGRESS"))
      yield* world.start()
      yield* world.nextOf("game.started", game.id)
      assert.isTrue(yield* isExecuted(game.id, "IN_PROGRESS"))
    }).pipe(inWorld)
  )

  it.live("loses nothing and starts nothing twice when it is killed amid its work", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      let service = yield* world.start()
      const games = yield* Effect.forEach(
        Array.from({ length: 60 }, (_, n) => n),
        (n) => plan(service, 1000 + n * 20, { reminder_minutes: [] }),
        { concurrency: 10 }
      )
      yield* world.nextOf("game.started")
      assert.deepStrictEqual(yield* service.crash, { code: null, signal: "SIGKILL" })
      service = yield* world.start()
      const ids = new Set(games.map(({ id }) => id))
      while (!startedIds(world.received).some((id) => id === games.at(-1)?.id)) yield* world.nextOf("game.started")
      const last = yield* plan(service, -1000)
      yield* world.nextOf("game.started", last.id)
      // A redelivery is allowed; it is the same event under the same id.
      const events = new Map(
        world.received
          .filter(({ event }) => event.type === "game.started" && ids.has(event.subject))
          .map(({ event }) => [event.id, event.subject])
      )
      assert.sameMembers([...events.values()], [...ids])
      for (const id of ids) assert.strictEqual((yield* getGame(id)).version, 2)
    }).pipe(inWorld)
  )

  it.live("divides its roles among processes", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const api = yield* world.start(["serve", "--roles", "api"])
      const clock = yield* world.start(["--roles", "status-transitions,notifications,outbox"])
      const game = yield* plan(api, 500)
      const { at } = yield* world.nextOf("game.started", game.id)
      assert.isAtLeast(at, Date.parse(game.scheduled_at))
      assert.strictEqual((yield* clock.get("/v1/games")).status, 404)
      assert.strictEqual((yield* clock.get("/health/ready")).status, 200)
      assert.strictEqual((yield* clock.get("/metrics")).status, 200)
      assert.notInclude(clock.stdout(), "documentation")
      assert.include(api.stdout(), "documentation")
      // Only who relays has a broker to tell of.
      const text = (service: Service, path: string) =>
        Effect.flatMap(service.get(path), (answer) => Effect.promise(() => answer.text()))
      assert.include(yield* text(api, "/health/ready"), '"broker":{"state":"not used"}')
      assert.include(yield* text(clock, "/health/ready"), '"broker":{"state":"ok"}')
      assert.notInclude(yield* text(api, "/metrics"), "kickoff_broker_connected")
      assert.match(yield* text(clock, "/metrics"), /^kickoff_broker_connected 1$/m)
    }).pipe(inWorld)
  )

  it.live("is ready while every pooled connection waits for a lock", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const sql = yield* SqlClient.SqlClient
      const database = yield* Database
      const service = yield* startService({ env: { ...world.env, DATABASE_POOL_SIZE: "2" } })
      const game = yield* plan(service, 60_000)
      const waiting = sql`
        SELECT FROM pg_stat_activity WHERE application_name LIKE 'kickoff:pool@%' AND wait_event_type = 'Lock'
          AND datname = current_database()`
      const edits = yield* database.transaction(
        Effect.gen(function* () {
          yield* sql`SELECT FROM game_sessions WHERE id = ${game.id} FOR UPDATE`
          const edits = yield* Effect.forkChild(
            Effect.replicateEffect(service.post(`/v1/games/${game.id}/cancel`, {}), 3, { concurrency: "unbounded" })
          )
          yield* eventually(Effect.andThen(sql`SELECT pg_stat_clear_snapshot()`, waiting), (rows) => rows.length === 2)
          const ready = yield* service.get("/health/ready")
          assert.include(yield* Effect.promise(() => ready.text()), '"database":{"state":"ok"}')
          return edits
        })
      )
      for (const { status } of yield* Fiber.join(edits)) assert.strictEqual(status, 200)
    }).pipe(inWorld)
  )

  it.live("goes on after the database has cut all its connections", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const sql = yield* SqlClient.SqlClient
      const service = yield* world.start()
      const before = yield* plan(service, -1000)
      yield* world.nextOf("game.started", before.id)
      const cut = yield* sql<{ readonly name: string }>`
        SELECT split_part(application_name, '@', 1) AS name, pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'kickoff:%' AND pid <> pg_backend_pid()
          AND application_name NOT LIKE 'kickoff:test@%'`
      assert.includeMembers(
        cut.map(({ name }) => name),
        ["kickoff:listener", "kickoff:status-transitions"]
      )
      const game = yield* insertGame(60_000)
      yield* insertTransition(game, "IN_PROGRESS", 300)
      yield* world.nextOf("game.started", game)
      yield* eventually(
        service.get("/health/ready").pipe(Effect.flatMap((answer) => Effect.promise(() => answer.json()))),
        (body) => {
          return JSON.stringify(body).includes(`"status":"ok"`)
        }
      )
      assert.strictEqual(service.child.exitCode, null)
    }).pipe(inWorld)
  )

  it.live("goes on after its connection to the broker was cut", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const broker = new URL(world.env.RABBITMQ_URL)
      const proxy = yield* makeTcpProxy(Number(broker.port || 5672))
      broker.port = String(proxy.port)
      const service = yield* startService({ env: { ...world.env, RABBITMQ_URL: broker.href } })
      const before = yield* plan(service, -1000)
      yield* world.nextOf("game.started", before.id)
      yield* proxy.cut
      yield* service.output(/RabbitMQ at 127\.0\.0\.1:\d+ is back/)
      const after = yield* plan(service, -1000)
      yield* world.nextOf("game.started", after.id)
      assert.strictEqual(service.child.exitCode, null)
    }).pipe(inWorld)
  )

  it.live.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
    "stops on %s long before what it waits for, with exit code 0",
    (signal) =>
      Effect.gen(function* () {
        const world = yield* makeWorld
        const service = yield* world.start()
        // By then its loops have looked, and rest.
        const game = yield* plan(service, -1000)
        yield* world.nextOf("game.started", game.id)
        const [elapsed, ended] = yield* Effect.timed(Effect.andThen(service.kill(signal), service.ended))
        assert.deepStrictEqual(ended, { code: 0, signal: null })
        assert.isBelow(Duration.toMillis(elapsed), 5000)
        assert.match(service.stdout(), /Stopping on SIG(?:TERM|INT)[\s\S]*"Stopped"/)
        assert.strictEqual(service.stderr(), "")
        const sql = yield* SqlClient.SqlClient
        yield* eventually(
          sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'kickoff:pool@%'`,
          (rows) => rows.length === 0
        )
      }).pipe(inWorld)
  )

  it.live("serves on when nobody reads its output any more", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      service.child.stdout?.destroy()
      service.child.stderr?.destroy()
      const game = yield* plan(service, -1000)
      yield* world.nextOf("game.started", game.id)
      assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
    }).pipe(inWorld)
  )

  it.live("logs one JSON object per line and no secret", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* startService({ env: { ...world.env, LOG_LEVEL: "TRACE", LOG_FORMAT: "JSON" } })
      const game = yield* plan(service, -1000)
      yield* world.nextOf("game.started", game.id)
      yield* service.stop
      const lines = service.stdout().trim().split("\n")
      for (const line of lines) assert.containsAllKeys(JSON.parse(line), ["timestamp", "level", "message"])
      assert.isTrue(lines.some((line) => line.includes(`"game_id":"${game.id}"`)))
      for (const url of [world.env.DATABASE_URL, world.env.RABBITMQ_URL]) {
        const { password } = new URL(url)
        if (password !== "" && password !== "guest") assert.notInclude(service.stdout(), password)
        assert.notInclude(service.stdout(), url)
      }
    }).pipe(inWorld)
  )

  it.live("says that its port is taken, and ends with exit code 1", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      const { port } = new URL(service.url)
      const second = yield* runProgram({ env: { ...world.env, HTTP_PORT: port, LOG_FORMAT: "pretty" } })
      assert.strictEqual(second.code, 1)
      assert.match(second.stderr, new RegExp(`^[\\d:.]+ fatal HTTP_PORT: [^\\n]*${port}[^\\n]*\\n$`))
    }).pipe(inWorld)
  )

  it.live("waits for a broker that is away at the start, and stops at a signal meanwhile", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const program = yield* startProgram({
        env: { ...world.env, HTTP_PORT: "0", LOG_FORMAT: "json", RABBITMQ_URL: `amqp://127.0.0.1:${yield* freePort}` }
      })
      yield* program.output(/RabbitMQ at 127\.0\.0\.1:\d+ .*ECONNREFUSED/)
      yield* program.kill("SIGTERM")
      assert.deepStrictEqual(yield* program.ended, { code: 0, signal: null })
    }).pipe(inWorld)
  )

  it.live("keeps LISTEN and the relay's lock on DATABASE_LISTEN_URL, and everything else on DATABASE_URL", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const sql = yield* SqlClient.SqlClient
      // Roles belong to the whole server; this one tells the sessions of the two URLs apart.
      const direct = yield* Effect.acquireRelease(
        Effect.gen(function* () {
          const role = `direct_${randomBytes(6).toString("hex")}`
          yield* sql.unsafe(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD '${role}'`)
          return role
        }),
        (role) => Effect.orDie(sql.unsafe(`DROP ROLE ${role}`))
      )
      const listenUrl = new URL(world.env.DATABASE_URL)
      listenUrl.username = direct
      listenUrl.password = direct
      const service = yield* startService({ env: { ...world.env, DATABASE_LISTEN_URL: listenUrl.href } })
      const game = yield* plan(service, -1000)
      yield* world.nextOf("game.started", game.id)
      const sessions = yield* sql<{ readonly part: string; readonly direct: boolean }>`
        SELECT DISTINCT split_part(application_name, '@', 1) AS part, usename = ${direct} AS direct FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'kickoff:%' AND application_name NOT LIKE 'kickoff:test@%'`
      assert.sameMembers(
        sessions.filter((session) => session.direct).map(({ part }) => part),
        ["kickoff:listener", "kickoff:relay"]
      )
      assert.includeMembers(
        sessions.filter((session) => !session.direct).map(({ part }) => part),
        ["kickoff:pool", "kickoff:status-transitions", "kickoff:notifications", "kickoff:outbox"]
      )
    }).pipe(inWorld)
  )

  it.live("ends with exit code 1 and the reason when one of its loops dies", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      // Breaks what a loop does with its batches, as a defect of the program would.
      const sabotage = 'data:text/javascript,Map.groupBy = () => { throw new Error("sabotage") }'
      const program = yield* startProgram({
        env: { ...world.env, HTTP_PORT: "0", LOG_FORMAT: "json", NODE_OPTIONS: `--import=${encodeURI(sabotage)}` }
      })
      assert.deepStrictEqual(yield* program.ended, { code: 1, signal: null })
      assert.match(program.stderr(), /A defect ended the process[^\n]*The [a-z ]+ has ended[^\n]*sabotage/)
    }).pipe(inWorld)
  )

  it.live("ends with exit code 1 and the reason when its server stops listening", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const sabotage =
        'data:text/javascript,import { Server } from "node:http"; const { listen } = Server.prototype; ' +
        "Server.prototype.listen = function (...args) { setTimeout(() => this.close(), 3000); return listen.apply(this, args) }"
      const program = yield* startProgram({
        env: { ...world.env, HTTP_PORT: "0", LOG_FORMAT: "json", NODE_OPTIONS: `--import=${encodeURI(sabotage)}` }
      })
      assert.deepStrictEqual(yield* program.ended, { code: 1, signal: null })
      assert.match(program.stdout(), /Ready on/)
      assert.match(program.stderr(), /A defect ended the process[^\n]*The HTTP server has ended[^\n]*stopped listening/)
    }).pipe(inWorld)
  )

  it.live("needs nothing but its bundle: no sources, no modules", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-bundle-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      cpSync(dirname(mainFile), join(folder, "dist"), { recursive: true })
      const bundle = { main: join(folder, "dist", "main.js"), cwd: folder }
      const env = { DATABASE_URL: Redacted.value(url), RABBITMQ_URL: inject("rabbitmqUrl") }
      const migrated = yield* runProgram({ ...bundle, env, args: ["migrate"] })
      assert.deepInclude(migrated, { code: 0, stderr: "" })
      assert.match(migrated.stdout, /Applied 0001_create_tables/)
      const service = yield* startService({ ...bundle, env })
      assert.strictEqual((yield* service.get("/health/ready")).status, 200)
      assert.strictEqual((yield* service.get("/docs")).status, 200)
      assert.strictEqual((yield* service.get("/openapi.json")).status, 200)
      assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layerWith({ migrated: false })))
  )

  it.live("migrates an empty database once when several start together", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const migrate = runProgram({ args: ["migrate"], env: { DATABASE_URL: Redacted.value(url) } })
      const runs = yield* Effect.all([migrate, migrate, migrate], { concurrency: "unbounded" })
      for (const run of runs) assert.deepInclude(run, { code: 0, stderr: "" })
      const applied = runs.flatMap(({ stdout }) => stdout.match(/Applied \d{4}_\w+/g) ?? [])
      assert.isAtLeast(applied.length, 2)
      assert.strictEqual(new Set(applied).size, applied.length)
    }).pipe(Effect.provide(TestDatabase.layerWith({ migrated: false })))
  )

  it.live("comes up three times at once on an empty database, which is migrated once", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const services = yield* Effect.all([world.start(), world.start(), world.start()], { concurrency: "unbounded" })
      const applied = services.flatMap((service) => service.stdout().match(/Applied \d{4}_\w+/g) ?? [])
      assert.isAtLeast(applied.length, 2)
      assert.strictEqual(new Set(applied).size, applied.length)
      for (const service of services) {
        assert.strictEqual((yield* service.get("/health/ready")).status, 200)
        const game = yield* plan(service, -1000)
        yield* world.nextOf("game.started", game.id)
      }
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layerWith({ migrated: false })))
  )
})
