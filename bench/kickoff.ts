/** Kickoff as it is delivered: the built process on a database and an exchange, its defaults untouched. */
import { Duration, Effect, Schedule } from "effect"
import { fileURLToPath } from "node:url"
import { BenchError } from "./BenchError.ts"
import { startProgram } from "./childProcess.ts"
import { consume } from "./consumer.ts"
import { Servers } from "./Servers.ts"
import { connect, readNumber } from "./sql.ts"
import type { Subject } from "./Subject.ts"

export interface Kickoff extends Subject {
  /** Where its API listens. */
  readonly url: string
}

const program = fileURLToPath(new URL("../dist/main.js", import.meta.url))

/** A game as another application would insert it, with both of its rows. */
const plan = `
  WITH planned AS (
    INSERT INTO game_sessions (guild_id, title, scheduled_at)
    SELECT 'bench', 'Game ' || n,
      date_trunc('milliseconds', statement_timestamp()) + ($2::float8 + due) * interval '1 millisecond'
    FROM unnest($1::float8[]) WITH ORDINALITY AS game (due, n)
    RETURNING id, scheduled_at, expected_duration_minutes
  ), scheduled AS (
    INSERT INTO game_status_schedule (game_id, target_status, transition_time)
    SELECT id, 'IN_PROGRESS', scheduled_at FROM planned
    UNION ALL
    SELECT id, 'COMPLETED', scheduled_at + expected_duration_minutes * interval '1 minute' FROM planned
  )
  SELECT id, (extract(epoch FROM scheduled_at) * 1000)::float8 FROM planned`

/** Starts the service and waits until it is ready; it stops when the scope closes. */
export const startKickoff = Effect.fnUntraced(function* (name: string, profile: string | undefined) {
  const servers = yield* Servers
  const url = yield* servers.createDatabase(name)
  const exchange = `${name}.events`
  const consumer = yield* consume(servers.rabbitmqUrl, { name: exchange, alternateExchange: "kickoff.unrouted" })
  const kickoff = yield* startProgram({
    name: "Kickoff",
    args: [...(profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`]), program],
    env: {
      DATABASE_URL: url,
      DATABASE_LISTEN_URL: "",
      RABBITMQ_URL: servers.rabbitmqUrl,
      RABBITMQ_EXCHANGE: exchange,
      HTTP_HOST: "127.0.0.1",
      HTTP_PORT: "0",
      KICKOFF_ROLES: "",
      LOG_FORMAT: "json",
      // So that it ends with this process, as if another Node.js had handed over to it.
      KICKOFF_HANDED_OVER: "true"
    }
  })
  const ready = yield* kickoff
    .next((output) => (output._tag === "line" ? /Ready on (http:\/\/[^\s,"]+)/.exec(output.line)?.[1] : undefined))
    .pipe(
      Effect.timeoutOrElse({
        duration: Duration.seconds(30),
        orElse: () => Effect.fail(new BenchError({ detail: "Kickoff was not ready within 30 s" }))
      })
    )
  const database = yield* connect(url)

  const settle = Effect.gen(function* () {
    yield* readNumber(database, "SELECT count(*)::int FROM outbox").pipe(
      Effect.repeat({ until: (waiting) => waiting === 0, schedule: Schedule.spaced("20 millis") }),
      Effect.timeoutOrElse({
        duration: Duration.seconds(30),
        orElse: () => Effect.fail(new BenchError({ detail: "Kickoff has not emptied its outbox within 30 s" }))
      })
    )
    const refused = yield* readNumber(database, "SELECT count(*)::int FROM dead_letters")
    if (refused > 0) yield* new BenchError({ detail: `Kickoff gave up ${refused} rows, see dead_letters` })
    yield* database.query("TRUNCATE game_sessions CASCADE")
  })

  return { name: "Kickoff", database, consumer, plan, begin: Effect.void, settle, url: ready } satisfies Kickoff
})
