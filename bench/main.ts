/**
 * `npm run bench`: runs the scenarios, all or those that are named, on servers of its own, and prints what came out.
 *
 * Everything is local and is stopped at the end, also after Ctrl-C. Other work on the machine shows in the figures.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, DateTime, Effect, FileSystem, Layer, Option } from "effect"
import { Argument, CliError, Command, Flag } from "effect/cli"
import { SqlError } from "effect/sql"
import { fileURLToPath } from "node:url"
import packageJson from "../package.json" with { type: "json" }
import { describeSqlError } from "../src/postgres/Database.ts"
import { BenchError } from "./BenchError.ts"
import { environmentText, reportJson, reportText } from "./print.ts"
import { Progress } from "./Progress.ts"
import { burst } from "./scenarios/burst.ts"
import { lateness } from "./scenarios/lateness.ts"
import { Servers } from "./Servers.ts"

/** In the order in which they run. */
const scenarios = [lateness, burst]

const results = fileURLToPath(new URL("results/", import.meta.url))

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
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Also write bench/results/<scenario>.json"),
      Flag.withDefault(false)
    ),
    profile: Flag.String("profile").pipe(
      Flag.withDescription("Write CPU profiles of the service to this folder"),
      Flag.optional
    )
  },
  Effect.fnUntraced(
    function* ({ json, names, profile, rounds }) {
      const files = yield* FileSystem.FileSystem
      const servers = yield* Servers
      const measuredAt = DateTime.formatIso(yield* DateTime.now)
      const violations: Array<string> = []

      yield* Console.log(environmentText(servers.environment))
      for (const scenario of scenarios) {
        if (names.length > 0 && !names.includes(scenario.name)) continue
        const report = yield* Effect.scoped(scenario.run({ rounds, profile: Option.getOrUndefined(profile) }))
        yield* (yield* Progress).say("")
        yield* Console.log(`\n${reportText(scenario, report)}`)
        violations.push(...report.violations)
        if (json) {
          yield* files.makeDirectory(results, { recursive: true })
          yield* files.writeFileString(
            `${results}${scenario.name}.json`,
            reportJson(scenario, servers.environment, measuredAt, report)
          )
        }
      }
      if (violations.length > 0) yield* new BenchError({ detail: violations.join("; ") })
    },
    Effect.provide(Servers.layer.pipe(Layer.provideMerge(Progress.layer)))
  )
).pipe(Command.withDescription("Measure Kickoff beside the least that could do the same work"))

const describe = (error: unknown): string =>
  SqlError.isSqlError(error) ? describeSqlError(error) : error instanceof Error ? error.message : String(error)

bench.pipe(
  Command.run({ version: packageJson.version }),
  // What is wrong with a call has been said with the help.
  Effect.tapError((error) => (CliError.isCliError(error) ? Effect.void : Console.error(`bench: ${describe(error)}`))),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
