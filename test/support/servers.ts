/**
 * Starts the real servers of the integration tests once per run: PostgreSQL 18, PostgreSQL 15 if there is one, RabbitMQ.
 *
 * Tests get a database of their own from `TestDatabase`; what is provided here are the addresses alone. With
 * `TEST_POSTGRES_URL` the run uses servers that somebody else keeps, as `npm run test:protections` does for its many runs.
 */
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import type { TestProject } from "vitest/node"
import { Database } from "../../src/postgres/Database.ts"
import { migrate } from "../../src/postgres/migrations.ts"
import { embeddedBinaries, find15, startPostgres } from "./postgres.ts"
import { startRabbitmq } from "./rabbitmq.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** The server's own database; `TestDatabase` makes one per test file from the migrated template. */
    readonly postgresUrl: string
    /** The migrated template's name, on both servers. */
    readonly postgresTemplate: string
    /** The same on PostgreSQL 15, where it is installed. */
    readonly postgres15Url: string | null
    readonly rabbitmqUrl: string
  }
}

const inDatabase = (url: string, database: string) => {
  const changed = new URL(url)
  changed.pathname = `/${database}`
  return Database.layer({ url: Redacted.make(changed.href), connections: 1, name: "test-setup" })
}

const template = `kickoff_template_${process.pid}`

/** Nobody may connect to the template: a database with sessions cannot be copied. */
const makeTemplate = (url: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`CREATE DATABASE ${template}`)
    yield* migrate.pipe(Effect.provide(inDatabase(url, template)))
    yield* sql.unsafe(`ALTER DATABASE ${template} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true`)
  }).pipe(Effect.provide(inDatabase(url, "postgres")), Effect.runPromise)

const dropTemplate = (url: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`UPDATE pg_database SET datistemplate = FALSE WHERE datname = ${template}`
    yield* sql.unsafe(`DROP DATABASE IF EXISTS ${template}`)
  }).pipe(Effect.provide(inDatabase(url, "postgres")), Effect.runPromise)

interface Server {
  readonly url: string
  readonly stop: () => Promise<void>
}

/** A server that runs already, and runs on when this run is over. */
const borrow = async (url: string): Promise<Server> => ({ url, stop: () => dropTemplate(url) })

/** The two PostgreSQL servers; none for the older one where it is not installed. */
const startServers = (): readonly [Promise<Server>, Promise<Server> | null] => {
  const { TEST_POSTGRES_URL: url = "", TEST_POSTGRES15_URL: olderUrl = "" } = process.env
  if (url !== "") return [borrow(url), olderUrl === "" ? null : borrow(olderUrl)]
  const debian = find15()
  return [embeddedBinaries().then(startPostgres), debian === undefined ? null : startPostgres(debian)]
}

export default async (project: TestProject) => {
  const running: Array<Server> = []
  const stop = async () => {
    await Promise.all(running.map((server) => server.stop()))
  }
  const keep = async (starting: Promise<Server>): Promise<string> => {
    const server = await starting
    running.push(server)
    return server.url
  }
  const withTemplate = async (starting: Promise<Server>): Promise<string> => {
    const url = await keep(starting)
    await makeTemplate(url)
    return url
  }
  const [newest, older] = startServers()
  const results = await Promise.allSettled([
    withTemplate(newest),
    older === null ? null : withTemplate(older),
    keep(startRabbitmq())
  ])
  const [postgres, postgres15, rabbitmq] = results
  if (postgres.status === "rejected" || postgres15.status === "rejected" || rabbitmq.status === "rejected") {
    await stop()
    throw results.find((result) => result.status === "rejected")?.reason
  }
  project.provide("postgresUrl", postgres.value)
  project.provide("postgresTemplate", template)
  project.provide("postgres15Url", postgres15.value)
  project.provide("rabbitmqUrl", rabbitmq.value)
  return stop
}
