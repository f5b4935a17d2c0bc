/**
 * Programs that run beside the benchmark: the service, its peers, load generators. Each is a process of its own, so that
 * none of them shares an event loop with the consumer that measures.
 *
 * They hang on a channel to this process: they end with it, however it ends.
 */
import { Cause, Duration, Effect, Queue, type Scope } from "effect"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { BenchError } from "./BenchError.ts"
import { now } from "./clock.ts"

/** What came from the program: a message on the channel, or a line of its output. */
export type Output =
  | { readonly _tag: "message"; readonly message: unknown }
  | { readonly _tag: "line"; readonly line: string }

export interface Program {
  readonly pid: number
  readonly send: (message: Readonly<Record<string, unknown>>) => Effect.Effect<void>
  /** Waits for the first output, of those not looked at yet, of which `select` makes something. */
  readonly next: <A>(select: (output: Output) => A | undefined) => Effect.Effect<A, BenchError>
}

export interface ProgramOptions {
  /** For people. */
  readonly name: string
  /** What follows `node`. */
  readonly args: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
}

const stopLimit = Duration.seconds(15)
const linesKept = 15

/** Starts a program, and stops it with SIGTERM when the scope closes. */
export const startProgram = Effect.fnUntraced(function* (
  options: ProgramOptions
): Effect.fn.Return<Program, BenchError, Scope.Scope> {
  const outputs = yield* Queue.unbounded<Output, BenchError>()
  const lastLines: Array<string> = []
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, options.args, {
        env: { ...process.env, ...options.env },
        stdio: ["ignore", "pipe", "pipe", "ipc"]
      })
    ),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) resume(Effect.void)
        else {
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGTERM")
        }
      }).pipe(Effect.timeoutOption(stopLimit), Effect.andThen(Effect.sync(() => child.kill("SIGKILL"))))
  )
  const fail = (detail: string) => {
    const error = new BenchError({ detail: [`${options.name} ${detail}`, ...lastLines].join("\n") })
    Queue.failCauseUnsafe(outputs, Cause.fail(error))
  }
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue
    createInterface({ input: stream }).on("line", (line) => {
      lastLines.push(line)
      if (lastLines.length > linesKept) lastLines.shift()
      Queue.offerUnsafe(outputs, { _tag: "line", line })
    })
  }
  child.on("message", (message) => Queue.offerUnsafe(outputs, { _tag: "message", message }))
  child.once("error", (error) => fail(`could not be started: ${error.message}`))
  // "close" and not "exit": by then its last words have been read.
  child.once("close", (code, signal) => fail(`ended (${signal ?? code})`))

  return {
    pid: child.pid ?? 0,
    send: (message) => Effect.sync(() => void child.send(message)),
    next: Effect.fnUntraced(function* (select) {
      for (;;) {
        const selected = select(yield* Queue.take(outputs))
        if (selected !== undefined) return selected
      }
    })
  }
})

/** Runs a program to its end and returns how long that took, ms; fails unless it ends well. */
export const runProgram = Effect.fnUntraced(function* (options: ProgramOptions) {
  const began = now()
  return yield* Effect.callback<number, BenchError>((resume) => {
    const child = spawn(process.execPath, options.args, {
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const said: Array<string> = []
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => said.push(chunk.toString()))
    child.once("error", (error) => resume(Effect.fail(new BenchError({ detail: `${options.name}: ${error.message}` }))))
    child.once("exit", (code, signal) =>
      resume(
        code === 0
          ? Effect.succeed(now() - began)
          : Effect.fail(new BenchError({ detail: `${options.name} ended (${signal ?? code})\n${said.join("")}` }))
      )
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })
})
