/**
 * `npm run test:faults`: three replicas under load, faults one after the other, and after each of them the question
 * whether anything was lost, done twice, or done early. Exit 1 if so.
 *
 * The choices follow from the seed, their timing does not. Everything is local and is stopped at the end, also after
 * Ctrl-C.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, DateTime, Duration, Effect, Option, Schedule } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { SqlError } from "effect/sql"
import packageJson from "../../package.json" with { type: "json" }
import { boundShutdown } from "../../src/cli/shutdown.ts"
import { describeSqlError } from "../../src/postgres/Database.ts"
import { audit, databaseNow, finalAudit, type Findings } from "./audit.ts"
import { consume } from "./consume.ts"
import { Dice } from "./Dice.ts"
import { FaultError } from "./FaultError.ts"
import { type Fault, faults } from "./faults.ts"
import { startLoad } from "./load.ts"
import { measure } from "./recovery.ts"
import { Site } from "./Site.ts"
import { type Round, table } from "./table.ts"
import { Tally } from "./Tally.ts"

const names = faults.map(({ name }) => name)

/** Games per second: what fits beside everything on two cores; the long form is to reach a million transitions. */
const defaultRates = { short: 60, long: 300 }

/** Longest stop after Ctrl-C; whatever is left then ends with this process. */
const stopLimit = Duration.seconds(20)
/** Before the first fault, so that games are due from the beginning. */
const warmUp = "3 seconds"
/** From the end of a fault to its audit, and between the audit and the next fault. */
const breath = "1 second"
/** How far ahead games may be planned; then nearly all are due. */
const longestDelay = "16 seconds"

const retried = { schedule: Schedule.spaced("100 millis"), times: 50 }

const play = Effect.fnUntraced(function* (options: {
  readonly seed: number
  readonly rate: number
  readonly minutes: Option.Option<number>
  readonly chosen: ReadonlyArray<Fault>
}) {
  const { chosen, minutes, rate, seed } = options
  const site = yield* Site
  const dice = new Dice(seed, "faults")
  const tally = new Tally()
  const rounds: Array<Round> = []
  yield* consume(site.broker.url, tally)
  const began = DateTime.subtract(yield* DateTime.now, { seconds: 1 })
  const load = yield* startLoad(seed, rate)
  yield* Effect.sleep(warmUp)

  const note = (name: string, findings: Findings) => {
    const { disordered, early, twice } = tally.offences
    for (const example of findings.examples) process.stderr.write(`${name}: ${example}\n`)
    return {
      lost: findings.lost,
      stale: findings.stale + disordered,
      objections: findings.objections,
      twice,
      early
    }
  }

  const playRound = Effect.fnUntraced(function* (fault: Fault) {
    const since = yield* Effect.retry(databaseNow, retried)
    tally.begin()
    const start = Date.now()
    const { excused, over, repair } = yield* fault.inject(dice)
    yield* Effect.sleep(breath)
    if (repair !== undefined) yield* repair
    const findings = yield* audit({ since, began, tally })
    const receipts = tally.receipts.filter(({ game }) => excused?.has(game) !== true)
    const round = {
      fault: fault.name,
      events: tally.events,
      checked: findings.checked,
      ...measure(receipts, start, over),
      ...note(fault.name, findings)
    }
    rounds.push(round)
    yield* Console.error(
      `${fault.name}: recovered after ${round.recovery} ms, at most ${round.lateness} ms late; ` +
        `lost ${round.lost}, twice ${round.twice}, early ${round.early}, stale ${round.stale}, verify ${round.objections}`
    )
    yield* Effect.sleep(breath)
  }, Effect.scoped)

  const end = Option.map(minutes, (length) => Date.now() + length * 60_000)
  do {
    for (const fault of dice.shuffled(chosen)) {
      if (Option.isSome(end) && rounds.length > 0 && Date.now() > end.value) break
      yield* playRound(fault)
    }
  } while (Option.isSome(end) && Date.now() < end.value)

  const since = yield* Effect.retry(databaseNow, retried)
  tally.begin()
  yield* load.stop
  yield* Effect.sleep(longestDelay)
  const last = note("the end", yield* audit({ since, began, tally }))
  const whole = note("the end", yield* finalAudit(load, tally))
  const violations =
    [...rounds, last, whole].reduce(
      (sum, { early, lost, objections, stale, twice }) => sum + early + lost + objections + stale + twice,
      0
    ) + site.deaths.length
  const { acknowledged, failed, planned } = load.counts()
  yield* Console.log(table(faults, rounds))
  yield* Console.log(
    `\n${planned} games planned, ${acknowledged} of them acknowledged by the API (${failed} requests failed), ` +
      `${tally.transitions} transitions and reminders received, ${tally.repeated} of ${tally.deliveries} deliveries were ` +
      `repetitions by their id; at the end lost ${last.lost + whole.lost}, twice ${last.twice}, early ${last.early}, ` +
      `stale ${last.stale + whole.stale}, verify ${last.objections}`
  )
  if (violations === 0) return
  yield* Console.error([...tally.examples, ...site.deaths].join("\n"))
  yield* new FaultError({ detail: `${violations} violations; --seed ${seed} repeats the choices of this run` })
})

const testFaults = Command.make(
  "test:faults",
  {
    seed: Flag.Int("seed").pipe(Flag.withDescription("Repeats the choices of a run that printed it"), Flag.optional),
    minutes: Flag.Int("minutes").pipe(
      Flag.withDescription("Go on injecting for so long; each fault once unless given"),
      Flag.optional
    ),
    only: Flag.String("faults").pipe(
      Flag.withDescription(`Which faults, separated by commas; all unless given: ${names.join(", ")}`),
      Flag.optional
    ),
    rate: Flag.Int("rate").pipe(
      Flag.withDescription(
        `Games planned per second (default ${defaultRates.short}, with --minutes ${defaultRates.long})`
      ),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ minutes, only, rate, seed: given }) {
    const seed = Option.getOrElse(given, () => Math.floor(Math.random() * 1_000_000))
    const wanted = Option.match(only, { onNone: () => names, onSome: (text) => text.split(",") })
    const unknown = wanted.find((name) => !names.includes(name))
    if (unknown !== undefined) yield* new FaultError({ detail: `There is no fault ${unknown}` })
    const began = Date.now()
    yield* Console.error(`seed ${seed}`)
    const playing = play({
      seed,
      minutes,
      rate: Option.getOrElse(rate, () => (Option.isSome(minutes) ? defaultRates.long : defaultRates.short)),
      chosen: faults.filter(({ name }) => wanted.includes(name))
    })
    yield* Effect.andThen(boundShutdown(stopLimit), playing).pipe(
      Effect.scoped,
      Effect.provide(Site.layer),
      Effect.ensuring(Effect.suspend(() => Console.error(`seed ${seed}, ${Math.round((Date.now() - began) / 1000)} s`)))
    )
  })
).pipe(Command.withDescription("Inject faults into three replicas under load and count what was lost, twice or early"))

const describe = (error: unknown): string =>
  SqlError.isSqlError(error) ? describeSqlError(error) : error instanceof Error ? error.message : String(error)

testFaults.pipe(
  Command.run({ version: packageJson.version }),
  // What is wrong with a call has been said with the help.
  Effect.tapCause((cause) => {
    const error = Cause.squash(cause)
    if (CliError.isCliError(error) || Cause.hasInterruptsOnly(cause)) return Effect.void
    return Console.error(
      `test:faults: ${cause.reasons.some(Cause.isDieReason) ? Cause.pretty(cause) : describe(error)}`
    )
  }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
