/** Kickoff as it is delivered: the built process on a database and an exchange, its defaults untouched. */
import { Duration, Effect, Schedule } from "effect"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { BenchError } from "./BenchError.ts"
import { type Program, runProgram, startProgram } from "./childProcess.ts"
import { consume } from "./consumer.ts"
import { add, parseHistogram } from "./histogram.ts"
import { Servers } from "./Servers.ts"
import { connect, readNumber } from "./sql.ts"
import type { Subject } from "./Subject.ts"

export interface Service {
  readonly program: Program
  /** Where its API listens. */
  readonly url: string
}

export interface Kickoff extends Subject {
  /** One after the other, as they were started: the first one relays. */
  readonly services: readonly [Service, ...ReadonlyArray<Service>]
  readonly databaseUrl: string
}

export interface KickoffOptions {
  /** Of the database and the exchange. */
  readonly name: string
  /** How many processes; one unless given. */
  readonly processes?: number
  /** What `KICKOFF_ROLES` says; all unless given. */
  readonly roles?: string
  /** Folder for CPU profiles. */
  readonly profile?: string | undefined
}

/** The built program. */
export const mainFile = fileURLToPath(new URL("../dist/main.js", import.meta.url))

const exchangeOf = (name: string) => ({ name: `${name}.events`, alternateExchange: "kickoff.unrouted" })

/** A game as another application would insert it, with both of its rows. */
const plan = (answer: string) => `
  WITH game AS (
    INSERT INTO game_sessions (guild_id, title, scheduled_at)
    SELECT 'bench', 'Game ' || n,
      date_trunc('milliseconds', statement_timestamp()) + ($2::float8 + due) * interval '1 millisecond'
    FROM unnest($1::float8[]) WITH ORDINALITY AS game (due, n)
    RETURNING id, scheduled_at, expected_duration_minutes
  ), scheduled AS (
    INSERT INTO game_status_schedule (game_id, target_status, transition_time)
    SELECT id, 'IN_PROGRESS', scheduled_at FROM game
    UNION ALL
    SELECT id, 'COMPLETED', scheduled_at + expected_duration_minutes * interval '1 minute' FROM game
  ), planned AS (
    SELECT id, scheduled_at AS due_at FROM game
  )
  ${answer}`

/** Without triggers and checks of keys, which would only take time, but with the notification that a trigger would send. */
const bulk: Subject["bulk"] = {
  before: ["SET LOCAL session_replication_role = replica"],
  after: ["SELECT pg_notify('game_status_schedule_changed', '{}')"]
}

/** The environment of a service that plays on these servers. */
export const environment = (databaseUrl: string, rabbitmqUrl: string, name: string) => ({
  DATABASE_URL: databaseUrl,
  DATABASE_LISTEN_URL: "",
  RABBITMQ_URL: rabbitmqUrl,
  RABBITMQ_EXCHANGE: exchangeOf(name).name,
  HTTP_HOST: "127.0.0.1",
  HTTP_PORT: "0",
  KICKOFF_ROLES: "",
  LOG_FORMAT: "json",
  // So that it ends with this process, as if another Node.js had handed over to it.
  KICKOFF_HANDED_OVER: "true"
})

/** The flags with which the image starts Node.js. */
const imageFlags =
  /^exec node (.*)\/app\/dist\/main\.js/m
    .exec(readFileSync(new URL("../docker/entrypoint.sh", import.meta.url), "utf8"))?.[1]
    ?.split(" ")
    .filter((flag) => flag !== "") ?? []

/** Starts a service as the image does, and waits until it is ready; it stops when the scope closes. */
export const startService = Effect.fnUntraced(function* (env: Readonly<Record<string, string>>, profile?: string) {
  const program = yield* startProgram({
    name: "Kickoff",
    args: [...imageFlags, ...(profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`]), mainFile],
    env
  })
  const url = yield* program
    .next((output) => (output._tag === "line" ? /Ready on (http:\/\/[^\s,"]+)/.exec(output.line)?.[1] : undefined))
    .pipe(
      Effect.timeoutOrElse({
        duration: Duration.seconds(30),
        orElse: () => Effect.fail(new BenchError({ detail: "Kickoff was not ready within 30 s" }))
      })
    )
  return { program, url } satisfies Service
})

/** Applies the migrations to a database. */
export const migrate = (databaseUrl: string) =>
  runProgram({ name: "kickoff migrate", args: [mainFile, "migrate"], env: { DATABASE_URL: databaseUrl } })

const scrape = (url: string): Effect.Effect<string, BenchError> =>
  Effect.tryPromise({
    try: async () => (await fetch(`${url}/metrics`)).text(),
    catch: (error) => new BenchError({ detail: `Kickoff does not show its metrics: ${String(error)}` })
  })

const within = (limit: Duration.Duration, what: string) =>
  Effect.timeoutOrElse({
    duration: limit,
    orElse: () => Effect.fail(new BenchError({ detail: `Kickoff has not ${what} within ${Duration.format(limit)}` }))
  })

/** Starts Kickoff on a database and an exchange of its own. */
export const startKickoff = Effect.fnUntraced(function* (options: KickoffOptions) {
  const { name, processes = 1, profile, roles = "" } = options
  const servers = yield* Servers
  const databaseUrl = yield* servers.createDatabase(name)
  const consumer = yield* consume(servers.rabbitmqUrl, exchangeOf(name))
  const start = startService({ ...environment(databaseUrl, servers.rabbitmqUrl, name), KICKOFF_ROLES: roles }, profile)
  const services: [Service, ...Array<Service>] = [yield* start]
  while (services.length < processes) services.push(yield* start)
  const database = yield* connect(databaseUrl)

  const outboxEmpty = readNumber(database, "SELECT count(*)::int FROM (SELECT FROM outbox LIMIT 1) AS waiting").pipe(
    Effect.repeat({ until: (waiting) => waiting === 0, schedule: Schedule.spaced("20 millis") })
  )

  const lastConfirm: Subject["lastConfirm"] = (games) =>
    Effect.gen(function* () {
      // The broker is asked and not the database, whose time is what is measured.
      yield* consumer.arrived(games)
      yield* outboxEmpty
      return yield* readNumber(
        database,
        "SELECT (extract(epoch FROM max(confirmed_at)) * 1000)::float8 FROM confirmations"
      )
    })

  const settle = Effect.gen(function* () {
    yield* within(Duration.seconds(30), "emptied its outbox")(outboxEmpty)
    const refused = yield* readNumber(database, "SELECT count(*)::int FROM dead_letters")
    if (refused > 0) yield* new BenchError({ detail: `Kickoff gave up ${refused} rows, see dead_letters` })
    const early = yield* readNumber(
      database,
      "SELECT count(*)::int FROM ledger, unnest(due_at) AS due WHERE recorded_at < due"
    )
    if (early > 0) yield* new BenchError({ detail: `Kickoff recorded ${early} games before they were due` })
    yield* database.query("TRUNCATE game_sessions, ledger, confirmations CASCADE")
  })

  const confirmed = Effect.map(
    database.queryValues(`
      SELECT (extract(epoch FROM confirmation.confirmed_at - event.due) * 1000)::float8
      FROM (SELECT unnest(event_ids) AS id, unnest(due_at) AS due FROM ledger) AS event
      JOIN (SELECT unnest(event_ids) AS id, confirmed_at FROM confirmations) AS confirmation USING (id)`),
    (rows) => rows.map(([millis]) => Number(millis))
  )

  const committed = Effect.map(
    Effect.forEach(services, ({ url }) => scrape(url)),
    (texts) => add(texts.map((text) => parseHistogram(text, "kickoff_lateness_committed_seconds")))
  )

  return {
    name: processes === 1 ? "Kickoff" : `Kickoff, ${processes} processes`,
    pids: services.map(({ program }) => program.pid),
    database,
    databaseUrl,
    consumer,
    plan,
    bulk,
    begin: () => Effect.void,
    lastConfirm,
    committed,
    confirmed,
    settle,
    services
  } satisfies Kickoff
})
