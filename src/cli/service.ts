/**
 * The running service: finds its database and broker, migrates, and runs the daemons of its roles side by side.
 *
 * Daemons never end, so the first one that does, by failure or defect, ends the process with its reason.
 */
import { NodeServices } from "@effect/platform-node"
import type { PgClient } from "@effect/sql-pg"
import { Cause, Config, Context, Effect, Exit, Layer, Option, type Redacted, References } from "effect"
import type { SqlClient } from "effect/sql"
import packageJson from "../../package.json" with { type: "json" }
import { ApiKeys } from "../access/ApiKeys.ts"
import { DeadLetters } from "../deadLetters/DeadLetters.ts"
import { Games } from "../games/Games.ts"
import { isLoopback } from "../http/exposure.ts"
import { HttpServer } from "../http/HttpServer.ts"
import { Readiness } from "../http/Readiness.ts"
import { InProcessPublisher } from "../messaging/InProcessPublisher.ts"
import { Publisher } from "../messaging/Publisher.ts"
import { readTls as readBrokerTls } from "../messaging/link.ts"
import { RabbitPublisher } from "../messaging/RabbitPublisher.ts"
import { LedgerRepository } from "../ledger/LedgerRepository.ts"
import * as Retention from "../ledger/Retention.ts"
import { Health } from "../observability/Health.ts"
import * as Logging from "../observability/logging.ts"
import { ProcessMetrics } from "../observability/ProcessMetrics.ts"
import * as Tracing from "../observability/tracing.ts"
import { DatabaseMetrics } from "../operations/DatabaseMetrics.ts"
import { DatabaseMetricsRepository } from "../operations/DatabaseMetricsRepository.ts"
import { Pauses } from "../operations/Pauses.ts"
import { OutboxRepository } from "../outbox/OutboxRepository.ts"
import { OutboxSignal } from "../outbox/OutboxSignal.ts"
import * as Relay from "../outbox/Relay.ts"
import { Database, type DatabaseOptions } from "../postgres/Database.ts"
import { EmbeddedPostgres } from "../postgres/EmbeddedPostgres.ts"
import { Listener } from "../postgres/Listener.ts"
import { migrate } from "../postgres/migrations.ts"
import { describeAddress, describeEncryption, readTls } from "../postgres/sockets.ts"
import * as DueLoop from "../scheduling/DueLoop.ts"
import { NotificationRepository } from "../scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../scheduling/StatusTransitionRepository.ts"
import { type Role, Settings } from "../Settings.ts"
import * as Shadow from "../shadow/footing.ts"
import { ShadowRunRepository } from "../shadow/ShadowRunRepository.ts"
import { requireCertificates } from "./connection.ts"
import { runDaemons } from "./daemons.ts"
import { AlreadyLogged, BadArgument } from "./failures.ts"
import { boundShutdown } from "./shutdown.ts"

interface Addresses {
  readonly url: Redacted.Redacted
  /** For LISTEN and advisory locks. */
  readonly listenUrl: Redacted.Redacted
  /** Whether `url` leads through a pooler that keeps no sessions. */
  readonly pooler: boolean
  /** Whether it is a server of our own, for trying out. */
  readonly embedded: boolean
  /** For people. */
  readonly description: string
}

/** The database of the settings, or one of our own that lives as long as the scope. */
const findDatabase = Effect.gen(function* () {
  const settings = yield* Settings
  if (Option.isSome(settings.databaseUrl)) {
    const url = settings.databaseUrl.value
    yield* requireCertificates("DATABASE_URL", settings.databaseUrl, readTls)
    yield* requireCertificates("DATABASE_LISTEN_URL", settings.databaseListenUrl, readTls)
    return {
      url,
      listenUrl: Option.getOrElse(settings.databaseListenUrl, () => url),
      pooler: Option.isSome(settings.databaseListenUrl),
      embedded: false,
      description: [describeAddress(url), ...Option.toArray(describeEncryption(url))].join(", ")
    } satisfies Addresses
  }
  if (settings.shadow) {
    return yield* new BadArgument({
      name: "DATABASE_URL",
      detail: "Expected the URL of the database that another system works on, because KICKOFF_SHADOW is true"
    })
  }
  if (settings.container) {
    return yield* new BadArgument({
      name: "DATABASE_URL",
      detail: "Expected a URL that starts with postgres://, there is no embedded database in the container image"
    })
  }
  const context = yield* Layer.build(EmbeddedPostgres.layer(settings.dataDir)).pipe(
    Effect.catchTag("DataFolderUnusable", ({ detail, folder }) =>
      Effect.fail(new BadArgument({ name: "KICKOFF_DATA_DIR", detail: `${folder} cannot be used: ${detail}` }))
    )
  )
  const { folder, url } = yield* Effect.provideContext(EmbeddedPostgres, context)
  return {
    url,
    listenUrl: url,
    pooler: false,
    embedded: true,
    description: `embedded in ${folder}`
  } satisfies Addresses
})

/** Waits for the database and prepares it. */
const prepare = <A, E, R>(addresses: Addresses, preparation: Effect.Effect<A, E, R>) =>
  Effect.andThen(Database.awaitReachable(addresses.url), preparation).pipe(
    Effect.provide(
      Database.layer({ url: addresses.url, connections: 1, name: "start", pooler: addresses.pooler, patient: true })
    )
  )

/** Applies what is pending, and begins a shadow where one is asked for, if this process may change the schema. */
const bringUpToDate = Effect.gen(function* () {
  const { migrate: apply, shadow } = yield* Settings
  for (const name of apply ? yield* migrate : []) yield* Effect.logInfo(`Applied ${name}`)
  const run = yield* ShadowRunRepository
  if (shadow && apply) yield* run.begin
  const since = Option.map(yield* run.since, (millis) => new Date(millis).toISOString())
  if (shadow && Option.isNone(since)) {
    yield* new BadArgument({
      name: "KICKOFF_SHADOW",
      detail: 'This database is not in shadow and KICKOFF_MIGRATE is false; "kickoff shadow begin" begins it'
    })
  }
  // Where one of several processes lacks the variable, it must not do what another system does.
  if (!shadow && Option.isSome(since)) {
    yield* new BadArgument({
      name: "KICKOFF_SHADOW",
      detail: `Expected true, because this database has been in shadow since ${since.value}; "kickoff shadow end" ends that`
    })
  }
  if (Option.isSome(since)) yield* Effect.logInfo(`In shadow since ${since.value}: nothing is changed or published`)
}).pipe(Effect.provide(ShadowRunRepository.layer))

/** Migrates the database of the settings and returns the names of what was applied. Logs go to standard error. */
export const migrateDatabase = Effect.gen(function* () {
  return yield* prepare(yield* findDatabase, migrate)
}).pipe(
  Effect.scoped,
  Effect.provide(Logging.layer),
  Effect.provide(Settings.layer),
  Effect.provide(NodeServices.layer),
  Effect.provideService(References.LogToStderr, true)
)

/** Events go to RabbitMQ, or stay in this process when there is none. */
const publisherLayer = Layer.unwrap(
  Effect.gen(function* () {
    const { rabbitmqUrl, roles } = yield* Settings
    if (!roles.includes("outbox")) return Publisher.layerUnused
    if (Option.isSome(rabbitmqUrl)) return RabbitPublisher.layer
    yield* Effect.logInfo("Broker: none, events are shown here and go nowhere else; RABBITMQ_URL names one")
    return InProcessPublisher.layer
  })
)

/** What differs between a process that does the work and one that only records what it would do. */
interface Footing {
  /** What sessions of these parts are called. */
  readonly sessions: Readonly<Partial<Record<string, string>>>
  readonly statusTransitions: Layer.Layer<StatusTransitionRepository, never, Database | SqlClient.SqlClient>
  readonly notifications: Layer.Layer<NotificationRepository, never, Database | SqlClient.SqlClient>
  readonly signal: Layer.Layer<OutboxSignal, never, Database | PgClient.PgClient>
  readonly databaseMetrics: Layer.Layer<DatabaseMetricsRepository, never, SqlClient.SqlClient>
}

const live: Footing = {
  sessions: {},
  statusTransitions: StatusTransitionRepository.layer,
  notifications: NotificationRepository.layer,
  signal: OutboxSignal.layer,
  databaseMetrics: DatabaseMetricsRepository.layer
}

const footing = Effect.map(Settings, ({ shadow }): Footing => (shadow ? Shadow : live))

/** What the footing of this process has for a layer. */
const chosen = <A, E, R>(choose: (footing: Footing) => Layer.Layer<A, E, R>) =>
  Layer.unwrap(Effect.map(footing, choose))

/** Connections that are named after what they are for. */
const connections = (options: DatabaseOptions) =>
  chosen(({ sessions }) => Database.layer({ ...options, name: sessions[options.name] ?? options.name }))

/**
 * A session for the same few statements all the time, like those of a loop. The relay's forgets what the broker has: should
 * the server lose that in a crash, the events are sent once more under their ids.
 */
const steadySession = ({ pooler, url }: Addresses, name: Role | "metrics") =>
  connections({ url, connections: 1, name, pooler, steady: true, repeated: name === "outbox" })

/** The API keys of a process that serves the API; without any it must not be reached from elsewhere. */
const apiKeys = Effect.gen(function* () {
  const { httpHost, roles } = yield* Settings
  const context = yield* Layer.build(roles.includes("api") ? ApiKeys.layer : ApiKeys.layerNone).pipe(
    Effect.mapError(({ detail, variable }) => new BadArgument({ name: variable, detail }))
  )
  const { required } = Context.get(context, ApiKeys)
  if (roles.includes("api") && !required && !isLoopback(httpHost)) {
    return yield* new BadArgument({
      name: "HTTP_HOST",
      detail:
        `Expected an address of this machine alone, like 127.0.0.1, because nobody needs a key for the API; or set ` +
        `KICKOFF_API_KEYS_FILE to a file with keys, which "kickoff keys create" makes. Got ${JSON.stringify(httpHost)}`
    })
  }
  return context
})

const layer = (addresses: Addresses, keys: Context.Context<ApiKeys>) => {
  const { listenUrl, pooler, url } = addresses
  const session = (name: string) => connections({ url, connections: 1, name, pooler })
  const pool = Layer.unwrap(
    Effect.map(Settings, ({ databasePoolSize }) =>
      connections({ url, connections: databasePoolSize, name: "pool", pooler })
    )
  )
  const games = Layer.unwrap(
    Effect.map(Settings, ({ roles }) => Games.layerWith({ besideLoops: roles.some((role) => role !== "api") }))
  )
  // In every process there is one, which probes keep busy; so its name says who serves the API.
  const readiness = Layer.unwrap(
    Effect.map(Settings, ({ roles }) =>
      Readiness.layer.pipe(Layer.provide(session(roles.includes("api") ? "api" : "readiness")))
    )
  )
  return Layer.mergeAll(
    HttpServer.layer.pipe(
      Layer.provide(games),
      Layer.provide(DeadLetters.layer),
      Layer.provide(Pauses.layer),
      Layer.provide(ProcessMetrics.layer),
      Layer.provide(
        DatabaseMetrics.layer.pipe(
          Layer.provide(chosen(({ databaseMetrics }) => databaseMetrics)),
          Layer.provide(steadySession(addresses, "metrics"))
        )
      ),
      Layer.provide(readiness),
      Layer.provide(Tracing.requests)
    ),
    LedgerRepository.layer
  ).pipe(
    Layer.provideMerge(chosen(({ signal }) => signal)),
    Layer.provide(pool),
    Layer.provideMerge(Layer.mergeAll(Listener.layer(listenUrl), publisherLayer)),
    Layer.provideMerge(Health.layer),
    Layer.provideMerge(Layer.succeedContext(keys))
  )
}

/** A command that plans a game in ten seconds; npm's Node.js knows the time on every system. */
const tryOut = (url: string): string =>
  `curl -X POST ${url}/v1/games -H 'content-type: application/json' -d '{"guild_id":"demo","title":"My first game",` +
  `"scheduled_at":"'"$(node -p 'new Date(Date.now()+1e4).toISOString()')"'"}'`

const serve = (addresses: Addresses) =>
  Effect.gen(function* () {
    const { roles } = yield* Settings
    const http = yield* HttpServer
    const keys = yield* ApiKeys
    const listener = yield* Listener
    const publisher = yield* Publisher
    const signal = yield* OutboxSignal
    const { notifications, statusTransitions } = yield* footing
    const whenPlayed = <E, R>(role: Role, name: string, daemon: Effect.Effect<never, E, R>) =>
      roles.includes(role) ? { [name]: daemon } : {}
    /** Opened only by processes that run the loop. */
    const on = <R, E, RIn>(role: Role, repository: Layer.Layer<R, E, RIn>) =>
      Layer.provide(repository, steadySession(addresses, role))

    yield* Effect.logInfo(`Ready on ${http.url}${roles.includes("api") ? `, documentation on ${http.url}/docs` : ""}`)
    if (addresses.embedded && roles.includes("api") && !keys.required)
      yield* Effect.logInfo(`Plan a game that starts in ten seconds: ${tryOut(http.url)}`)
    return yield* runDaemons({
      "HTTP server": http.run,
      listener: listener.run,
      "connection to the broker": publisher.run,
      "signal to the relay": signal.run,
      "watch over the API keys": keys.run,
      ...whenPlayed(
        "status-transitions",
        "loop of status transitions",
        Effect.flatMap(StatusTransitionRepository, DueLoop.run).pipe(
          Effect.provide(on("status-transitions", statusTransitions))
        )
      ),
      ...whenPlayed(
        "notifications",
        "loop of notifications",
        Effect.flatMap(NotificationRepository, DueLoop.run).pipe(Effect.provide(on("notifications", notifications)))
      ),
      ...whenPlayed(
        "outbox",
        "relay",
        Effect.provide(Relay.run(addresses.listenUrl), on("outbox", OutboxRepository.layer))
      ),
      ...whenPlayed("outbox", "retention", Retention.run)
    })
  }).pipe(Effect.scoped)

/** Where nothing is written, the end of the process says enough. */
const logEnd = (exit: Exit.Exit<unknown, unknown>) => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return Effect.logInfo("Stopped")
  return Effect.void
}

/** Logs the reason of a failure in the log's own format; what is wrong with the configuration is for the terminal. */
const logReason = <E>(cause: Cause.Cause<E>) => {
  const error = cause.reasons.find(Cause.isFailReason)?.error
  if (error instanceof Config.ConfigError || error instanceof BadArgument) return Effect.failCause(cause)
  const said = error instanceof Error && !cause.reasons.some(Cause.isDieReason)
  return Effect.andThen(
    said
      ? Logging.logFailure(error.message)
      : Logging.logFailure("A defect ended the process, please report it", cause),
    Effect.fail(new AlreadyLogged())
  )
}

/** Serves until interrupted. */
export const service = Effect.gen(function* () {
  const settings = yield* Settings
  yield* boundShutdown(settings.shutdownGrace)
  return yield* Effect.gen(function* () {
    const played = [...settings.roles, ...(settings.shadow ? ["as a shadow"] : [])].join(", ")
    yield* Effect.logInfo(`Kickoff ${packageJson.version} plays ${played}`)
    if (settings.roles.includes("outbox")) {
      yield* requireCertificates("RABBITMQ_URL", settings.rabbitmqUrl, readBrokerTls)
    }
    const keys = yield* apiKeys
    const addresses = yield* findDatabase
    yield* Effect.logInfo(`Database: ${addresses.description}`)
    yield* prepare(addresses, bringUpToDate)
    return yield* serve(addresses).pipe(Effect.provide(layer(addresses, keys)), Effect.provide(Tracing.layer))
  }).pipe(Effect.scoped, Effect.onExit(logEnd), Effect.catchCause(logReason))
}).pipe(
  Effect.scoped,
  Effect.provide(Logging.layer),
  Effect.provide(Settings.layer),
  Effect.provide(NodeServices.layer)
)
