/**
 * What the faults are done to: one PostgreSQL, one RabbitMQ, and three replicas of the built process, each with a proxy of
 * its own to either server, so that another PostgreSQL can take the place of the first. Nothing of it is shared with anybody
 * else, and nothing outlives the scope.
 */
import { PgConnection } from "@effect/sql-pg"
import { Context, Effect, Exit, Layer, Redacted, Ref, Schedule, Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { type ChildProcess, spawn } from "node:child_process"
import { cpSync, mkdirSync, rmSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Database } from "../../src/postgres/Database.ts"
import { embeddedBinaries, type PostgresServer, startPostgres } from "../support/postgres.ts"
import { type Broker, makeBroker } from "../support/rabbitmq.ts"
import { makeTcpProxy, type TcpProxy } from "../support/TcpProxy.ts"
import { attempt, FaultError } from "./FaultError.ts"

/** One process of the service, and its ways to the servers. */
export interface Replica {
  readonly name: string
  readonly postgres: TcpProxy
  readonly broker: TcpProxy
  /** Where its API was when it was last ready; it may be dead or frozen by now. */
  readonly url: () => string
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Kills the process unless it is dead, starts another, with more in its environment, and waits until it is ready. */
  readonly restart: (environment?: NodeJS.ProcessEnv) => Effect.Effect<void, FaultError>
  /** What one of its metrics says; nothing if it does not answer. */
  readonly gauge: (name: string) => Effect.Effect<number | undefined>
  /** Whether its process lives, and the last that it logged. */
  readonly lastWords: () => string
}

export class Site extends Context.Service<
  Site,
  {
    /** The server to which all proxies lead. */
    readonly postgres: Effect.Effect<PostgresServer>
    /** Puts another in its place, which the site stops at its end. */
    readonly replacePostgres: (server: PostgresServer) => Effect.Effect<void>
    readonly broker: Broker
    readonly replicas: ReadonlyArray<Replica>
    /** The replica that relays; waits until there is one. */
    readonly leader: Effect.Effect<Replica, FaultError>
    /** Replicas that ended without being killed, with their last words. */
    readonly deaths: ReadonlyArray<string>
    /** A session of a fault's own, outside every pool. */
    readonly connect: Effect.Effect<PgConnection.PgConnection, SqlError.SqlError, Scope.Scope>
  }
>()("kickoff/test/faults/Site") {
  /** Also provides the suite's own client of the database. */
  static readonly layer: Layer.Layer<Site | Database | SqlClient.SqlClient, FaultError | SqlError.SqlError> =
    Layer.unwrap(
      Effect.gen(function* () {
        const main = yield* snapshot
        const [postgres, broker] = yield* Effect.all(
          [
            Effect.acquireRelease(
              Effect.flatMap(attempt("PostgreSQL did not start", startFirst), Ref.make),
              (current) => Effect.flatMap(Ref.get(current), (server) => Effect.promise(() => server.stop()))
            ),
            Effect.acquireRelease(
              attempt("RabbitMQ did not start", () => makeBroker()),
              (broker) => Effect.promise(() => broker.stop())
            )
          ],
          { concurrency: "unbounded" }
        )
        const first = (yield* Ref.get(postgres)).url
        const proxy = yield* makeTcpProxy(portOf(first))
        const deaths: Array<string> = []
        const replicas = yield* Effect.forEach(
          ["A", "B", "C"],
          (name) => makeReplica(name, main, first, broker.url, deaths),
          { concurrency: "unbounded" }
        )
        const leader = Effect.forEach(replicas, (replica) =>
          Effect.map(replica.gauge("kickoff_relay_leader"), (leads) => (leads === 1 ? [replica] : []))
        ).pipe(
          Effect.flatMap((found) => {
            const [first] = found.flat()
            return first === undefined
              ? Effect.fail(new FaultError({ detail: "No replica relays the events" }))
              : Effect.succeed(first)
          }),
          Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 100 })
        )
        const replacePostgres = Effect.fnUntraced(function* (server: PostgresServer) {
          yield* Ref.set(postgres, server)
          for (const each of [proxy, ...replicas.map((replica) => replica.postgres)]) {
            yield* each.redirect(portOf(server.url))
          }
        })
        const url = Redacted.make(through(first, proxy))
        const connect = PgConnection.make({ url, applicationName: "faults" })
        return Layer.merge(
          Layer.succeed(
            Site,
            Site.of({ postgres: Ref.get(postgres), replacePostgres, broker, replicas, leader, deaths, connect })
          ),
          // What is asked of half a million games takes its time.
          Database.layer({ url, connections: 6, name: "faults", patient: true })
        )
      })
    )
}

const portOf = (url: string): number => Number(new URL(url).port)

const through = (url: string, { port }: TcpProxy): string => Object.assign(new URL(url), { port: String(port) }).href

/** A copy of the built program, so that a build meanwhile does not change what is tested. */
const snapshot = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const root = fileURLToPath(new URL("../../", import.meta.url))
      const folder = `${root}.test/faults-${process.pid}`
      mkdirSync(folder, { recursive: true })
      cpSync(`${root}dist`, `${folder}/dist`, { recursive: true })
      return folder
    }),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  ),
  (folder) => `${folder}/dist/main.js`
)

const startFirst = async () =>
  startPostgres(await embeddedBinaries(), {
    max_connections: "90",
    // So much of its log waits for a standby that is being copied.
    wal_keep_size: "256MB"
  })

const makeReplica = Effect.fnUntraced(function* (
  name: string,
  main: string,
  postgresUrl: string,
  brokerUrl: string,
  deaths: Array<string>
) {
  const postgres = yield* makeTcpProxy(portOf(postgresUrl))
  const broker = yield* makeTcpProxy(portOf(brokerUrl))
  const env = {
    PATH: process.env["PATH"],
    DATABASE_URL: through(postgresUrl, postgres),
    RABBITMQ_URL: through(brokerUrl, broker),
    HTTP_PORT: "0",
    LOG_FORMAT: "json",
    // Four tries take 3.5 s, eight would take a minute.
    KICKOFF_MAX_ATTEMPTS: "4",
    // What was locked by somebody at a bad moment is looked for once per backstop; the default would be a minute.
    KICKOFF_BACKSTOP: "10 seconds",
    // So that it ends with this process, as if another Node.js had handed over to it.
    KICKOFF_HANDED_OVER: "true"
  }
  let url = ""
  let child: ChildProcess | undefined
  let log: ReadonlyArray<string> = []
  let scope: Scope.Closeable | undefined

  const start = Effect.fnUntraced(function* (environment: NodeJS.ProcessEnv) {
    scope = yield* Scope.make()
    const started = yield* Scope.provide(scope)(launch(name, main, { ...env, ...environment }, deaths))
    child = started.child
    log = started.log
    url = started.url
  })
  const stop = Effect.suspend(() => (scope === undefined ? Effect.void : Scope.close(scope, Exit.void)))
  yield* Effect.addFinalizer(() => stop)
  yield* start({})

  const replica: Replica = {
    name,
    postgres,
    broker,
    url: () => url,
    signal: (signal) => Effect.sync(() => void child?.kill(signal)),
    restart: (environment = {}) => Effect.andThen(stop, start(environment)),
    gauge: (metric) =>
      Effect.tryPromise(async () => {
        // A database that does not answer holds up a scrape for a second.
        const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(2000) })
        const line = new RegExp(`^${metric}(?:\\{.*\\})? (\\S+)$`, "m").exec(await response.text())
        return line === null ? undefined : Number(line[1])
      }).pipe(Effect.orElseSucceed(() => undefined)),
    lastWords: () => {
      const state =
        typeof child?.signalCode === "string"
          ? `ended by ${child.signalCode}`
          : typeof child?.exitCode === "number"
            ? `ended with exit code ${child.exitCode}`
            : "lives"
      return `Replica ${name} ${state}; the last that it logged:\n${log.join("")}`
    }
  }
  return replica
})

/** Starts a process and waits until it is ready; it is killed when the scope closes. */
const launch = Effect.fnUntraced(function* (name: string, main: string, env: NodeJS.ProcessEnv, deaths: Array<string>) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [main], { env, stdio: ["ignore", "pipe", "pipe", "ipc"] })),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) resume(Effect.void)
        else {
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        }
      })
  )
  const log: Array<string> = []
  let ready = false
  const url = yield* Effect.callback<string, FaultError>((resume) => {
    const read = (chunk: Buffer) => {
      log.push(chunk.toString())
      if (log.length > logKept) log.shift()
      const found = ready ? undefined : /Ready on (http:[^\s",]+)/.exec(log.join(""))?.[1]
      if (found === undefined) return
      ready = true
      resume(Effect.succeed(found))
    }
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", read)
    // A killed process is no surprise; one that ends by itself is.
    child.once("exit", (code) => {
      if (code === null) return
      const detail = `Replica ${name} ended by itself with exit code ${code}:\n${log.join("")}`
      deaths.push(detail)
      resume(Effect.fail(new FaultError({ detail })))
    })
  }).pipe(
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () => Effect.fail(new FaultError({ detail: `Replica ${name} was not ready in 30 s:\n${log.join("")}` }))
    })
  )
  return { child, log, url }
})

const logKept = 50
