/**
 * A PostgreSQL and a RabbitMQ of the benchmark's own, and what they and the machine are.
 *
 * PostgreSQL keeps its default durability: every commit waits for the disk, as in production.
 */
import type { PgConnection } from "@effect/sql-pg"
import { connect as connectBroker } from "amqplib"
import { Context, Effect, Layer, Option, type Scope } from "effect"
import type { SqlError } from "effect/sql"
import { describeMachine } from "../test/support/machine.ts"
import { embeddedBinaries, startPostgres } from "../test/support/postgres.ts"
import { type Broker, makeBroker } from "../test/support/rabbitmq.ts"
import { BenchError } from "./BenchError.ts"
import { now } from "./clock.ts"
import { Progress } from "./Progress.ts"
import { connect, readNumber, readText } from "./sql.ts"
import { median } from "./statistics.ts"
import { isProgram, readFamilies } from "./usage.ts"

/** What the figures depend on, by name. */
export type Environment = Readonly<Record<string, string | number>>

/** Those that the tests turn off, and PostgreSQL's own size of shared memory. */
const durability = { fsync: "on", full_page_writes: "on", shared_buffers: "128MB" }

export interface Surroundings {
  readonly rabbitmqUrl: string
  readonly environment: Environment
  /** Creates an empty database that lives as long as the scope, and returns its URL. */
  readonly createDatabase: (name: string) => Effect.Effect<string, SqlError.SqlError, Scope.Scope>
  /** The same broker beside another PostgreSQL with settings of its own, which lives as long as the scope. */
  readonly withPostgres: (
    settings: Readonly<Record<string, string>>
  ) => Effect.Effect<Surroundings, BenchError | SqlError.SqlError, Scope.Scope>
  /** A session as the superuser of the databases. */
  readonly admin: PgConnection.PgConnection
  /** Processor time that the servers have used so far. */
  readonly cpu: Effect.Effect<ServersCpu>
}

/** Seconds; NaN where nobody knows. */
export interface ServersCpu {
  readonly postgresql: number
  readonly rabbitmq: number
}

export class Servers extends Context.Service<Servers, Surroundings>()("kickoff/bench/Servers") {
  static readonly layer = Layer.effect(
    Servers,
    Effect.gen(function* () {
      const progress = yield* Progress
      yield* progress.say("starting PostgreSQL and RabbitMQ")
      const startOne = (settings: Readonly<Record<string, string>>) =>
        server("PostgreSQL", async () => startPostgres(await embeddedBinaries(), { ...durability, ...settings }))
      const [postgres, broker] = yield* Effect.all([startOne({}), server("RabbitMQ", () => makeBroker())], {
        concurrency: "unbounded"
      })
      const admin = yield* connect(postgres.url)
      const environment = {
        ...describeMachine(),
        ...(yield* versions(admin, broker.url)),
        ...(yield* settings(admin)),
        "a commit takes, ms": yield* commitMillis(admin)
      }
      const brokerPid = yield* findBrokerPid(broker)
      const serve = (admin: PgConnection.PgConnection, url: string, postmaster: number): Surroundings => ({
        rabbitmqUrl: broker.url,
        environment,
        admin,
        cpu: Effect.all({
          postgresql: readFamilies([postmaster]),
          rabbitmq: Option.match(brokerPid, {
            onNone: () => Effect.succeed(Number.NaN),
            onSome: (pid) => readFamilies([pid])
          })
        }),
        createDatabase: (name) =>
          Effect.as(
            Effect.acquireRelease(admin.query(`CREATE DATABASE ${name}`), () =>
              Effect.orDie(admin.query(`DROP DATABASE ${name} WITH (FORCE)`))
            ),
            Object.assign(new URL(url), { pathname: name }).href
          ),
        withPostgres: Effect.fnUntraced(function* (settings) {
          const other = yield* startOne(settings)
          const otherAdmin = yield* connect(other.url)
          return serve(otherAdmin, other.url, yield* findPostmaster(otherAdmin))
        })
      })
      return Servers.of(serve(admin, postgres.url, yield* findPostmaster(admin)))
    })
  )
}

const server = <S extends { readonly stop: () => Promise<void> }>(
  name: string,
  start: () => Promise<S>
): Effect.Effect<S, BenchError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: start,
      catch: (error) =>
        new BenchError({ detail: `${name} did not start: ${error instanceof Error ? error.message : String(error)}` })
    }),
    (started) => Effect.promise(() => started.stop())
  )

const findPostmaster = (admin: PgConnection.PgConnection) =>
  readNumber(admin, "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)::int")

/** None where it runs in a container, whose numbers of processes are its own. */
const findBrokerPid = (broker: Broker) =>
  Effect.map(
    Effect.tryPromise({
      try: () => broker.ctl("eval", "list_to_integer(os:getpid())."),
      catch: (error) => new BenchError({ detail: `RabbitMQ does not tell its process: ${String(error)}` })
    }),
    (answer) => Option.filter(Option.some(Number(answer.trim())), (pid) => isProgram(pid, "beam"))
  )

const versions = Effect.fnUntraced(function* (admin: PgConnection.PgConnection, rabbitmqUrl: string) {
  const rabbitmq = yield* Effect.tryPromise({
    try: async () => {
      const { close, version } = await connectBroker(rabbitmqUrl).then((connection) => ({
        close: () => connection.close(),
        version: connection.connection.serverProperties.version
      }))
      await close()
      return version
    },
    catch: (error) => new BenchError({ detail: `RabbitMQ does not answer: ${String(error)}` })
  })
  return {
    node: process.versions.node,
    postgresql: yield* readText(admin, "SHOW server_version"),
    rabbitmq
  }
})

const settings = Effect.fnUntraced(function* (admin: PgConnection.PgConnection) {
  const shown: Record<string, string> = {}
  for (const name of ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers"]) {
    shown[name] = yield* readText(admin, `SHOW ${name}`)
  }
  return shown
})

/** What durability costs on this disk: the median of a hundred commits of one row. */
const commitMillis = Effect.fnUntraced(function* (admin: PgConnection.PgConnection) {
  yield* admin.query("CREATE TABLE commits (n integer)")
  const times: Array<number> = []
  for (let n = 0; n < 100; n++) {
    const began = now()
    yield* admin.query("INSERT INTO commits VALUES ($1)", [n])
    times.push(now() - began)
  }
  yield* admin.query("DROP TABLE commits")
  return Math.round(median(times) * 100) / 100
})
