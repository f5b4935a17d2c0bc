/**
 * How late games start: due → received by a consumer, and due → applied as the events say, beside a bare loop.
 *
 * The two are measured in turn and on the same servers; compare their ratio, because absolute figures are the machine's.
 */
import { Effect } from "effect"
import { type Created, startCreation } from "../load/createGames.ts"
import { startKickoff } from "../kickoff.ts"
import { startPeer } from "../peer.ts"
import { bareLoop } from "../peers/bareLoop.ts"
import { Progress } from "../Progress.ts"
import type { Row, Scenario, Table } from "../Scenario.ts"
import { median, medians, quantile, ratios } from "../statistics.ts"
import { playRound, type Round, type Subject } from "../Subject.ts"

/** From the planning to the first due time, ms. */
const lead = 1000

const every = { games: 100, millis: 30 }
const random = { games: 600, millis: 20_000 }
const creations = 200

const columns = ["p50", "p95", "p99", "max", "early", "repeated"]

const inLine = (games: number, millis: number) => Array.from({ length: games }, (_, n) => n * millis)

/** The same times for everybody; they need not be unpredictable. */
const atRandom = (games: number, within: number, seed: number) => {
  let state = seed
  return Array.from({ length: games }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * within)
  })
}

const figures = (values: ReadonlyArray<number>) => [
  quantile(values, 0.5),
  quantile(values, 0.95),
  quantile(values, 0.99),
  quantile(values, 1)
]

/** Medians of each round's figures; what must not be is summed up. */
const rowsOf = (name: string, rounds: ReadonlyArray<Round>): readonly [Row, Row] => {
  const sum = (of: (round: Round) => number) => rounds.map(of).reduce((a, b) => a + b, 0)
  const of = (pick: "received" | "applied") =>
    medians(rounds.map((round) => figures(round.started.map((game) => game[pick]))))
  return [
    {
      name: `${name}: due → received`,
      cells: [...of("received"), sum((round) => round.early), sum((round) => round.repeated)]
    },
    { name: `${name}: due → applied`, cells: [...of("applied"), null, null] }
  ]
}

const comparison = (
  title: string,
  ours: { readonly name: string; readonly rounds: ReadonlyArray<Round> },
  theirs: { readonly name: string; readonly rounds: ReadonlyArray<Round> }
): Table => {
  const [received, applied] = rowsOf(ours.name, ours.rounds)
  const [peerReceived, peerApplied] = rowsOf(theirs.name, theirs.rounds)
  const numbers = (row: Row) => row.cells.slice(0, 4).map(Number)
  const ratio = ratios(numbers(received), numbers(peerReceived))
  return {
    title,
    columns,
    rows: [
      received,
      peerReceived,
      { name: `${ours.name} ÷ ${theirs.name}`, cells: [...ratio, null, null] },
      applied,
      peerApplied
    ]
  }
}

export const lateness: Scenario = {
  name: "lateness",
  summary: "due → received of games that start one after the other, at random, and beside API traffic",
  run: Effect.fnUntraced(function* (options) {
    const progress = yield* Progress
    yield* progress.say("starting Kickoff and the bare loop")
    const kickoff = yield* startKickoff("kickoff_lateness", options.profile)
    const bare = yield* startPeer(bareLoop, "bare_lateness")
    const create = yield* startCreation(kickoff.url)

    const all: Array<Round> = []
    const play = Effect.fnUntraced(function* (what: string, subject: Subject, offsets: ReadonlyArray<number>) {
      yield* progress.say(`${what}: ${subject.name}`)
      const round = yield* playRound(subject, offsets, lead)
      if (subject === kickoff) all.push(round)
      return round
    })
    const inTurn = Effect.fnUntraced(function* (
      what: string,
      rounds: number,
      offsets: (round: number) => ReadonlyArray<number>
    ) {
      const ours: Array<Round> = []
      const theirs: Array<Round> = []
      for (let n = 1; n <= rounds; n++) {
        ours.push(yield* play(`${what}, round ${n} of ${rounds}`, kickoff, offsets(n)))
        theirs.push(yield* play(`${what}, round ${n} of ${rounds}`, bare, offsets(n)))
      }
      return [
        { name: kickoff.name, rounds: ours },
        { name: bare.name, rounds: theirs }
      ] as const
    })

    for (const subject of [kickoff, bare]) yield* play("warm-up", subject, inLine(150, 10))
    yield* create(20)

    const lined = yield* inTurn(`${every.games} games ${every.millis} ms apart`, options.rounds, () =>
      inLine(every.games, every.millis)
    )

    const beside: Array<Round> = []
    const created: Array<Created> = []
    for (let n = 1; n <= options.rounds; n++) {
      yield* progress.say(`beside ${creations} creations, round ${n} of ${options.rounds}`)
      const round = yield* playRound(
        kickoff,
        inLine(every.games, every.millis),
        lead,
        Effect.delay(create(creations), "1 second")
      )
      beside.push(round)
      if (round.meanwhile !== undefined) created.push(round.meanwhile)
    }

    // A round has six times the games and takes six times as long.
    const randomRounds = Math.ceil(options.rounds / 3)
    const scattered = yield* inTurn(`${random.games} games within ${random.millis / 1000} s`, randomRounds, (n) =>
      atRandom(random.games, random.millis, n)
    )

    const rounds = [...all, ...beside]
    const early = rounds.reduce((sum, round) => sum + round.early, 0)
    const errors = created.flatMap((round) => round.errors)
    const offsets = rounds.map((round) => round.offset)
    return {
      settings: {
        rounds: options.rounds,
        "rounds of games at random": randomRounds,
        "games planned before the first is due by, ms": lead
      },
      tables: [
        comparison(`${every.games} games ${every.millis} ms apart, ms`, ...lined),
        {
          title: `${every.games} games ${every.millis} ms apart beside ${creations} POST /v1/games at once, ms`,
          columns,
          rows: [
            ...rowsOf(kickoff.name, beside),
            {
              name: `POST /v1/games (${errors.length} errors)`,
              cells: [...medians(created.map(({ millis }) => figures(millis))), null, null]
            }
          ]
        },
        comparison(`${random.games} games at random times within ${random.millis / 1000} s, ms`, ...scattered)
      ],
      notes: [
        `Database's clock minus consumer's: ${median(offsets).toFixed(3)} ms, known within ` +
          `${median(rounds.map((round) => round.uncertainty)).toFixed(3)} ms; it is corrected for.`
      ],
      violations: [
        ...(early > 0 ? [`${early} games started before they were due`] : []),
        ...(errors.length > 0 ? [`${errors.length} games could not be created: ${errors[0]}`] : [])
      ]
    }
  })
}
