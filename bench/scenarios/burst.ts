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
import type { Row, Scenario, Table } from "../Scenario.ts"
import { median, medians, quantileColumns, quantiles, ratios } from "../statistics.ts"
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

const columns = ["games/s", "seconds", "slowest, games/s", "fastest, games/s"]

const burstRow = (name: string, rates: ReadonlyArray<number>, games: number): Row => ({
  name,
  cells: [median(rates), games / median(rates), Math.min(...rates), Math.max(...rates)]
})

/** Plays bursts in turn; returns the rates of each subject. */
const inTurn = Effect.fnUntraced(function* (subjects: ReadonlyArray<Subject>, games: number, rounds: number) {
  const progress = yield* Progress
  const rates = subjects.map((): Array<number> => [])
  for (let n = 1; n <= rounds; n++) {
    for (const [index, subject] of subjects.entries()) {
      yield* progress.say(`burst of ${games}, round ${n} of ${rounds}: ${subject.name}`)
      rates[index]?.push((yield* playBurst(subject, games)).perSecond)
    }
  }
  return rates
})

const comparison = (
  games: number,
  subjects: ReadonlyArray<Subject>,
  rates: ReadonlyArray<ReadonlyArray<number>>
): Table => ({
  title: `${games.toLocaleString("en-US")} games due at one instant`,
  columns,
  rows: subjects.map(({ name }, index) => burstRow(name, rates[index] ?? [], games))
})

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
  run: Effect.fnUntraced(function* (options) {
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

    const small = yield* inTurn([kickoff, limit], sizes.small, 1)
    const large = yield* inTurn([kickoff, limit], sizes.limit, options.rounds)
    const [ours = [], theirs = []] = large
    const three = yield* Effect.scoped(
      Effect.gen(function* () {
        const three = yield* start("three processes", startKickoff({ name: "kickoff_burst_three", processes: 3 }))
        const [rates = []] = yield* inTurn([three], sizes.limit, 1)
        return burstRow(three.name, rates, sizes.limit)
      })
    )

    const queues = yield* Effect.scoped(
      Effect.gen(function* () {
        const subjects = [
          kickoff,
          yield* start(
            "graphile-worker",
            startPeer(
              graphileWorker("24 concurrent, local queue of 500, batched completion, poll 100 ms"),
              "graphile_burst"
            )
          ),
          yield* start("pg-boss", startPeer(pgBoss("4 workers, batches of 500"), "boss_burst"))
        ]
        const rates = yield* inTurn(subjects, sizes.queues, options.rounds)
        const [us = 0, ...them] = rates.map(median)
        return { table: comparison(sizes.queues, subjects, rates), ratio: us / Math.max(...them) }
      })
    )

    const plain = yield* Effect.scoped(
      Effect.gen(function* () {
        yield* progress.say("starting the plain plan")
        const subject = yield* startPeer(plainPlan, "plain_burst")
        const rates = yield* inTurn([subject], plainGames, 1)
        return comparison(plainGames, [subject], rates)
      })
    )

    const seconds = sizes.limit / median(ours)
    const meanwhile: Array<Round> = []
    const lateness: Array<ReadonlyArray<number>> = []
    for (let n = 1; n <= Math.ceil(options.rounds / 2); n++) {
      const { late, round } = yield* besideOthers(kickoff, sizes.limit, seconds)
      meanwhile.push(round)
      lateness.push(quantiles(late))
    }
    const { late: limitLate } = yield* besideOthers(limit, sizes.limit, sizes.limit / median(theirs))

    const million = yield* Effect.scoped(
      Effect.gen(function* () {
        const fresh = yield* startKickoff({ name: "kickoff_burst_million" })
        return yield* largest(fresh, sizes.million)
      })
    )

    const othersQuantiles = medians(lateness)
    const early = meanwhile.reduce((sum, round) => sum + round.early, 0)
    return {
      settings: { rounds: options.rounds, "games of the warm-up": warmUp },
      tables: [
        comparison(sizes.small, [kickoff, limit], small),
        {
          ...comparison(sizes.limit, [kickoff, limit], large),
          rows: [
            ...comparison(sizes.limit, [kickoff, limit], large).rows,
            {
              name: `${kickoff.name} ÷ ${limit.name}`,
              cells: [...ratios([median(ours)], [median(theirs)]), null, null, null]
            },
            three
          ]
        },
        queues.table,
        plain,
        {
          title: `Other games, one every ${others.every} ms, during a burst of ${sizes.limit.toLocaleString("en-US")}: due → consumed, ms`,
          columns: quantileColumns,
          rows: [
            { name: kickoff.name, cells: othersQuantiles },
            { name: limit.name, cells: quantiles(limitLate) }
          ]
        },
        {
          title: `${million.games.toLocaleString("en-US")} games due at one instant, one process`,
          columns: ["games/s", "seconds", "resident before, MB", "at most, MB", "10 s after, MB"],
          rows: [
            { name: kickoff.name, cells: [million.perSecond, million.games / million.perSecond, ...million.memory] }
          ]
        }
      ],
      notes: [
        "A burst ends with the confirm of its last event; nobody consumes meanwhile, except where other games are timed. " +
          "Every burst is planned, analysed and checkpointed before it is due."
      ],
      figures: {
        ...(sizes.limit === 100_000
          ? { burst_against_limit: median(ours) / median(theirs), burst_others_p99: othersQuantiles[2] ?? Number.NaN }
          : {}),
        ...(sizes.queues === 20_000 ? { burst_against_queues: queues.ratio } : {}),
        ...(sizes.million === 1_000_000 && million.memory[1] !== null
          ? { memory_burst: million.memory[1] ?? Number.NaN }
          : {})
      },
      violations: early > 0 ? [`${early} games started before they were due`] : []
    }
  })
}
