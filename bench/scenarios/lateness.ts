/**
 * How late games start that are due at random times: due → received by a consumer, and for Kickoff each step before it.
 *
 * Beside a bare loop, which nothing correct is faster than, and beside job queues. All are measured in turn and on the same
 * servers; compare their ratio, because absolute figures are the machine's.
 */
import { Effect } from "effect"
import { add, quantileOf } from "../histogram.ts"
import { startKickoff } from "../kickoff.ts"
import { startPeer } from "../peer.ts"
import { bareLoop, plainPlan } from "../peers/bareLoop.ts"
import { graphileWorker } from "../peers/graphileWorker.ts"
import { pgBoss } from "../peers/pgBoss.ts"
import { Progress } from "../Progress.ts"
import type { Report, Row, Scenario, Table } from "../Scenario.ts"
import { median, medians, quantileColumns, quantiles, ratios } from "../statistics.ts"
import { playRound, type Round, type Subject } from "../Subject.ts"

interface Load {
  readonly perSecond: number
  readonly seconds: number
  /** How many of the rounds that are asked for are played. */
  readonly rounds: (asked: number) => number
}

const once = () => 1

const slow: Load = { perSecond: 1, seconds: 20, rounds: once }
/** Where bare loop and queues are compared. */
const usual: Load = { perSecond: 30, seconds: 12, rounds: (asked) => asked }
const busy: Load = { perSecond: 300, seconds: 8, rounds: once }
const heavy: Load = { perSecond: 1000, seconds: 8, rounds: (asked) => Math.ceil(asked / 2) }

const columns = [...quantileColumns, "early", "repeated"]

/** The same times for everybody; they need not be unpredictable. */
const atRandom = (games: number, within: number, seed: number) => {
  let state = seed
  return Array.from({ length: games }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * within)
  })
}

interface Measured {
  readonly subject: Subject
  readonly rounds: ReadonlyArray<Round>
}

interface Compared {
  readonly one: Measured
  readonly bare: Measured
  readonly three: Measured
}

const received = ({ rounds }: Measured) =>
  medians(rounds.map((round) => quantiles(round.started.map((game) => game.received))))

/** Medians of each round's figures; what must not be is summed up. */
const receivedRow = (measured: Measured): Row => {
  const sum = (of: (round: Round) => number) => measured.rounds.map(of).reduce((a, b) => a + b, 0)
  return {
    name: `${measured.subject.name}: due → consumed`,
    cells: [...received(measured), sum((round) => round.early), sum((round) => round.repeated)]
  }
}

/** Each step of Kickoff's before the consumer: what its events, its metrics and its record say. */
const stepRows = ({ rounds, subject }: Measured): ReadonlyArray<Row> => {
  const of = (values: (round: Round) => ReadonlyArray<number>) =>
    medians(rounds.map((round) => quantiles(values(round))))
  const committed = add(rounds.map((round) => round.committed))
  return [
    {
      name: `${subject.name}: due → applied`,
      cells: [...of((round) => round.started.map((game) => game.applied)), null, null]
    },
    {
      name: `${subject.name}: due → committed`,
      cells: [...[0.5, 0.95, 0.99, 0.999].map((share) => quantileOf(committed, share) * 1000), null, null, null]
    },
    { name: `${subject.name}: due → confirmed`, cells: [...of((round) => round.confirmed), null, null] }
  ]
}

const ratioRow = (ours: Measured, theirs: Measured): Row => ({
  name: `${ours.subject.name} ÷ ${theirs.subject.name}`,
  cells: [...ratios(received(ours), received(theirs)), null, null]
})

const titleOf = ({ perSecond, seconds }: Load) =>
  `${perSecond.toLocaleString("en-US")} games/s at random times for ${seconds} s, ms`

export const lateness: Scenario = {
  name: "lateness",
  summary: "how late games start that are due at random times, step by step",
  prepare: Effect.fnUntraced(function* (options) {
    const progress = yield* Progress
    yield* progress.say("starting Kickoff and the bare loop")
    const kickoff = yield* startKickoff({ name: "kickoff_lateness", profile: options.profile })
    const three = yield* startKickoff({ name: "kickoff_lateness_three", processes: 3 })
    const bare = yield* startPeer(bareLoop, "bare_lateness")

    const warmUp = Effect.fnUntraced(function* (subject: Subject) {
      yield* progress.say(`warm-up: ${subject.name}`)
      yield* playRound(subject, atRandom(150, 1500, 1))
    })
    for (const subject of [kickoff, three, bare]) yield* warmUp(subject)

    const inTurn = Effect.fnUntraced(function* (load: Load, rounds: number, subjects: ReadonlyArray<Subject>) {
      const played = new Map<Subject, Array<Round>>(subjects.map((subject) => [subject, []]))
      for (let n = 1; n <= rounds; n++) {
        for (const subject of subjects) {
          yield* progress.say(`${load.perSecond}/s, round ${n} of ${rounds}: ${subject.name}`)
          const offsets = atRandom(load.perSecond * load.seconds, load.seconds * 1000, n)
          played.get(subject)?.push(yield* playRound(subject, offsets))
        }
      }
      return (subject: Subject): Measured => ({ subject, rounds: played.get(subject) ?? [] })
    })

    /** One process, the bare loop, and three processes. */
    const compare = Effect.fnUntraced(function* (load: Load) {
      const of = yield* inTurn(load, load.rounds(options.rounds), [kickoff, bare, three])
      const measured: Compared = { one: of(kickoff), bare: of(bare), three: of(three) }
      const table: Table = {
        title: titleOf(load),
        columns,
        rows: [
          receivedRow(measured.one),
          receivedRow(measured.bare),
          ratioRow(measured.one, measured.bare),
          ...stepRows(measured.one),
          receivedRow(measured.three),
          ...stepRows(measured.three)
        ]
      }
      return { ...measured, table }
    })

    /** What a comparison shows, with the figures that are made of it. */
    const comparing = (load: Load, figures: (measured: Compared) => Partial<Report>) =>
      Effect.gen(function* () {
        const measured = yield* compare(load)
        const early = [measured.one, measured.three]
          .flatMap(({ rounds }) => rounds)
          .reduce((sum, round) => sum + round.early, 0)
        return {
          tables: [measured.table],
          violations: early > 0 ? [`${early} games started before they were due`] : [],
          ...figures(measured)
        }
      })

    /** The median at the usual load, ms. */
    let usualP50 = Number.NaN

    const atUsual = comparing(usual, ({ bare, one }) => {
      const [p50 = Number.NaN, , p99 = Number.NaN] = received(one)
      const [bareP50 = Number.NaN, , bareP99 = Number.NaN] = received(bare)
      usualP50 = p50
      const clocks = one.rounds.map(({ clock }) => clock)
      return {
        settings: { rounds: options.rounds },
        notes: [
          `Database's clock minus consumer's: ${median(clocks.map(({ offset }) => offset)).toFixed(3)} ms, known within ` +
            `${median(clocks.map(({ uncertainty }) => uncertainty)).toFixed(3)} ms; it is corrected for. Applied is what the ` +
            "event says, inside the transaction; committed comes from the exported histogram, interpolated; confirmed from " +
            "the record that `verify` uses, written after the confirm."
        ],
        figures: { lateness_against_bare_p50: p50 / bareP50, lateness_against_bare_p99: p99 / bareP99 }
      }
    })

    const queues = Effect.gen(function* () {
      const measured: Array<Measured> = []
      for (const [index, peer] of [
        graphileWorker("defaults"),
        pgBoss("default polling, batches of 500"),
        graphileWorker("poll 100 ms"),
        pgBoss("poll 0.5 s, batches of 500"),
        plainPlan
      ].entries()) {
        yield* progress.say(`starting ${peer.name}`)
        const subject = yield* startPeer(peer, `peer_lateness_${index}`)
        yield* warmUp(subject)
        measured.push((yield* inTurn(usual, 1, [subject]))(subject))
      }
      const defaults = Math.min(...measured.slice(0, 2).map((peer) => received(peer)[0] ?? Number.NaN))
      return {
        tables: [
          { title: `${titleOf(usual)}: job queues and the plain plan`, columns, rows: measured.map(receivedRow) }
        ],
        figures: { lateness_against_queues: defaults / usualP50 }
      }
    })

    return [
      { name: "1 game/s", run: comparing(slow, () => ({})) },
      { name: "30 games/s", run: atUsual },
      { name: "job queues at 30 games/s", run: queues },
      { name: "300 games/s", run: comparing(busy, () => ({})) },
      {
        name: "1,000 games/s",
        run: comparing(heavy, ({ one }) => ({ figures: { lateness_1000_p99: received(one)[2] ?? Number.NaN } }))
      }
    ]
  })
}
