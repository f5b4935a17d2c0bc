/**
 * `npm run bench`: runs the scenarios, all or those that are named, on servers of its own, and prints what came out.
 *
 * Only a run of all of them writes `RESULTS.md`. Everything is local and is stopped at the end, also after Ctrl-C. Other
 * work on the machine shows in the figures.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, DateTime, Duration, Effect, FileSystem, Layer, Option, Result } from "effect"
import { Argument, CliError, Command, Flag } from "effect/cli"
import { SqlError } from "effect/sql"
import { fileURLToPath } from "node:url"
import packageJson from "../package.json" with { type: "json" }
import { describeSqlError } from "../src/postgres/Database.ts"
import { BenchError } from "./BenchError.ts"
import { environmentText, type Outcome, type Run, reportText, runJson, runMarkdown, verdictsText } from "./print.ts"
import { Progress } from "./Progress.ts"
import type { Options, Scenario } from "./Scenario.ts"
import { api } from "./scenarios/api.ts"
import { burst } from "./scenarios/burst.ts"
import { idle } from "./scenarios/idle.ts"
import { lateness } from "./scenarios/lateness.ts"
import { scale } from "./scenarios/scale.ts"
import { startup } from "./scenarios/startup.ts"
import { Servers } from "./Servers.ts"
import { judgeAll } from "./targets.ts"

/** In the order in which they run. */
const scenarios: ReadonlyArray<Scenario> = [startup, lateness, burst, scale, idle, api]

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** A scenario that fails does not take along the figures of the others. */
const runOne = (scenario: Scenario, options: Options) =>
  Effect.gen(function* () {
    const result = yield* Effect.result(Effect.scoped(scenario.run(options)))
    yield* (yield* Progress).say("")
    return Result.match(result, {
      onSuccess: (report): Outcome => ({ scenario, report }),
      onFailure: (error): Outcome => ({
        scenario,
        report: { settings: {}, tables: [], notes: [], figures: {}, violations: [`it failed: ${describe(error)}`] }
      })
    })
  })

const bench = Command.make(
  "bench",
  {
    names: Argument.Literals(
      "scenario",
      scenarios.map(({ name }) => name)
    ).pipe(
      Argument.withDescription(
        `What to run; all unless named. ${scenarios.map(({ name, summary }) => `${name}: ${summary}`).join(". ")}`
      ),
      Argument.variadic()
    ),
    rounds: Flag.Int("rounds").pipe(
      Flag.withDescription("How often each side is measured, in turn; figures are medians (default 3)"),
      Flag.withDefault(3),
      Flag.filter(
        (rounds) => rounds >= 1 && rounds <= 100,
        () => "Expected a number from 1 to 100"
      )
    ),
    games: Flag.Int("games").pipe(
      Flag.withDescription("Games of every burst (default: what each comparison has as its own)"),
      Flag.filter(
        (games) => games >= 1000 && games <= 1_000_000,
        () => "Expected a number from 1000 to 1000000"
      ),
      Flag.optional
    ),
    json: Flag.String("json").pipe(Flag.withDescription("Also write the figures as JSON to this file"), Flag.optional),
    profile: Flag.String("profile").pipe(
      Flag.withDescription("Write CPU profiles of the service to this folder"),
      Flag.optional
    )
  },
  Effect.fnUntraced(
    function* ({ games, json, names, profile, rounds }) {
      const files = yield* FileSystem.FileSystem
      const { environment } = yield* Servers
      const options = { rounds, games: Option.getOrUndefined(games), profile: Option.getOrUndefined(profile) }
      const began = yield* Clock.monotonicTimeNanos
      const measuredAt = DateTime.formatIso(yield* DateTime.now)

      yield* Console.log(environmentText(environment))
      const outcomes: Array<Outcome> = []
      for (const scenario of scenarios) {
        if (names.length > 0 && !names.includes(scenario.name)) continue
        const outcome = yield* runOne(scenario, options)
        yield* Console.log(`\n${reportText(outcome)}`)
        outcomes.push(outcome)
      }

      const all = names.length === 0
      const figures = Object.assign({}, ...outcomes.map(({ report }) => report.figures))
      const judged = judgeAll(figures).filter(({ figure }) => all || figure !== undefined)
      yield* Console.log(`\n${verdictsText(judged)}`)
      const elapsed = Duration.nanos((yield* Clock.monotonicTimeNanos) - began)
      const run: Run = { environment, measuredAt, minutes: Math.ceil(Duration.toMinutes(elapsed)), outcomes, judged }
      if (all) {
        yield* files.writeFileString(file("RESULTS.md"), runMarkdown(run, yield* files.readFileString(file("LOG.md"))))
        yield* files.writeFileString(file("results.json"), runJson(run))
      }
      if (Option.isSome(json)) yield* files.writeFileString(json.value, runJson(run))

      const violations = outcomes.flatMap(({ report, scenario }) =>
        report.violations.map((violation) => `${scenario.name}: ${violation}`)
      )
      if (violations.length > 0) yield* new BenchError({ detail: violations.join("; ") })
    },
    Effect.provide(Servers.layer.pipe(Layer.provideMerge(Progress.layer)))
  )
).pipe(Command.withDescription("Measure Kickoff beside the least that could do the same work, and beside job queues"))

const describe = (error: unknown): string =>
  SqlError.isSqlError(error) ? describeSqlError(error) : error instanceof Error ? error.message : String(error)

bench.pipe(
  Command.run({ version: packageJson.version }),
  // What is wrong with a call has been said with the help.
  Effect.tapError((error) => (CliError.isCliError(error) ? Effect.void : Console.error(`bench: ${describe(error)}`))),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
