/**
 * What the page on scaling says, on servers of its own: behind a real PgBouncer with the page's configuration, and every
 * command that it shows.
 */
import { assert, layer } from "@effect/vitest"
import { Clock, Context, Effect, Layer, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { readFileSync } from "node:fs"
import { Database } from "../../src/postgres/Database.ts"
import { written } from "../image/composeFile.ts"
import { eventually, getGame } from "../support/games.ts"
import { startPgBouncer } from "../support/pgbouncer.ts"
import { embeddedBinaries, startPostgres } from "../support/postgres.ts"
import { makeBroker } from "../support/rabbitmq.ts"
import { inContainer, runbookCommands, words } from "../support/runbooks.ts"
import { freePort, runProgram, type Service, startService } from "../support/service.ts"

const page = readFileSync(new URL("../../docs/SCALING.md", import.meta.url), "utf8")
const commands = runbookCommands(page)
const sqlCommands = commands.filter(({ language }) => language === "sql").map(({ text }) => text)
const kickoffCommands = commands.filter(({ text }) => text.startsWith("kickoff ")).map(({ text }) => text)
const brokerCommands = commands
  .map(({ text }) => inContainer(text))
  .filter(({ service }) => service === "rabbitmq")
  .map(({ command }) => command)

/** The role of the service, as the page calls it. */
const role = "kickoff_service"

/** A PostgreSQL with that role, a RabbitMQ, and a process with all roles. */
class World extends Context.Service<
  World,
  {
    readonly databaseUrl: string
    readonly broker: Effect.Success<typeof someBroker>
    readonly env: Readonly<Record<string, string>>
    readonly service: Service
    readonly httpPort: string
  }
>()("kickoff/test/end-to-end/World") {}

const someBroker = Effect.acquireRelease(
  Effect.promise(() => makeBroker()),
  (broker) => Effect.promise(() => broker.stop())
)

const somePostgres = Effect.acquireRelease(
  Effect.promise(async () => startPostgres(await embeddedBinaries())),
  (server) => Effect.promise(() => server.stop())
)

const world = Layer.unwrap(
  Effect.gen(function* () {
    const [broker, postgres] = yield* Effect.all([someBroker, somePostgres], { concurrency: "unbounded" })
    const database = Database.layer({ url: Redacted.make(postgres.url), connections: 2, name: "test" })
    const migrated = yield* runProgram({ args: ["migrate"], env: { DATABASE_URL: postgres.url } })
    assert.strictEqual(migrated.code, 0, migrated.stderr)
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'`)
      yield* sql.unsafe(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role}`)
      yield* sql.unsafe(`GRANT pg_read_all_stats TO ${role}`)
    }).pipe(Effect.provide(database))
    const address = new URL(postgres.url)
    Object.assign(address, { username: role, password: role })
    const env = { DATABASE_URL: address.href, RABBITMQ_URL: broker.url, KICKOFF_MIGRATE: "false" }
    const httpPort = String(yield* freePort)
    const service = yield* startService({ env: { ...env, HTTP_PORT: httpPort } })
    yield* service.output(/This process relays the events/)
    const here = Layer.succeed(World, World.of({ databaseUrl: address.href, broker, env, service, httpPort }))
    return Layer.merge(here, database)
  })
)

layer(world, { excludeTestServices: true, timeout: 180_000 })("The page on scaling", (it) => {
  it.effect("counts the sessions of a process", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      assert.strictEqual((yield* service.get("/v1/games")).status, 200)
      const sql = yield* SqlClient.SqlClient
      const query = sqlCommands.find((text) => text.includes("AS session")) ?? ""
      const rows = yield* sql.unsafe<{ readonly session: string; readonly count: bigint }>(query)
      // A process with the role api has no readiness session besides.
      const named = [...page.matchAll(/^\| (`kickoff:.*?) \|/gm)]
        .flatMap(([, cell = ""]) => cell.match(/kickoff:[\w-]+/g))
        .filter((name) => name !== "kickoff:readiness")
      const found = rows.filter(({ session }) => session !== "kickoff:test")
      assert.sameMembers(
        found.map(({ session }) => session),
        named
      )
      for (const { count, session } of found) if (session !== "kickoff:pool") assert.strictEqual(count, 1n, session)
      assert.include(page, `DATABASE_POOL_SIZE\` + ${named.length - 1} `)
    })
  )

  it.effect("has a configuration of PgBouncer behind which games start at their time", () =>
    Effect.gen(function* () {
      const { databaseUrl, env } = yield* World
      const direct = new URL(databaseUrl)
      const [, configuration = ""] = /^```ini\n(\[databases\][^]*?)^```$/m.exec(page) ?? []
      const port = yield* startPgBouncer({ [role]: role }, (port, users) =>
        configuration
          .replace("host=db port=5432 dbname=kickoff", `host=127.0.0.1 port=${direct.port} dbname=postgres`)
          .replace("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1")
          .replace("listen_port = 6432", `listen_port = ${port}`)
          .replace("/etc/pgbouncer/userlist.txt", users)
          .concat("unix_socket_dir =\n")
      )
      const pooled = new URL(databaseUrl)
      Object.assign(pooled, { port: String(port), pathname: "/kickoff" })
      for (const text of sqlCommands.filter((text) => text.startsWith("ALTER ROLE"))) {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(text)
      }
      const example = commands.find(({ text }) => text.startsWith("DATABASE_URL="))?.text ?? ""
      assert.sameMembers(example.match(/\w+(?==)/g) ?? [], ["DATABASE_URL", "DATABASE_LISTEN_URL"])
      const behind = { ...env, DATABASE_URL: pooled.href, DATABASE_LISTEN_URL: databaseUrl }
      // The only one with these roles from here on is behind the pooler.
      const service = yield* startService({ env: behind, args: words(example).slice(3) })
      const now = yield* Clock.currentTimeMillis
      const planned = yield* service.post("/v1/games", {
        guild_id: "guild",
        title: "Friday raid",
        scheduled_at: new Date(now + 500).toISOString()
      })
      assert.strictEqual(planned.status, 201)
      // What the contract says of a game.
      const { id } = (yield* Effect.promise(() => planned.json())) as { readonly id: string }
      yield* eventually(getGame(id), ({ status }) => status === "IN_PROGRESS")
      const doctor = yield* runProgram({ args: ["doctor"], env: behind })
      assert.strictEqual(doctor.code, 0, `${doctor.stdout}${doctor.stderr}`)
      // What a pooler is not sent, and the page gives to the role, is what every other session has.
      const settings = (url: URL, pooler: boolean) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          return yield* sql`
            SELECT current_setting('statement_timeout') AS statement, current_setting('jit') AS jit,
              current_setting('idle_in_transaction_session_timeout') AS idle`
        }).pipe(
          Effect.provide(
            Layer.fresh(Database.layer({ url: Redacted.make(url.href), connections: 1, name: "test", pooler }))
          )
        )
      assert.deepStrictEqual(yield* settings(pooled, true), yield* settings(direct, false))
      assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
      const unaware = yield* runProgram({ args: ["serve"], env: { ...env, DATABASE_URL: pooled.href } })
      assert.strictEqual(unaware.code, 1)
      assert.match(unaware.stdout, /a pooler stands there .* DATABASE_LISTEN_URL must lead past it/)
    })
  )

  it.effect.each(sqlCommands)("shows SQL that the database understands: %s", (text) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(text)
      // Nobody is there to wait for.
      if (text.startsWith("ALTER SYSTEM")) yield* sql`ALTER SYSTEM RESET synchronous_standby_names`
    })
  )

  it.effect.each(kickoffCommands)("shows a command that exits with 0: %s", (text) =>
    Effect.gen(function* () {
      const { env, httpPort } = yield* World
      const { code, stderr, stdout } = yield* runProgram({
        args: words(text).slice(1),
        env: { ...env, HTTP_PORT: httpPort }
      })
      assert.strictEqual(code, 0, `${text}: ${stdout}${stderr}`)
    })
  )

  it.effect("shows commands of RabbitMQ that the broker understands", () =>
    Effect.gen(function* () {
      const { broker } = yield* World
      assert.isNotEmpty(brokerCommands)
      const node = (yield* Effect.promise(() => broker.ctl("eval", "node()."))).trim().replaceAll("'", "")
      const said = yield* Effect.forEach(brokerCommands, (command) => {
        const [program = "", ...args] = words(command).map((word) => (word === "rabbit@broker3" ? node : word))
        return Effect.promise(() => broker.tool(program, ...args))
      })
      assert.match(said.join("\n"), /^kickoff\.unrouted\tquorum\t/m)
    })
  )

  it.effect("shows no command that is not run, but for one that needs an engine", () =>
    Effect.sync(() => {
      const run = new Set([...sqlCommands, ...kickoffCommands])
      const left = commands
        .map(({ text }) => text)
        .filter(
          (text) => !run.has(text) && !text.startsWith("DATABASE_URL=") && inContainer(text).service !== "rabbitmq"
        )
      assert.lengthOf(left, 1)
      assert.match(left[0] ?? "", /^docker compose up --detach (--scale [\w-]+=\d ?)+$/)
      const scaled = [...(left[0] ?? "").matchAll(/--scale ([\w-]+)=/g)].map(([, name = ""]) => name)
      assert.includeMembers(Object.keys(written.services), scaled)
    })
  )
})
