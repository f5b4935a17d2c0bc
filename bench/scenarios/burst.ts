/**
 * How fast games start that are all due at one instant: from that instant to the confirm of the last event.
 *
 * Beside the fastest loop that has an outbox, beside job queues at their best, and, with a consumer this time, how late
 * those games are that come due meanwhile.
 */
import { Effect, Option } from "effect"
import { type Kickoff, startKickoff } from "../kickoff.ts"
import { startPeer } from "../peer.ts"
import { plainPlan } from "../peers/bareLoop.ts"
import { batchLoop } from "../peers/batchLoop.ts"
import { graphileWorker } from "../peers/graphileWorker.ts"
import { pgBoss } from "../peers/pgBoss.ts"
import { Progress } from "../Progress.ts"
import type { Row, Scenario } from "../Scenario.ts"
import { median, medians, quantileColumns, quantiles } from "../statistics.ts"
import { playBurst, playRound, type Round, type Subject } from "../Subject.ts"
import { readUsage } from "../usage.ts"

/** Games of a burst that warms up; they are not counted. */
const warmUp = 5000

/** A program that handles one game at a time would take minutes; its rate is the same with fewer. */
const plainGames = 2000

/** The other games: one every so often, from shortly after the burst was due, ms. */
const others = { from: 100, every: 25 }

/** How long after a burst its memory is looked at, when nothing is left to do. */
const rest = "10 seconds"

const columns = [
  "games/s",
  "seconds",
  "slowest, games/s",
  "fastest, games/s",
  "program, µs per game",
  "PostgreSQL, µs",
  "RabbitMQ, µs"
]

type Burst = Effect.Success<ReturnType<typeof playBurst>>

const rate = (bursts: ReadonlyArray<Burst>) => median(bursts.map(({ perSecond }) => perSecond))

const burstRow = (name: string, bursts: ReadonlyArray<Burst>, games: number): Row => {
  const rates = bursts.map(({ perSecond }) => perSecond)
  const costs = (["program", "postgresql", "rabbitmq"] as const).map((who) =>
    median(bursts.map(({ cost }) => cost[who]))
  )
  return {
    name,
    cells: [
      rate(bursts),
      games / rate(bursts),
      Math.min(...rates),
      Math.max(...rates),
      ...costs.map((cost) => (Number.isNaN(cost) ? null : cost))
    ]
  }
}

/** Plays bursts in turn; returns those of each subject. */
const inTurn = Effect.fnUntraced(function* (subjects: ReadonlyArray<Subject>, games: number, rounds: number) {
  const progress = yield* Progress
  const bursts = subjects.map((): Array<Burst> => [])
  for (let n = 1; n <= rounds; n++) {
    for (const [index, subject] of subjects.entries()) {
      yield* progress.say(`burst of ${games}, round ${n} of ${rounds}: ${subject.name}`)
      bursts[index]?.push(yield* playBurst(subject, games))
    }
  }
  return bursts
})

const titleOf = (games: number) => `${games.toLocaleString("en-US")} games due at one instant`

const rowsOf = (games: number, subjects: ReadonlyArray<Subject>, bursts: ReadonlyArray<ReadonlyArray<Burst>>) =>
  subjects.map(({ name }, index) => burstRow(name, bursts[index] ?? [], games))

/** Bursts with other games in them; how late the others were. */
const besideOthers = Effect.fnUntraced(function* (subject: Subject, games: number, seconds: number) {
  const progress = yield* Progress
  yield* progress.say(`other games during a burst of ${games}: ${subject.name}`)
  const count = Math.max(1, Math.floor((seconds * 1000 - others.from) / others.every))
  const offsets = [
    ...Array.from({ length: games }, () => 0),
    ...Array.from({ length: count }, (_, n) => others.from + n * others.every)
  ]
  const round = yield* playRound(subject, offsets)
  return { round, late: round.started.filter(({ due }) => due > 0).map(({ received }) => received) }
})

/** A million at once: how fast, and what memory that takes. */
const largest = Effect.fnUntraced(function* (kickoff: Kickoff, games: number) {
  const { pid } = kickoff.services[0].program
  const idle = yield* readUsage(pid)
  yield* (yield* Progress).say(`burst of ${games}: ${kickoff.name}`)
  const { perSecond } = yield* playBurst(kickoff, games)
  const during = yield* readUsage(pid)
  yield* Effect.sleep(rest)
  const after = yield* readUsage(pid)
  const cell = (usage: typeof idle, key: "resident" | "peak") => Option.getOrNull(Option.map(usage, (all) => all[key]))
  return {
    games,
    perSecond,
    memory: [cell(idle, "resident"), cell(during, "peak"), cell(after, "resident")]
  }
})

export const burst: Scenario = {
  name: "burst",
  summary: "games due at one instant, until the last event is confirmed",
  prepare: Effect.fnUntraced(function* (options) {
    const progress = yield* Progress
    const sizes = {
      small: options.games ?? 10_000,
      limit: options.games ?? 100_000,
      queues: options.games ?? 20_000,
      million: options.games ?? 1_000_000
    }
    const start = Effect.fnUntraced(function* <S extends Subject, E, R>(
      name: string,
      starting: Effect.Effect<S, E, R>
    ) {
      yield* progress.say(`starting ${name}`)
      const subject = yield* starting
      yield* progress.say(`warm-up: ${subject.name}`)
      yield* playBurst(subject, warmUp)
      return subject
    })

    const kickoff = yield* start("Kickoff", startKickoff({ name: "kickoff_burst", profile: options.profile }))
    const limit = yield* start("the limit loop", startPeer(batchLoop, "limit_burst"))

    const small = Effect.gen(function* () {
      const subjects = [kickoff, limit]
      const bursts = yield* inTurn(subjects, sizes.small, 1)
      return {
        settings: { rounds: options.rounds, "games of the warm-up": warmUp },
        tables: [{ title: titleOf(sizes.small), columns, rows: rowsOf(sizes.small, subjects, bursts) }],
        notes: [
          "A burst ends with the confirm of its last event; nobody consumes meanwhile, except where other games are timed. " +
            "Every burst is planned, analysed and checkpointed before it is due. Processor time is that of all processes of the program and of each server."
        ]
      }
    })

    /** How long a burst took, s, for those who want to do something meanwhile. */
    const seconds = { ours: sizes.limit / 5000, theirs: sizes.limit / 5000 }

    const large = Effect.gen(function* () {
      const subjects = [kickoff, limit]
      const bursts = yield* inTurn(subjects, sizes.limit, options.rounds)
      const [ours = Number.NaN, theirs = Number.NaN] = bursts.map(rate)
      Object.assign(seconds, { ours: sizes.limit / ours, theirs: sizes.limit / theirs })
      const rows = rowsOf(sizes.limit, subjects, bursts)
      const ratio: Row = {
        name: `${kickoff.name} ÷ ${limit.name}`,
        cells: columns.map((_, column) => Number(rows[0]?.cells[column]) / Number(rows[1]?.cells[column]))
      }
      return {
        tables: [{ title: titleOf(sizes.limit), columns, rows: [...rows, ratio] }],
        figures: sizes.limit === 100_000 ? { burst_against_limit: ours / theirs } : {}
      }
    })

    const three = Effect.gen(function* () {
      const three = yield* start("three processes", startKickoff({ name: "kickoff_burst_three", processes: 3 }))
      const bursts = yield* inTurn([three], sizes.limit, 1)
      return {
        tables: [
          { title: `${titleOf(sizes.limit)}, three processes`, columns, rows: rowsOf(sizes.limit, [three], bursts) }
        ]
      }
    })

    const queues = Effect.gen(function* () {
      const subjects = [
        kickoff,
        yield* start(
          "graphile-worker",
          startPeer(
            graphileWorker("24 concurrent, local queue of 500, batched completion, poll 100 ms"),
            "graphile_burst"
          )
        ),
        yield* start("pg-boss", startPeer(pgBoss("4 workers, batches of 500, each job by itself"), "boss_burst")),
        yield* start(
          "pg-boss",
          startPeer(pgBoss("4 workers, batches of 500, a statement per batch"), "boss_burst_batch")
        )
      ]
      const bursts = yield* inTurn(subjects, sizes.queues, options.rounds)
      const [ours = Number.NaN, graphile = Number.NaN, boss = Number.NaN, batched = Number.NaN] = bursts.map(rate)
      return {
        tables: [{ title: titleOf(sizes.queues), columns, rows: rowsOf(sizes.queues, subjects, bursts) }],
        notes: [
          "The best of job queues is pg-boss whose handler starts a batch of 500 by one statement: it fails with its first game, and " +
            "no event is on record anywhere until it is published. Beside the better of those in which a game that cannot be started " +
            `fails alone, as it does in Kickoff, Kickoff is ${(ours / Math.max(graphile, boss)).toFixed(2)} × as fast.`
        ],
        figures: sizes.queues === 20_000 ? { burst_against_queues: ours / Math.max(graphile, boss, batched) } : {}
      }
    })

    const plain = Effect.gen(function* () {
      yield* progress.say("starting the plain plan")
      const subject = yield* startPeer(plainPlan, "plain_burst")
      const bursts = yield* inTurn([subject], plainGames, 1)
      return { tables: [{ title: titleOf(plainGames), columns, rows: rowsOf(plainGames, [subject], bursts) }] }
    })

    const besides = Effect.gen(function* () {
      const rounds: Array<Round> = []
      const lateness: Array<ReadonlyArray<number>> = []
      for (let n = 1; n <= Math.ceil(options.rounds / 2); n++) {
        const { late, round } = yield* besideOthers(kickoff, sizes.limit, seconds.ours)
        rounds.push(round)
        lateness.push(quantiles(late))
      }
      const { late: limitLate } = yield* besideOthers(limit, sizes.limit, seconds.theirs)
      const ours = medians(lateness)
      const early = rounds.reduce((sum, round) => sum + round.early, 0)
      return {
        tables: [
          {
            title: `Other games, one every ${others.every} ms, during a burst of ${sizes.limit.toLocaleString("en-US")}: due → consumed, ms`,
            columns: quantileColumns,
            rows: [
              { name: kickoff.name, cells: ours },
              { name: limit.name, cells: quantiles(limitLate) }
            ]
          }
        ],
        figures: sizes.limit === 100_000 ? { burst_others_p99: ours[2] ?? Number.NaN } : {},
        violations: early > 0 ? [`${early} games started before they were due`] : []
      }
    })

    const million = Effect.gen(function* () {
      const { games, memory, perSecond } = yield* largest(
        yield* startKickoff({ name: "kickoff_burst_million" }),
        sizes.million
      )
      const [, most = null] = memory
      return {
        tables: [
          {
            title: `${titleOf(games)}, one process`,
            columns: ["games/s", "seconds", "resident before, MB", "at most, MB", "10 s after, MB"],
            rows: [{ name: kickoff.name, cells: [perSecond, games / perSecond, ...memory] }]
          }
        ],
        figures: sizes.million === 1_000_000 && most !== null ? { memory_burst: most } : {}
      }
    })

    return [
      { name: "a small burst", run: small },
      { name: "a burst against the limit loop", run: large },
      { name: "a burst for three processes", run: three },
      { name: "a burst against job queues", run: queues },
      { name: "a burst of the plain plan", run: plain },
      { name: "other games during a burst", run: besides },
      { name: "the largest burst", run: million }
    ]
  })
}
