/**
 * Starts the real servers of the integration tests once per run: PostgreSQL 18, PostgreSQL 15 if there is one, RabbitMQ.
 *
 * Tests get a database of their own from `TestDatabase`; what is provided here are the addresses alone.
 */
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import type { TestProject } from "vitest/node"
import { Database } from "../../src/postgres/Database.ts"
import { migrate } from "../../src/postgres/migrations.ts"
import { embeddedBinaries, find15, type PostgresServer, startPostgres } from "./postgres.ts"
import { startRabbitmq } from "./rabbitmq.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** The server's own database; `TestDatabase` makes one per test file from the migrated template. */
    readonly postgresUrl: string
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

/** Nobody may connect to the template: a database with sessions cannot be copied. */
const makeTemplate = (url: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE DATABASE kickoff_template`
    yield* migrate.pipe(Effect.provide(inDatabase(url, "kickoff_template")))
    yield* sql`ALTER DATABASE kickoff_template WITH ALLOW_CONNECTIONS false IS_TEMPLATE true`
  }).pipe(Effect.provide(inDatabase(url, "postgres")), Effect.runPromise)

export default async (project: TestProject) => {
  const running: Array<{ readonly stop: () => Promise<void> }> = []
  const stop = async () => {
    await Promise.all(running.map((server) => server.stop()))
  }
  const keep = async <S extends { readonly stop: () => Promise<void> }>(starting: Promise<S>): Promise<S> => {
    const server = await starting
    running.push(server)
    return server
  }
  const withTemplate = async (starting: Promise<PostgresServer>): Promise<string> => {
    const { url } = await keep(starting)
    await makeTemplate(url)
    return url
  }
  const debian = find15()
  const results = await Promise.allSettled([
    embeddedBinaries().then((binaries) => withTemplate(startPostgres(binaries))),
    debian === undefined ? null : withTemplate(startPostgres(debian)),
    keep(startRabbitmq()).then((server) => server.url)
  ])
  const [postgres, postgres15, rabbitmq] = results
  if (postgres.status === "rejected" || postgres15.status === "rejected" || rabbitmq.status === "rejected") {
    await stop()
    throw results.find((result) => result.status === "rejected")?.reason
  }
  project.provide("postgresUrl", postgres.value)
  project.provide("postgres15Url", postgres15.value)
  project.provide("rabbitmqUrl", rabbitmq.value)
  return stop
}
