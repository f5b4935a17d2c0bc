/**
 * What Kickoff costs when nothing is due: statements by kind, processor time, wake-ups and memory, with a million games
 * planned for tomorrow.
 *
 * One process, then three, and job queues that have nothing to do beside the one: they wait most of the time, so that
 * they can be watched together.
 */
import { Effect, Option } from "effect"
import type { SqlError } from "effect/sql"
import { environment, startKickoff, startService } from "../kickoff.ts"
import { startPeer } from "../peer.ts"
import { graphileWorker } from "../peers/graphileWorker.ts"
import { pgBoss } from "../peers/pgBoss.ts"
import { fillGames } from "../fill.ts"
import { Progress } from "../Progress.ts"
import type { Row, Scenario, Table } from "../Scenario.ts"
import { Servers } from "../Servers.ts"
import { type Kind, kindOf, kinds } from "../statements.ts"
import { readUsage, type Usage } from "../usage.ts"

const games = 1_000_000

/** How long a service is left alone before it counts as idle, and how long it is watched. */
const settling = "10 seconds"
const window = "1 minute"

/** The loops that look at a schedule table. */
const loops = 2

/** What was seen of a program in a minute. */
interface Watched {
  readonly name: string
  readonly statements: Counts
  readonly usage: Pick<Usage, "cpu" | "wakeUps" | "resident">
}

type Counts = Readonly<Record<Kind, number>>

const sum = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0)

export const idle: Scenario = {
  name: "idle",
  summary: "what it costs when nothing is due, with 1,000,000 games planned for tomorrow",
  prepare: Effect.fnUntraced(function* () {
    const progress = yield* Progress
    // Of its own, because counting statements costs a little.
    const servers = yield* (yield* Servers).withPostgres({ shared_preload_libraries: "pg_stat_statements" })
    const { admin } = servers
    yield* admin.query("CREATE EXTENSION pg_stat_statements")

    const countStatements = Effect.fnUntraced(function* (database: string) {
      const rows = yield* admin.queryValues(
        `SELECT query, calls::float8 FROM pg_stat_statements AS statement
         JOIN pg_database AS database ON database.oid = statement.dbid WHERE datname = $1 AND toplevel`,
        [database]
      )
      const counts: Record<Kind, number> = { look: 0, outbox: 0, heartbeat: 0, lock: 0, other: 0 }
      for (const [query, calls] of rows) counts[kindOf(String(query))] += Number(calls)
      return counts satisfies Counts
    })

    /** Watches processes on databases for a minute. */
    const watch = Effect.fnUntraced(function* (
      what: string,
      watched: ReadonlyArray<{ readonly name: string; readonly database: string; readonly pids: ReadonlyArray<number> }>
    ) {
      yield* progress.say(`leaving ${what} alone for ${settling}`)
      yield* Effect.sleep(settling)
      const usages = (pids: ReadonlyArray<number>) => Effect.forEach(pids, readUsage)
      const before = yield* Effect.forEach(watched, ({ pids }) => usages(pids))
      yield* admin.query("SELECT pg_stat_statements_reset()")
      yield* progress.say(`watching ${what} for ${window}`)
      yield* Effect.sleep(window)
      return yield* Effect.forEach(watched, ({ database, name, pids }, index) =>
        Effect.gen(function* (): Effect.fn.Return<Watched, SqlError.SqlError> {
          const statements = yield* countStatements(database)
          const after = yield* usages(pids)
          const grown = (key: "cpu" | "wakeUps") =>
            sum(
              after.map((usage, n) => {
                const earlier = before[index]?.[n] ?? Option.none()
                return Option.isSome(usage) && Option.isSome(earlier)
                  ? usage.value[key] - earlier.value[key]
                  : Number.NaN
              })
            )
          return {
            name,
            statements,
            usage: {
              cpu: grown("cpu"),
              wakeUps: grown("wakeUps"),
              resident: sum(
                after.map((usage) =>
                  Option.getOrElse(
                    Option.map(usage, (all) => all.resident),
                    () => Number.NaN
                  )
                )
              )
            }
          }
        })
      )
    })

    const name = "kickoff_idle"
    const peers = ["graphile_idle", "boss_idle"] as const
    yield* progress.say("starting Kickoff")
    const kickoff = yield* Effect.provideService(startKickoff({ name }), Servers, servers)
    yield* progress.say(`planning ${games.toLocaleString("en-US")} games for tomorrow`)
    yield* fillGames(kickoff.database, { games, from: "1 day", within: "1 day" })

    const tablesOf = (title: string, watched: ReadonlyArray<Watched>): ReadonlyArray<Table> => [
      {
        title: `${title}: statements per minute`,
        columns: ["all", ...kinds],
        rows: watched.map(({ name, statements }): Row => ({
          name,
          cells: [sum(Object.values(statements)), ...kinds.map((kind) => statements[kind])]
        }))
      },
      {
        title: `${title}: per minute`,
        columns: ["processor, ms", "wake-ups", "resident, MB"],
        rows: watched.map(({ name, usage }): Row => ({
          name,
          cells: [usage.cpu * 1000, usage.wakeUps, usage.resident].map((value) => (Number.isNaN(value) ? null : value))
        }))
      }
    ]

    /** What targets ask of so many processes. */
    const figuresOf = ({ statements }: Watched, processes: number) => ({
      looks: statements.look / loops / processes,
      heartbeats: (statements.heartbeat + statements.lock + statements.outbox) / processes
    })

    let worst = { looks: 0, heartbeats: 0 }
    const judged = (watched: Watched, processes: number) => {
      const { heartbeats, looks } = figuresOf(watched, processes)
      worst = { looks: Math.max(worst.looks, looks), heartbeats: Math.max(worst.heartbeats, heartbeats) }
      return { idle_looks: worst.looks, idle_heartbeats: worst.heartbeats }
    }

    const one = Effect.gen(function* () {
      yield* progress.say("starting the job queues")
      const graphile = yield* startPeer(graphileWorker("defaults"), peers[0])
      const boss = yield* startPeer(pgBoss("default polling, batches of 500"), peers[1])
      // They are told of a game that never comes, and so they wait for it.
      for (const peer of [graphile, boss]) yield* peer.begin(1)
      const watched = yield* watch("one process and the job queues", [
        { name: "Kickoff", database: name, pids: kickoff.pids },
        { name: "graphile-worker, defaults, nothing planned", database: peers[0], pids: graphile.pids },
        { name: "pg-boss, default polling, nothing planned", database: peers[1], pids: boss.pids }
      ])
      return {
        settings: { games, "watched for": window, "after being left alone for": settling },
        tables: tablesOf("One process", watched),
        notes: [
          "Looks are those at a schedule table, of two loops per process. The heartbeat of the relay is a look at the outbox. Job queues are not asked of their kinds of statement; " +
            "theirs are other. Kickoff is asked for nothing: no probe, no scrape."
        ],
        figures: watched[0] === undefined ? {} : judged(watched[0], 1)
      }
    })

    const three = Effect.gen(function* () {
      const env = environment(kickoff.databaseUrl, servers.rabbitmqUrl, name)
      const others = [yield* startService(env), yield* startService(env)]
      const pids = [...kickoff.pids, ...others.map(({ program }) => program.pid)]
      const watched = yield* watch("three processes", [{ name: "Kickoff, 3 processes together", database: name, pids }])
      return {
        tables: tablesOf("Three processes", watched),
        figures: watched[0] === undefined ? {} : judged(watched[0], pids.length)
      }
    })

    return [
      { name: "one idle process", run: Effect.provideService(one, Servers, servers) },
      { name: "three idle processes", run: Effect.provideService(three, Servers, servers) }
    ]
  })
}
