/**
 * `npm run test:faults`: three replicas under load, faults one after the other, and after each of them the question
 * whether anything was lost, done twice, or done early. Exit 1 if so.
 *
 * The choices follow from the seed, their timing does not. Everything is local and is stopped at the end, also after
 * Ctrl-C.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, DateTime, Duration, Effect, FileSystem, Option } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { SqlClient, SqlError } from "effect/sql"
import packageJson from "../../package.json" with { type: "json" }
import { boundShutdown } from "../../src/cli/shutdown.ts"
import { describeSqlError } from "../../src/postgres/Database.ts"
import { describeMachine } from "../support/machine.ts"
import { type Fault, goTogether, type Injection } from "./Fault.ts"
import { attempt, FaultError } from "./FaultError.ts"
import { faults } from "./faults.ts"
import { playKills } from "./kills.ts"
import { type Outcome, play } from "./play.ts"
import { report } from "./report.ts"
import { Site } from "./Site.ts"

/** Games per second: what fits beside everything on two cores; the long form is to reach a million transitions. */
const defaultRates = { short: 60, long: 300 }

/** Longest stop after Ctrl-C; whatever is left then ends with this process. */
const stopLimit = Duration.seconds(20)

const named = (name: string) => {
  const fault = faults.find((fault) => fault.name === name)
  return fault === undefined
    ? Effect.fail(new FaultError({ detail: `There is no fault ${name}` }))
    : Effect.succeed(fault)
}

/** Reads `a,b+c`: a alone, then b and c at once. */
const readInjections = (text: string): Effect.Effect<ReadonlyArray<Injection>, FaultError> =>
  Effect.forEach(text.split(","), (part) =>
    Effect.gen(function* () {
      const [one, other, ...more] = yield* Effect.forEach(part.split("+"), named)
      if (one === undefined || other === undefined) return [yield* named(part)] as const
      if (more.length > 0 || !goTogether(one, other)) {
        return yield* new FaultError({ detail: `These do not go together: ${part}` })
      }
      return [one, other] as const
    })
  )

const servers = Effect.gen(function* () {
  const { broker } = yield* Site
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly version: string }>`SELECT current_setting('server_version') AS version`
  const rabbitmq = yield* attempt("RabbitMQ does not tell its version", () => broker.ctl("version"))
  return {
    kickoff: packageJson.version,
    node: process.versions.node,
    postgresql: row?.version ?? "",
    rabbitmq: rabbitmq.trim()
  }
})

const seedFlag = Flag.Int("seed").pipe(
  Flag.withDescription("Repeats the choices of a run that printed it"),
  Flag.optional
)

const chooseSeed = Effect.fnUntraced(function* (given: Option.Option<number>) {
  const seed = Option.getOrElse(given, () => Math.floor(Math.random() * 1_000_000))
  yield* Console.error(`seed ${seed}`)
  return seed
})

const kills = Command.make(
  "kills",
  { seed: seedFlag },
  Effect.fnUntraced(function* ({ seed }) {
    yield* boundShutdown(stopLimit).pipe(
      Effect.andThen(playKills(yield* chooseSeed(seed))),
      Effect.scoped,
      Effect.provide(Site.layer)
    )
  })
).pipe(
  Command.withDescription(
    "3,000 games fall due within 20 s while replicas and sessions are killed: one event id per game"
  )
)

const testFaults = Command.make(
  "test:faults",
  {
    seed: seedFlag,
    minutes: Flag.Int("minutes").pipe(
      Flag.withDescription("Go on injecting for so long, most faults alone; each once, two at a time, unless given"),
      Flag.optional
    ),
    only: Flag.String("faults").pipe(
      Flag.withDescription(
        `Which faults, separated by commas, or two at once with + between; all unless given: ${faults.map(({ name }) => name).join(", ")}`
      ),
      Flag.optional
    ),
    rate: Flag.Int("rate").pipe(
      Flag.withDescription(
        `Games planned per second (default ${defaultRates.short}, with --minutes ${defaultRates.long})`
      ),
      Flag.optional
    ),
    file: Flag.String("report").pipe(Flag.withDescription("Also write the report to this file"), Flag.optional)
  },
  Effect.fnUntraced(function* ({ file, minutes, only, rate: givenRate, seed: givenSeed }) {
    const files = yield* FileSystem.FileSystem
    const rate = Option.getOrElse(givenRate, () => (Option.isSome(minutes) ? defaultRates.long : defaultRates.short))
    const chosen = yield* Effect.transposeOption(Option.map(only, readInjections))
    const needed: ReadonlyArray<Fault> = Option.match(chosen, { onNone: () => faults, onSome: (all) => all.flat() })
    for (const { needs } of needed) if (needs !== undefined) yield* needs
    // Better now than after half an hour.
    if (Option.isSome(file)) yield* files.writeFileString(file.value, "")

    const start = yield* DateTime.now
    const began = performance.now()
    const seed = yield* chooseSeed(givenSeed)
    const outcome: Outcome = { rounds: [], totals: [], examples: [], violations: 0 }
    const print = Effect.gen(function* () {
      const facts = {
        seed,
        began: DateTime.formatIso(start),
        seconds: Math.round((performance.now() - began) / 1000),
        "games per second": rate,
        replicas: 3,
        ...describeMachine(),
        ...(yield* servers)
      }
      const text = report({ facts, ...outcome })
      yield* Console.log(text)
      if (Option.isSome(file)) yield* files.writeFileString(file.value, text)
    })
    yield* boundShutdown(stopLimit).pipe(
      Effect.andThen(play({ seed, rate, minutes, faults, chosen }, outcome)),
      // What was found until then is worth a report, too.
      Effect.onError(() => Effect.ignore(Effect.suspend(() => (outcome.rounds.length === 0 ? Effect.void : print)))),
      Effect.andThen(print),
      Effect.scoped,
      Effect.provide(Site.layer)
    )
    if (outcome.violations === 0) return
    yield* Console.error(outcome.examples.join("\n"))
    yield* new FaultError({
      detail: `${outcome.violations} violations; --seed ${seed} repeats the choices of this run`
    })
  })
).pipe(
  Command.withDescription("Inject faults into three replicas under load and count what was lost, twice or early"),
  Command.withSubcommands([kills])
)

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
