/** One run: the load, the injections one after the other, and the question after each of them whether anything was broken. */
import { Console, DateTime, Effect, Option, Schedule } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { quantile } from "../../bench/statistics.ts"
import { audit, databaseNow, finalAudit, type Findings } from "./audit.ts"
import { consume } from "./consume.ts"
import { Dice } from "./Dice.ts"
import { type Fault, inject, type Injection, inPairs, nameOf } from "./Fault.ts"
import { startLoad } from "./load.ts"
import { measure, usualLateness } from "./recovery.ts"
import type { Round } from "./report.ts"
import { Site } from "./Site.ts"
import { Tally } from "./Tally.ts"

/** Before the first fault, so that games are due from the beginning. */
const warmUp = "3 seconds"
/** From the end of a fault to its audit, and between the audit and the next fault. */
const breath = "750 millis"
/** How far ahead games may be planned; then nearly all are due. */
const longestDelay = "16 seconds"
/** What is looked at again, because a change may be committed so long after its time. */
const overlap = { seconds: 5 }
/** Of how much before a fault the usual lateness is taken, ms: of the breath, when the fault before has been survived. */
const foretime = 750
/** How often it is looked whether the suite itself is held up, ms. */
const lagResolution = 10
/** How many injections of two at once follow each time that all faults were injected alone. */
const pairsPerPass = 6

const retried = { schedule: Schedule.spaced("100 millis"), times: 50 }

export interface Options {
  readonly seed: number
  readonly rate: number
  /** All are injected once, two at once, unless a time is given; then alone, and some two at once, for so long. */
  readonly minutes: Option.Option<number>
  readonly faults: ReadonlyArray<Fault>
  /** What is injected instead of what the seed chooses. */
  readonly chosen: Option.Option<ReadonlyArray<Injection>>
}

/** What came of it so far; complete when the run is. */
export interface Outcome {
  readonly rounds: Array<Round>
  readonly totals: Array<string>
  /** In words, as many as are kept; `violations` counts them all. */
  readonly examples: Array<string>
  violations: number
}

/** Plays a run and notes what comes of it. */
export const play = Effect.fnUntraced(function* (options: Options, outcome: Outcome) {
  const { minutes, rate, seed } = options
  const site = yield* Site
  const dice = new Dice(seed, "faults")
  const tally = new Tally()
  const lag = monitorEventLoopDelay({ resolution: lagResolution })
  lag.enable()
  yield* consume(site.broker.url, tally)
  const began = DateTime.subtract(yield* databaseNow, { seconds: 1 })
  const beganAt = performance.now()
  const load = yield* startLoad(seed, rate)
  yield* Effect.sleep(warmUp)

  const note = Effect.fnUntraced(function* (name: string, findings: Findings) {
    const { disordered, early, twice } = tally.offences
    const noted = {
      lost: findings.lost,
      stale: findings.stale + disordered,
      objections: findings.objections,
      twice,
      early
    }
    outcome.violations += noted.lost + noted.stale + noted.objections + twice + early
    const examples = [...findings.examples, ...tally.takeExamples()].map((example) => `${name}: ${example}`)
    outcome.examples.push(...examples)
    if (examples.length > 0) yield* Console.error(examples.join("\n"))
    return noted
  })

  let since = began
  const lookBack = Effect.gen(function* () {
    const next = DateTime.subtract(yield* Effect.retry(databaseNow, retried), overlap)
    const findings = yield* audit(since, tally)
    since = next
    if (findings.lost > 0) for (const replica of site.replicas) yield* Console.error(replica.lastWords())
    return findings
  })

  const usual: Array<number> = []
  const playRound = Effect.fnUntraced(function* (injection: Injection, label: { name: string; summary: string }) {
    const start = Date.now()
    const usually = usualLateness(tally.receipts.filter(({ at }) => at >= start - foretime))
    tally.begin()
    const injected = yield* inject(injection, dice)
    yield* Effect.sleep(breath)
    yield* injected.repair
    const findings = yield* lookBack
    const receipts = tally.receipts.filter(({ game }) => !injected.excused.has(game))
    const round: Round = {
      ...label,
      events: tally.events,
      ...measure(receipts, injected.began ?? start, injected.over),
      ...(yield* note(nameOf(injection), findings)),
      // Deadlines are for a PostgreSQL that is there.
      timed: injection.length === 2 && injection[1].subject === "postgres" ? [] : injected.timed
    }
    usual.push(usually)
    outcome.rounds.push(round)
    const timed = round.timed.map(({ deadline, took, what }) => `; ${what}: ${took} of ${deadline} ms`).join("")
    yield* Console.error(
      `${Math.round((performance.now() - beganAt) / 1000)} s, ${nameOf(injection)}: recovered after ${round.recovery} ms, ` +
        `at most ${round.lateness} ms late (usually ${Math.round(usually)})${timed}; lost ${round.lost}, ` +
        `twice ${round.twice}, early ${round.early}, stale ${round.stale}, verify ${round.objections}`
    )
    yield* Effect.sleep(breath)
  }, Effect.scoped)

  const both = "both at once, the second while the first is under way"
  const end = Option.map(minutes, (length) => Date.now() + length * 60_000)
  const isOver = () => Option.exists(end, (instant) => Date.now() > instant)
  do {
    const pass = Option.getOrElse(options.chosen, () =>
      Option.isNone(minutes)
        ? inPairs(options.faults, dice)
        : [
            ...dice.shuffled(options.faults).map((fault): Injection => [fault]),
            ...inPairs(options.faults, dice).slice(0, pairsPerPass)
          ]
    )
    for (const injection of pass) {
      if (isOver() && outcome.rounds.length > 0) break
      const [fault, second] = injection
      yield* playRound(
        injection,
        second === undefined
          ? fault
          : Option.isSome(minutes) && Option.isNone(options.chosen)
            ? { name: "two-at-once", summary: "two of the others, the second while the first is under way" }
            : { name: nameOf(injection), summary: both }
      )
    }
  } while (Option.isSome(end) && !isOver())

  tally.begin()
  yield* load.stop
  const lasted = (performance.now() - beganAt) / 1000
  const { acknowledged, failed, planned } = load.counts()
  yield* Effect.sleep(longestDelay)
  const last = yield* note("the end", yield* lookBack)
  tally.begin()
  const whole = yield* note("the whole", yield* finalAudit(began, load, tally))
  outcome.violations += site.deaths.length
  outcome.examples.push(...site.deaths)
  const millis = (value: number) => `${Math.round(value)} ms`
  const commonly = usual.length === 0 ? 0 : quantile(usual, 0.5)
  outcome.totals.push(
    `${planned} games were planned in ${Math.round(lasted)} s, ${(planned / lasted).toFixed(0)} per second. The API ` +
      `acknowledged ${acknowledged} of them; ${failed} requests failed. The consumer received ${tally.transitions} ` +
      `transitions and reminders; ${tally.repeated} of ${tally.deliveries} deliveries were repetitions by their id.`,
    `At the end, over the whole run: lost ${last.lost + whole.lost}, twice ${last.twice + whole.twice}, ` +
      `early ${last.early + whole.early}, stale ${last.stale + whole.stale}, ` +
      `verify ${last.objections + whole.objections}; ${site.deaths.length} replicas ended by themselves.`,
    `Before the faults, one transition in a hundred was ${millis(commonly)} late or more. The suite itself, which is load, ` +
      `proxies and consumer in one process, was held up for less than ${millis(lag.percentile(99.9) / 1e6 - lagResolution)} in 999 of ` +
      `1000 looks, and took ${Math.round(process.memoryUsage().rss / 1e6)} MB.`
  )
})
