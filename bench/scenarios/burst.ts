/**
 * How fast games start that are all due at one instant: from that instant to the reception of the last event, beside the
 * fastest loop that has an outbox.
 */
import { Effect } from "effect"
import { startKickoff } from "../kickoff.ts"
import { startPeer } from "../peer.ts"
import { batchLoop } from "../peers/batchLoop.ts"
import { Progress } from "../Progress.ts"
import type { Scenario } from "../Scenario.ts"
import { medians, quantile, ratios } from "../statistics.ts"
import { playRound, type Round, type Subject } from "../Subject.ts"

const games = 20_000
const warmUpGames = 5_000

/** From the planning to the due time in the warm-up, ms. */
const warmUpLead = 3_000

/** That of a round, from how long planning took in the warm-up: with much to spare, because a late plan ends the run. */
const leadFor = (planning: number) => Math.round(Math.min(15_000, 1_500 + 2 * planning * (games / warmUpGames)))

const columns = ["games/s", "first, ms", "p50, ms", "last, ms", "early", "repeated"]

const together = (count: number) => Array.from({ length: count }, () => 0)

const figures = (round: Round) => {
  const received = round.started.map((game) => game.received)
  const last = quantile(received, 1)
  return [received.length / (last / 1000), quantile(received, 0), quantile(received, 0.5), last]
}

export const burst: Scenario = {
  name: "burst",
  summary: `${games} games due at one instant, until the last event is received`,
  run: Effect.fnUntraced(function* (options) {
    const progress = yield* Progress
    yield* progress.say("starting Kickoff and the limit loop")
    const kickoff = yield* startKickoff("kickoff_burst", options.profile)
    const limit = yield* startPeer(batchLoop, "limit_burst")
    const subjects: ReadonlyArray<Subject> = [kickoff, limit]

    let lead = 0
    for (const subject of subjects) {
      yield* progress.say(`warm-up: ${subject.name}`)
      const { planning } = yield* playRound(subject, together(warmUpGames), warmUpLead)
      lead = Math.max(lead, leadFor(planning))
    }
    const rounds = new Map<Subject, Array<Round>>(subjects.map((subject) => [subject, []]))
    for (let n = 1; n <= options.rounds; n++) {
      for (const subject of subjects) {
        yield* progress.say(`round ${n} of ${options.rounds}: ${subject.name}`)
        rounds.get(subject)?.push(yield* playRound(subject, together(games), lead))
      }
    }

    const of = (subject: Subject) => rounds.get(subject) ?? []
    const middle = (subject: Subject) => medians(of(subject).map(figures))
    const sum = (subject: Subject, key: "early" | "repeated") =>
      of(subject).reduce((total, round) => total + round[key], 0)
    const early = sum(kickoff, "early")
    return {
      settings: { games, rounds: options.rounds, "games planned before they are due by, ms": lead },
      tables: [
        {
          title: `${games} games due at one instant`,
          columns,
          rows: [
            ...subjects.map((subject) => ({
              name: subject.name,
              cells: [...middle(subject), sum(subject, "early"), sum(subject, "repeated")]
            })),
            { name: `${kickoff.name} ÷ ${limit.name}`, cells: [...ratios(middle(kickoff), middle(limit)), null, null] }
          ]
        },
        {
          title: "games/s, round by round",
          columns: Array.from({ length: options.rounds }, (_, n) => `round ${n + 1}`),
          rows: subjects.map((subject) => ({
            name: subject.name,
            cells: of(subject).map((round) => figures(round)[0] ?? null)
          }))
        }
      ],
      notes: [],
      violations: early > 0 ? [`${early} games started before they were due`] : []
    }
  })
}
