/**
 * The command line: finds the command, runs it, and turns its end into an exit code and at most one line.
 *
 * 0 is success and a clean stop by a signal, 1 a failure, 2 bad arguments or configuration. Commands load what they need
 * when they run, so that `health` and `--version` stay fast.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Config, Effect, Exit, Layer } from "effect"
import { CliConfig, CliError, CliOutput, Command, GlobalFlag } from "effect/cli"
import packageJson from "../../package.json" with { type: "json" }
import { surviveClosedOutput } from "../observability/logging.ts"
import { backfill } from "./backfill.ts"
import { deadLetters } from "./deadLetters.ts"
import { doctor } from "./doctor.ts"
import { explain } from "./explain.ts"
import { AlreadyLogged, BadArgument, describeConfigError } from "./failures.ts"
import { forecast } from "./forecast.ts"
import { health } from "./health.ts"
import { keys } from "./keys.ts"
import { migrate } from "./migrate.ts"
import { pause, resume } from "./pause.ts"
import { serve } from "./serve.ts"
import { status } from "./status.ts"
import { verify } from "./verify.ts"

const kickoff = Command.make("kickoff").pipe(
  Command.withDescription("The clock of a game-session platform. Without a command it serves."),
  Command.withSubcommands([
    serve,
    migrate,
    health,
    status,
    doctor,
    verify,
    explain,
    forecast,
    pause,
    resume,
    deadLetters,
    backfill,
    keys
  ])
)

/** Help and version go to standard output; what is wrong with a call is said by {@link describeExit}. */
const presenter = CliOutput.layerPresenter({
  present: (event) => (event._tag === "InvalidInvocation" ? Effect.void : CliOutput.defaultPresenter.present(event))
})

/** `kickoff` and `kickoff --roles api` serve. */
const withDefaultCommand = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const [first = "-"] = args
  return first.startsWith("-") && !/^(--help|-h|--version|-v)$/.test(first) ? ["serve", ...args] : args
}

/** The exit code, and the line for standard error if something is still to be said. */
export const describeExit = (exit: Exit.Exit<unknown, unknown>): { readonly code: number; readonly line?: string } => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return { code: 0 }
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (exit.cause.reasons.some(Cause.isDieReason) || error === undefined) {
    return { code: 1, line: `a defect, please report it: ${Cause.pretty(exit.cause)}` }
  }
  if (error instanceof AlreadyLogged) return { code: 1 }
  if (error instanceof Config.ConfigError) return { code: 2, line: describeConfigError(error, process.env) }
  if (error instanceof BadArgument) return { code: 2, line: error.message }
  if (CliError.isCliError(error)) {
    if (error._tag !== "ShowHelp") return { code: 2, line: error.message }
    const [first] = error.errors
    return first === undefined
      ? { code: 2, line: `no command given, see kickoff --help` }
      : { code: 2, line: `${first.message.replaceAll(/\s+/g, " ").trim()}, see ${error.commandPath.join(" ")} --help` }
  }
  return { code: 1, line: error instanceof Error ? error.message : Cause.pretty(exit.cause) }
}

/** Runs the command that the arguments name and ends the process. */
export const run = (args: ReadonlyArray<string>): void => {
  surviveClosedOutput.pipe(
    Effect.andThen(Command.runWith(kickoff, { version: packageJson.version })(withDefaultCommand(args))),
    Effect.provide(
      Layer.mergeAll(
        NodeServices.layer,
        presenter,
        CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version] })
      )
    ),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      teardown: (exit, onExit) => {
        const { code, line } = describeExit(exit)
        if (line !== undefined) process.stderr.write(`kickoff: ${line}\n`)
        onExit(code)
      }
    })
  )
}
