/**
 * What the API takes: creates, edits and reads beside a bare handler that runs the same statements, what its triggers cost
 * who plans by plain SQL, and how late games start while others are created.
 */
import { Effect, Schedule } from "effect"
import { type KickoffOptions, migrate, startKickoff } from "../kickoff.ts"
import { startCommits } from "../load/commits.ts"
import { type Answered, type RequestKind, startHttpLoad } from "../load/http.ts"
import { startBareApi } from "../peers/bareApi.ts"
import { Progress } from "../Progress.ts"
import type { Row, Scenario } from "../Scenario.ts"
import { Servers } from "../Servers.ts"
import { connect, readNumber } from "../sql.ts"
import { median, medians, quantileColumns, quantiles } from "../statistics.ts"
import { playRound, type Round } from "../Subject.ts"

const connections = 16
const seconds = { requests: 2.5, warmUp: 1.5, commits: 4, mix: 10 }

/** Games that are there to be edited and read. */
const seeds = 1000

const mix = { creates: 500, starts: 200 }

const kinds: ReadonlyArray<RequestKind> = ["create", "edit", "read"]

const requestColumns = ["requests/s", "p50, ms", "p95, ms", "p99, ms", "p99.9, ms", "max, ms"]

export const api: Scenario = {
  name: "api",
  summary: "requests per second beside a bare handler, the cost of NOTIFY, and games that start meanwhile",
  prepare: Effect.fnUntraced(function* (options) {
    const progress = yield* Progress
    const servers = yield* Servers
    const request = yield* startHttpLoad()

    const start = Effect.fnUntraced(function* (kickoffOptions: KickoffOptions, name: string) {
      yield* progress.say(`starting ${name}`)
      const kickoff = yield* startKickoff(kickoffOptions)
      return { ...kickoff, name, url: kickoff.services[0].url }
    })
    const whole = yield* start({ name: "kickoff_api_whole", profile: options.profile }, "Kickoff, all roles")
    const sides = [
      {
        ...(yield* start({ name: "kickoff_api", roles: "api", profile: options.profile }, "Kickoff, role api")),
        relays: false
      },
      { ...(yield* startBareApi("bare_api")), relays: false },
      { ...whole, relays: true }
    ]
    type Side = (typeof sides)[number]

    /** Empties what earlier rounds have left, so that all sides begin alike. */
    const reset = Effect.fnUntraced(function* ({ database, relays }: Side) {
      if (relays) {
        yield* readNumber(database, "SELECT count(*)::int FROM (SELECT FROM outbox LIMIT 1) AS waiting").pipe(
          Effect.repeat({ until: (waiting) => waiting === 0, schedule: Schedule.spaced("20 millis") })
        )
      } else yield* database.query("TRUNCATE outbox")
      yield* database.query("TRUNCATE game_sessions, confirmations CASCADE")
      const rows = yield* database.queryValues(
        `INSERT INTO game_sessions (guild_id, title, scheduled_at)
         SELECT 'bench', 'Game ' || n, now() + interval '30 days' FROM generate_series(1, $1::int) AS n RETURNING id`,
        [seeds]
      )
      return rows.map(([id]) => String(id))
    })
    const ask = Effect.fnUntraced(function* (side: Side, kind: RequestKind, during: number) {
      const ids = yield* reset(side)
      return yield* request({ url: side.url, kind, connections, seconds: during, ids })
    })

    const failed = (errors: ReadonlyArray<string>) =>
      errors.length > 0 ? [`requests failed: ${errors.slice(0, 3).join("; ")}`] : []

    const requests = Effect.fnUntraced(function* (kind: RequestKind) {
      for (const side of sides) {
        yield* progress.say(`warm-up, ${kind}: ${side.name}`)
        yield* ask(side, kind, seconds.warmUp)
      }
      const answered = new Map<Side, Array<Answered>>(sides.map((side) => [side, []]))
      for (let n = 1; n <= options.rounds; n++) {
        for (const side of sides) {
          yield* progress.say(`${kind}, round ${n} of ${options.rounds}: ${side.name}`)
          answered.get(side)?.push(yield* ask(side, kind, seconds.requests))
        }
      }
      const rows = sides.map((side): Row => {
        const rounds = answered.get(side) ?? []
        return {
          name: side.name,
          cells: [median(rounds.map(({ perSecond }) => perSecond)), ...medians(rounds.map(({ millis }) => millis))]
        }
      })
      const [ours, theirs] = rows
      const ratio = (ours?.cells ?? []).map((cell, column) => Number(cell) / Number(theirs?.cells[column]))
      return {
        settings: { rounds: options.rounds, connections, "seconds per round": seconds.requests },
        tables: [
          {
            title: `${kind}, on ${connections} connections`,
            columns: requestColumns,
            rows: [...rows.slice(0, 2), { name: "Kickoff, role api ÷ bare handler", cells: ratio }, ...rows.slice(2)]
          }
        ],
        figures: kind === "create" ? { api_creates: ratio[0] ?? Number.NaN } : {},
        violations: failed(
          [...answered].flatMap(([side, rounds]) =>
            rounds.flatMap(({ errors }) => errors.map((error) => `${side.name}, ${kind}: ${error}`))
          )
        )
      }
    })

    const notify = Effect.gen(function* () {
      const open = Effect.fnUntraced(function* (name: string) {
        const url = yield* servers.createDatabase(name)
        yield* migrate(url)
        return { database: yield* connect(url), write: yield* startCommits(url), rates: [] as Array<number> }
      })
      const with_ = yield* open("kickoff_triggers")
      const without = yield* open("kickoff_no_triggers")
      for (const table of ["game_status_schedule", "notification_schedule"]) {
        yield* without.database.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`)
      }
      for (let n = 0; n <= options.rounds; n++) {
        for (const side of [with_, without]) {
          yield* progress.say(`plain SQL, round ${n} of ${options.rounds}`)
          const rate = yield* side.write({ seconds: n === 0 ? seconds.warmUp : seconds.commits })
          if (n > 0) side.rates.push(rate)
          yield* side.database.query("TRUNCATE game_sessions CASCADE")
        }
      }
      const rate = { with: median(with_.rates), without: median(without.rates) }
      return {
        tables: [
          {
            title: "Plain SQL: a far-future game per transaction on 10 sessions, no service running",
            columns: ["commits/s", "slowest", "fastest"],
            rows: [
              {
                name: "with Kickoff's triggers",
                cells: [rate.with, Math.min(...with_.rates), Math.max(...with_.rates)]
              },
              { name: "without", cells: [rate.without, Math.min(...without.rates), Math.max(...without.rates)] },
              { name: "with ÷ without", cells: [rate.with / rate.without, null, null] }
            ]
          }
        ],
        figures: { api_notify: rate.with / rate.without }
      }
    })

    const offsets = Array.from({ length: mix.starts * seconds.mix }, (_, n) => Math.round((n * 1000) / mix.starts))
    const mixed = Effect.gen(function* () {
      const alone: Array<Round> = []
      const beside: Array<Round> = []
      const created: Array<Answered> = []
      for (let n = 1; n <= Math.ceil(options.rounds / 2); n++) {
        yield* progress.say(`${mix.starts} starts/s, round ${n}`)
        alone.push(yield* playRound(whole, offsets))
        yield* progress.say(`${mix.starts} starts/s beside ${mix.creates} creates/s, round ${n}`)
        const { meanwhile, ...round } = yield* playRound(
          whole,
          offsets,
          request({ url: whole.url, kind: "create", connections, seconds: seconds.mix, rate: mix.creates, ids: [] })
        )
        beside.push(round)
        if (meanwhile !== undefined) created.push(meanwhile)
      }
      const startRow = (name: string, rounds: ReadonlyArray<Round>): Row => ({
        name,
        cells: medians(rounds.map(({ started }) => quantiles(started.map(({ received }) => received))))
      })
      const early = [...alone, ...beside].reduce((sum, round) => sum + round.early, 0)
      return {
        tables: [
          {
            title: `${mix.starts} games/s start beside ${mix.creates} creates/s: due → consumed, and answers, ms`,
            columns: quantileColumns,
            rows: [
              startRow("starts alone", alone),
              startRow("starts beside creates", beside),
              { name: "creates", cells: medians(created.map(({ millis }) => millis)) }
            ]
          }
        ],
        notes: [
          "The bare handler runs the statements that Kickoff was seen to run, and relays nothing, as does the role api; with all " +
            "roles the same process publishes what it creates as well."
        ],
        violations: [
          ...(early > 0 ? [`${early} games started before they were due`] : []),
          ...failed(created.flatMap(({ errors }) => errors.map((error) => `create beside starts: ${error}`)))
        ]
      }
    })

    return [
      ...kinds.map((kind) => ({ name: `requests: ${kind}`, run: requests(kind) })),
      { name: "the cost of NOTIFY", run: notify },
      { name: "starts beside creates", run: mixed }
    ]
  })
}
