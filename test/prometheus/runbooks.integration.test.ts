/**
 * Every command that the page on operations shows, run: SQL on a real database, `kickoff` beside a real service. Nobody
 * should learn at night that a runbook is wrong. Those for the broker are run where one is in trouble: `faults`, beside this.
 */
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import { settings } from "../../src/Settings.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { written } from "../image/composeFile.ts"
import { run as runTool } from "../support/commands.ts"
import { parkTransition } from "../support/deadLetters.ts"
import { insertGame, insertTransition } from "../support/games.ts"
import { metricOf } from "../support/metrics.ts"
import {
  brokerCommands,
  inContainer,
  operationsPage,
  placeholders,
  runbookCommands,
  words
} from "../support/runbooks.ts"
import { freePort, runProgram, startService } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const commands = runbookCommands(operationsPage)

const kickoffCommands = commands.filter(({ text }) => text.startsWith("kickoff "))
const sqlCommands = commands.filter(({ language }) => language === "sql")
/** Of the machine itself. */
const systemCommands = commands.filter(({ text }) => text.startsWith("date "))
/** What leads to a shell, or asks an engine, where there is nothing of ours to judge. */
const leadingElsewhere = [
  "docker compose exec status-transition-daemon kickoff",
  "docker compose exec db psql -U kickoff",
  "docker compose ps --all"
]

describe("the page on operations", () => {
  it("shows no command that is not run", () => {
    const run = new Set([...kickoffCommands, ...sqlCommands, ...systemCommands])
    assert.sameMembers(
      commands
        .filter((command) => !run.has(command) && !brokerCommands.includes(inContainer(command.text).command))
        .map(({ text }) => text),
      leadingElsewhere
    )
  })

  it("leads into services of docker-compose.yml", () => {
    const named = commands.map(({ text }) => inContainer(text).service).filter((service) => service !== "")
    assert.includeMembers(Object.keys(written.services), named)
  })

  it("names metrics and variables that there are", () => {
    const series = [...operationsPage.matchAll(/`((?:kickoff|nodejs|process)_\w+)/g)].map(([, name = ""]) => name)
    assert.isNotEmpty(series)
    for (const name of series) assert.isDefined(metricOf(name), name)
    const known = new Set<string>(Object.values(settings).map(({ name }) => name))
    for (const [, name = ""] of operationsPage.matchAll(/`([A-Z]+(?:_[A-Z]+)+)`/g)) assert.isTrue(known.has(name), name)
  })

  it.live("shows commands of the machine that it understands", () =>
    Effect.promise(async () => {
      assert.isNotEmpty(systemCommands)
      for (const { text } of systemCommands) {
        const [program = "", ...args] = words(text)
        assert.match(await runTool(program, args), /^\d{4}-\d\d-\d\dT/)
      }
    })
  )
})

/** What stands in the place of a placeholder in SQL, made for it. */
const targets: Readonly<
  Record<
    Exclude<keyof typeof placeholders, "id">,
    (name: string) => Effect.Effect<string, SqlError.SqlError, SqlClient.SqlClient | TestDatabase | Scope.Scope>
  >
> = {
  pid: Effect.fnUntraced(function* (name) {
    const sql = yield* SqlClient.SqlClient
    const { url } = yield* TestDatabase
    yield* PgConnection.make({ url, applicationName: name })
    const rows = yield* sql<{ readonly pid: number }>`SELECT pid FROM pg_stat_activity WHERE application_name = ${name}`
    return String(rows[0]?.pid)
  }),
  gid: Effect.fnUntraced(function* (name) {
    const { url } = yield* TestDatabase
    const session = yield* PgConnection.make({ url, applicationName: name })
    yield* session.query("BEGIN")
    yield* session.query("SELECT pg_current_xact_id()::text")
    yield* session.query(`PREPARE TRANSACTION '${name}'`)
    return name
  }),
  slot: Effect.fnUntraced(function* (name) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`SELECT slot_name FROM pg_create_physical_replication_slot(${name})`
    return name
  })
}

/** Puts something real into the place of a placeholder. */
const filledIn = Effect.fnUntraced(function* (text: string) {
  for (const kind of ["pid", "gid", "slot"] as const) {
    if (!placeholders[kind].test(text)) continue
    return text.replace(placeholders[kind], yield* targets[kind](`runbook_${randomBytes(6).toString("hex")}`))
  }
  return text
})

/** A dead letter and the game that it is about. */
const makeLetter = Effect.gen(function* () {
  const game = yield* insertGame(3_600_000)
  yield* insertTransition(game, "COMPLETED", 7_200_000)
  // Not due, or the service beside would be faster.
  return { game, letter: (yield* parkTransition(game, "IN_PROGRESS", 3_600_000)).letter }
})

/** A service that is well, for the commands to look at. */
class World extends Context.Service<
  World,
  { readonly env: Readonly<Record<string, string>>; readonly httpPort: string }
>()("kickoff/test/prometheus/World") {
  static readonly layer = Layer.effect(
    World,
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const env = { DATABASE_URL: Redacted.value(url), RABBITMQ_URL: inject("rabbitmqUrl") }
      const httpPort = String(yield* freePort)
      const service = yield* startService({ env: { ...env, HTTP_PORT: httpPort } })
      yield* service.output(/This process relays the events/)
      return { env, httpPort }
    })
  )
}

const repositories = Layer.mergeAll(
  StatusTransitionRepository.layer,
  NotificationRepository.layer,
  OutboxRepository.layer
)

layer(World.layer.pipe(Layer.provideMerge(repositories), Layer.provideMerge(TestDatabase.layer)), {
  excludeTestServices: true,
  timeout: 180_000
})("The page on operations", (it) => {
  it.effect.each(sqlCommands.map(({ runbook, text }) => [runbook, text] as const))(
    "shows SQL that the database understands (%s): %s",
    ([, text]) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const rows = yield* sql.unsafe(yield* filledIn(text))
        if (text.includes("pg_terminate_backend")) assert.deepStrictEqual(rows, [{ pg_terminate_backend: true }])
      })
  )

  it.effect.each(kickoffCommands.map(({ text }) => text))("shows a command that exits with 0: %s", (text) =>
    Effect.gen(function* () {
      const { env, httpPort } = yield* World
      const { game, letter } = placeholders.id.test(text) ? yield* makeLetter : { game: "", letter: "" }
      const [, command = "", ...rest] = words(text)
      const args = [command, ...rest.map((word) => (word === "ID" ? (command === "explain" ? game : letter) : word))]
      if (command === "serve") {
        const service = yield* startService({ args, env })
        assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
      } else {
        const { code, stderr, stdout } = yield* runProgram({ args, env: { ...env, HTTP_PORT: httpPort } })
        assert.strictEqual(code, 0, `${text}: ${stdout}${stderr}`)
      }
    })
  )
})
