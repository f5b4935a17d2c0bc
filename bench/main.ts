/**
 * `npm run bench`: runs the scenarios, all or those that are named, on servers of its own, and prints what came out.
 *
 * Only a run of all of them writes `RESULTS.md`. Everything is local and is stopped at the end, also after Ctrl-C. Other
 * work on the machine shows in the figures.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, DateTime, Duration, Effect, FileSystem, Layer, Option } from "effect"
import { Argument, CliError, Command, Flag } from "effect/cli"
import { fileURLToPath } from "node:url"
import packageJson from "../package.json" with { type: "json" }
import { BenchError } from "./BenchError.ts"
import { environmentText, type Outcome, reportText, runJson, runMarkdown, verdictsText } from "./print.ts"
import { Progress } from "./Progress.ts"
import { describe, runScenario } from "./runScenario.ts"
import type { Scenario } from "./Scenario.ts"
import { api } from "./scenarios/api.ts"
import { burst } from "./scenarios/burst.ts"
import { culprits } from "./scenarios/culprits.ts"
import { idle } from "./scenarios/idle.ts"
import { lateness } from "./scenarios/lateness.ts"
import { scale } from "./scenarios/scale.ts"
import { startup } from "./scenarios/startup.ts"
import { Servers } from "./Servers.ts"
import { judgeAll } from "./targets.ts"

/** In the order in which they run. */
const scenarios: ReadonlyArray<Scenario> = [startup, lateness, burst, culprits, scale, idle, api]

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url))

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
    only: Flag.String("only").pipe(
      Flag.withDescription(
        "Run only the parts of the scenarios whose names contain this; what takes part is started all the same"
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
    function* ({ games, json, names, only, profile, rounds }) {
      const files = yield* FileSystem.FileSystem
      const { environment } = yield* Servers
      const options = {
        rounds,
        games: Option.getOrUndefined(games),
        profile: Option.getOrUndefined(profile),
        only: Option.getOrUndefined(only)
      }
      const began = yield* Clock.monotonicTimeNanos
      const measuredAt = DateTime.formatIso(yield* DateTime.now)

      yield* Console.log(environmentText(environment))
      const all = names.length === 0 && Option.isNone(only)
      const outcomes: Array<Outcome> = []
      const toRun = Effect.fnUntraced(function* (outcomes: ReadonlyArray<Outcome>) {
        const figures = Object.assign({}, ...outcomes.map(({ report }) => report.figures))
        const judged = judgeAll(figures).filter(({ figure }) => all || figure !== undefined)
        const elapsed = Duration.nanos((yield* Clock.monotonicTimeNanos) - began)
        return { environment, measuredAt, minutes: Math.ceil(Duration.toMinutes(elapsed)), outcomes, judged }
      })
      // As it goes: a run that is cut off has not been in vain.
      const save = Effect.fnUntraced(function* (outcomes: ReadonlyArray<Outcome>) {
        const text = runJson(yield* toRun(outcomes))
        for (const path of [...(all ? [file("results.json")] : []), ...Option.toArray(json)]) {
          yield* files.writeFileString(path, text)
        }
      })
      for (const scenario of scenarios) {
        if (names.length > 0 && !names.includes(scenario.name)) continue
        const report = yield* runScenario(scenario, options, (report) => save([...outcomes, { scenario, report }]))
        const outcome = { scenario, report }
        outcomes.push(outcome)
        yield* Console.log(`\n${reportText(outcome)}`)
        yield* save(outcomes)
      }

      const run = yield* toRun(outcomes)
      yield* Console.log(`\n${verdictsText(run.judged)}`)
      if (all) {
        yield* files.writeFileString(file("RESULTS.md"), runMarkdown(run, yield* files.readFileString(file("LOG.md"))))
      }

      const violations = outcomes.flatMap(({ report, scenario }) =>
        report.violations.map((violation) => `${scenario.name}: ${violation}`)
      )
      if (violations.length > 0) yield* new BenchError({ detail: violations.join("; ") })
    },
    Effect.provide(Servers.layer.pipe(Layer.provideMerge(Progress.layer)))
  )
).pipe(Command.withDescription("Measure Kickoff beside the least that could do the same work, and beside job queues"))

bench.pipe(
  Command.run({ version: packageJson.version }),
  // What is wrong with a call has been said with the help.
  Effect.tapError((error) => (CliError.isCliError(error) ? Effect.void : Console.error(`bench: ${describe(error)}`))),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
