/**
 * The real process, `node dist/main.js`, as an operator sees it: arguments, environment, output, signals, exit code.
 *
 * What it wrote is shown when a test fails; whatever happens it does not outlive its scope.
 */
import { Deferred, Effect, Exit, Schema } from "effect"
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { once } from "node:events"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"

export const mainFile = fileURLToPath(new URL("../../dist/main.js", import.meta.url))

/** The process ended before it did what the test waits for. */
export class ServiceEnded extends Schema.TaggedError<ServiceEnded>()("ServiceEnded", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Program {
  readonly pid: number
  readonly stdout: () => string
  readonly stderr: () => string
  /** Waits for a match in what the process has written so far or writes later. */
  readonly output: (pattern: RegExp) => Effect.Effect<RegExpExecArray, ServiceEnded>
  readonly ended: Effect.Effect<Ended>
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** For what an operator would do with the streams. */
  readonly child: Child
}

export interface ProgramOptions {
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** The Node.js that runs it; the one that runs the tests unless given. */
  readonly node?: string
  readonly main?: string
  readonly cwd?: string
}

/** The environment without what the machine says of Kickoff. */
const cleanEnvironment = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(KICKOFF_|OTEL_|DATABASE_|RABBITMQ_|HTTP_|LOG_|NODE_OPTIONS|VITEST|NODE_ENV)/.test(name)
  )
)

type Child = ChildProcessWithoutNullStreams

const watch = (child: Child, send: (child: Child, signal: NodeJS.Signals) => void): Program => {
  let stdout = ""
  let stderr = ""
  const listeners = new Set<() => void>()
  const tell = () => {
    for (const listener of listeners) listener()
  }
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString()
    tell()
  })
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString()
    tell()
  })
  const ended = Deferred.makeUnsafe<Ended>()
  let isOver = false
  // After `exit`, when the last of its output has arrived.
  child.once("close", (code, signal) => {
    isOver = true
    Deferred.doneUnsafe(ended, Exit.succeed({ code, signal }))
    tell()
  })
  const both = () => `${stdout}${stderr}`
  return {
    child,
    pid: child.pid ?? 0,
    stdout: () => stdout,
    stderr: () => stderr,
    ended: Deferred.await(ended),
    kill: (signal) => Effect.sync(() => send(child, signal)),
    output: (pattern) =>
      Effect.callback((resume) => {
        const look = () => {
          const match = pattern.exec(both())
          if (match !== null) resume(Effect.succeed(match))
          else if (isOver) {
            resume(Effect.fail(new ServiceEnded({ detail: `It ended without ${pattern} in its output:\n${both()}` })))
          } else return
          listeners.delete(look)
        }
        listeners.add(look)
        look()
        return Effect.sync(() => listeners.delete(look))
      })
  }
}

/** Spawns a process; it is killed when the scope closes. `send` is for a child that only leads to the process. */
export const startProcess = (
  spawnChild: () => Child,
  send: (child: Child, signal: NodeJS.Signals) => void = (child, signal) => void child.kill(signal)
) =>
  Effect.acquireRelease(
    Effect.sync(() => watch(spawnChild(), send)),
    (program, exit) =>
      Effect.gen(function* () {
        if (Exit.isFailure(exit)) process.stderr.write(`${program.stdout()}${program.stderr()}`)
        yield* program.kill("SIGKILL")
        yield* program.ended
      })
  )

/** Starts the program; it is killed when the scope closes. */
export const startProgram = (options: ProgramOptions = {}) => {
  const { args = [], cwd, env = {}, main = mainFile, node = process.execPath } = options
  return startProcess(() => spawn(node, [main, ...args], { cwd, env: { ...cleanEnvironment, ...env } }))
}

/** Waits for the end of a process that is started for that. */
export const toItsEnd = <E, R>(starting: Effect.Effect<Program, E, R>) =>
  Effect.gen(function* () {
    const program = yield* starting
    const { code, signal } = yield* program.ended
    return { code, signal, stdout: program.stdout(), stderr: program.stderr() }
  }).pipe(Effect.scoped)

/** Runs the program to its end. */
export const runProgram = (options: ProgramOptions = {}) => toItsEnd(startProgram(options))

export interface Service extends Program {
  /** Where the API is. */
  readonly url: string
  /** Asks for a clean stop and waits for the end. */
  readonly stop: Effect.Effect<Ended>
  /** Ends it without a word. */
  readonly crash: Effect.Effect<Ended>
  readonly post: (path: string, body: unknown, headers?: Readonly<Record<string, string>>) => Effect.Effect<Response>
  readonly get: (path: string) => Effect.Effect<Response>
}

/** Waits until a process that serves says that it is ready; `headers` go with every request to it. */
export const untilReady = Effect.fnUntraced(function* (
  program: Program,
  headers: Readonly<Record<string, string>> = {}
) {
  const [, url = ""] = yield* program.output(/Ready on (http:\S+?)[",]/)
  const signalled = (signal: NodeJS.Signals) => Effect.andThen(program.kill(signal), program.ended)
  const service: Service = {
    ...program,
    url,
    stop: signalled("SIGTERM"),
    crash: signalled("SIGKILL"),
    post: (path, body, more = {}) =>
      Effect.promise(() =>
        fetch(`${url}${path}`, {
          method: "POST",
          headers: { "content-type": "application/json", ...headers, ...more },
          body: JSON.stringify(body)
        })
      ),
    get: (path) => Effect.promise(() => fetch(`${url}${path}`, { headers }))
  }
  return service
})

/** Starts `serve` on a port of its own and waits until it says that it is ready. */
export const startService = (options: ProgramOptions) =>
  Effect.flatMap(startProgram({ ...options, env: { HTTP_PORT: "0", LOG_FORMAT: "json", ...options.env } }), untilReady)

/** A port on which nobody listens at the moment. */
export const freePort = Effect.promise(async () => {
  const server = Net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  if (address === null || typeof address === "string") throw new Error("no free port")
  return address.port
})
