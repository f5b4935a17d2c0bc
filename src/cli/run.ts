/**
 * The command line: finds the command, runs it, and turns its end into an exit code and at most one line.
 *
 * 0 is success and a clean stop by a signal, 1 a failure, 2 bad arguments or configuration. Whatever not every command
 * needs is loaded by those that do, so that `health` and `--version` stay fast.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Config, Effect, Exit, Layer } from "effect"
import { CliConfig, CliError, CliOutput, Command, GlobalFlag, TerminalCapabilities } from "effect/cli"
import packageJson from "../../package.json" with { type: "json" }
import { loadFor } from "./commands.ts"
import { AlreadyLogged, BadArgument, BadSetting } from "./failures.ts"
import { capabilities, plain, plainLines, surviveClosedOutput } from "./terminal.ts"

/** Help and version go to standard output; what is wrong with a call is said by {@link describeExit}. */
const presenter = CliOutput.layerPresenter({
  present: (event) => (event._tag === "InvalidInvocation" ? Effect.void : CliOutput.defaultPresenter.present(event))
})

/** `kickoff` and `kickoff --roles api` serve. */
const withDefaultCommand = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const [first = "-"] = args
  return first.startsWith("-") && !/^(--help|-h|--version|-v|--completions(=.*)?)$/.test(first)
    ? ["serve", ...args]
    : args
}

/** The exit code, and the line for standard error if something is still to be said. */
export const describeExit = (exit: Exit.Exit<unknown, unknown>): { readonly code: number; readonly line?: string } => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return { code: 0 }
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (exit.cause.reasons.some(Cause.isDieReason) || error === undefined) {
    return { code: 1, line: `a defect, please report it: ${plainLines(Cause.pretty(exit.cause))}` }
  }
  if (error instanceof AlreadyLogged) return { code: 1 }
  if (error instanceof BadArgument || error instanceof BadSetting) return { code: 2, line: plain(error.message) }
  if (CliError.isCliError(error)) {
    if (error._tag !== "ShowHelp") return { code: 2, line: plain(error.message) }
    const [first] = error.errors
    return first === undefined
      ? { code: 2, line: `no command given, see kickoff --help` }
      : { code: 2, line: `${plain(first.message)}, see ${error.commandPath.join(" ")} --help` }
  }
  return { code: 1, line: plain(error instanceof Error ? error.message : Cause.pretty(exit.cause)) }
}

/** Runs the command that the arguments name and ends the process. */
export const run = (args: ReadonlyArray<string>): void => {
  const words = withDefaultCommand(args)
  surviveClosedOutput.pipe(
    Effect.andThen(loadFor(words[0])),
    Effect.flatMap((kickoff) => Command.runWith(kickoff, { version: packageJson.version })(words)),
    Effect.catch((error) =>
      error instanceof Config.ConfigError
        ? Effect.flatMap(
            Effect.promise(() => import("./settingErrors.ts")),
            ({ describeConfigError }) => new BadSetting({ line: describeConfigError(error, process.env) })
          )
        : Effect.fail(error)
    ),
    Effect.provideServiceEffect(TerminalCapabilities.TerminalCapabilities, capabilities),
    Effect.provide(
      Layer.mergeAll(
        NodeServices.layer,
        presenter,
        CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] })
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
