/**
 * How long it takes until Kickoff is ready, what a container's health check costs, and what memory it takes when idle.
 *
 * Beside the least that a process of Node.js can take, which nothing written for it is faster than.
 */
import { Effect, Option, Schedule } from "effect"
import { BenchError } from "../BenchError.ts"
import { runProgram } from "../childProcess.ts"
import { now } from "../clock.ts"
import { environment, mainFile, migrate, startService } from "../kickoff.ts"
import { Progress } from "../Progress.ts"
import type { Row, Scenario } from "../Scenario.ts"
import { Servers } from "../Servers.ts"
import { median } from "../statistics.ts"
import { readUsage } from "../usage.ts"

/** How often a start is measured per round that is asked for; commands twice as often, because they are short. */
const startsPerRound = 2

/** How long a service is left alone before its memory counts as that of an idle one. */
const settling = "10 seconds"

const columns = ["p50, ms", "fastest, ms", "slowest, ms"]

const row = (name: string, millis: ReadonlyArray<number>): Row => ({
  name,
  cells: [median(millis), Math.min(...millis), Math.max(...millis)]
})

const isReady = (url: string) =>
  Effect.tryPromise({
    try: async () => (await fetch(`${url}/health/ready`)).status,
    catch: (error) => new BenchError({ detail: `Kickoff does not answer: ${String(error)}` })
  }).pipe(Effect.repeat({ until: (status) => status === 200, schedule: Schedule.spaced("5 millis") }))

export const startup: Scenario = {
  name: "startup",
  summary: "time until the service is ready, what its commands take, and its memory when idle",
  prepare: Effect.fnUntraced(function* (options) {
    const progress = yield* Progress
    const servers = yield* Servers
    const starts = startsPerRound * options.rounds
    const databaseUrl = yield* servers.createDatabase("kickoff_startup")
    yield* progress.say("migrating")
    yield* migrate(databaseUrl)
    const env = environment(databaseUrl, servers.rabbitmqUrl, "kickoff_startup")

    const ready = Effect.gen(function* () {
      const took: Array<number> = []
      for (let n = 1; n <= starts; n++) {
        yield* progress.say(`start ${n} of ${starts}`)
        const began = now()
        took.push(
          yield* Effect.scoped(
            Effect.gen(function* () {
              const { url } = yield* startService(env)
              yield* isReady(url)
              return now() - began
            })
          )
        )
      }
      return {
        settings: { starts },
        tables: [
          {
            title: "From the start of the process, on a migrated database",
            columns,
            rows: [row("kickoff serve: until /health/ready is 200", took)]
          }
        ],
        figures: { startup_ready: median(took) }
      }
    })

    const idleService = Effect.gen(function* () {
      const service = yield* startService(env)
      yield* progress.say(`leaving the service alone for ${settling}`)
      yield* Effect.sleep(settling)
      const usage = yield* readUsage(service.program.pid)
      const commands = {
        "kickoff health": {
          name: "kickoff health",
          args: [mainFile, "health"],
          env: { HTTP_PORT: new URL(service.url).port }
        },
        "kickoff --version": { name: "kickoff --version", args: [mainFile, "--version"] },
        "node -e 0": { name: "node", args: ["-e", "0"] }
      }
      const took = new Map(Object.keys(commands).map((name): [string, Array<number>] => [name, []]))
      for (let n = 1; n <= 2 * starts; n++) {
        yield* progress.say(`commands, round ${n} of ${2 * starts}`)
        for (const [name, command] of Object.entries(commands)) took.get(name)?.push(yield* runProgram(command))
      }
      const resident = Option.getOrNull(Option.map(usage, ({ resident }) => resident))
      return {
        settings: { commands: 2 * starts },
        tables: [
          {
            title: "Commands, beside a running service",
            columns,
            rows: [...took].map(([name, millis]) => row(name, millis))
          },
          {
            title: `Memory, ${settling} after the start`,
            columns: ["resident, MB"],
            rows: [{ name: "Kickoff", cells: [resident] }]
          }
        ],
        notes: ["Memory in a burst of a million and after it is in the scenario burst."],
        figures: {
          startup_health: median(took.get("kickoff health") ?? []),
          ...(resident === null ? {} : { memory_idle: resident })
        }
      }
    })

    return [
      { name: "starts", run: ready },
      { name: "an idle service and its commands", run: idleService }
    ]
  })
}
