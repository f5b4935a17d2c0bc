/**
 * A PostgreSQL server of our own in a folder, for trying Kickoff out: made on first use, stopped with the scope.
 *
 * The server runs in a session of its own, so that Ctrl-C reaches only us and we stop it last. After a `kill -9` it
 * lives on; the next start finds it by its pid file, stops it, and starts anew.
 */
import {
  Context,
  Deferred,
  Effect,
  FileSystem,
  Layer,
  Option,
  Path,
  type PlatformError,
  Redacted,
  Schedule,
  Schema
} from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import type { SqlError } from "effect/sql"
import { randomBytes } from "node:crypto"
import * as Net from "node:net"
import { describeSqlError } from "./Database.ts"
import {
  type Account,
  type Binaries,
  type EmbeddedPostgresUnavailable,
  findBinaries,
  serverAccount
} from "./embeddedBinaries.ts"
import { type DataFolderInUse, DataFolderUnusable, holdFolder } from "./embeddedFolder.ts"
import { ensureDatabase } from "./embeddedStore.ts"

/** The server could not be made or started. */
export class EmbeddedPostgresFailed extends Schema.TaggedError<EmbeddedPostgresFailed>()("EmbeddedPostgresFailed", {
  folder: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `The embedded PostgreSQL in ${this.folder} did not start: ${this.detail}`
  }
}

export type EmbeddedPostgresError =
  | EmbeddedPostgresUnavailable
  | DataFolderInUse
  | DataFolderUnusable
  | EmbeddedPostgresFailed

type Platform = FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner

/** Superuser and database. */
const name = "kickoff"

/** Longest path of a Unix socket, in bytes: `sun_path` with its terminating zero. */
const longestSocketPath = process.platform === "linux" ? 107 : 103

/** The number in a socket's file name; on a socket it means nothing else. */
const socketPort = 5432

/** Replaces a fresh Node by a program under another account; it works without `setpriv` and the like. */
const runAs = `
const [uid, gid, program, ...args] = process.argv.slice(1)
process.setgroups([Number(gid)])
process.setgid(Number(gid))
process.setuid(Number(uid))
process.execve(program, [program, ...args], process.env)
`

/** Lets a program write to a file what it says; both are named relative to the working directory. */
const logTo = `log=$1; shift; exec "$@" >"$log" 2>&1`

/**
 * How the server is told its data folder. Linux: as its working directory, which it may use also when its account
 * cannot walk the path that leads there, as below root's home.
 */
const dataFolder = (data: string) => (process.platform === "linux" ? "/proc/self/cwd" : data)

interface Program {
  readonly account: Option.Option<Account>
  readonly command: string
  readonly args: ReadonlyArray<string>
  /** The data folder. */
  readonly cwd: string
  /** Relative to `cwd`. */
  readonly log: string
}

const run = ({ account, args, command, cwd, log }: Program) => {
  const logged = ["/bin/sh", "-c", logTo, "sh", log, command, ...args]
  const [program = "", ...rest] = Option.match(account, {
    onNone: () => logged,
    onSome: ({ gid, uid }) => [process.execPath, "-e", runAs, "--", String(uid), String(gid), ...logged]
  })
  return ChildProcess.make(program, rest, {
    cwd,
    // The environment's PGPORT, PGDATA, NODE_OPTIONS and locale are not meant for this server.
    env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
    detached: true,
    // PostgreSQL's fast shutdown.
    killSignal: "SIGINT",
    forceKillAfter: "8 seconds"
  })
}

const settings = {
  log_min_messages: "warning",
  log_timezone: "UTC",
  timezone: "UTC",
  jit: "off"
}

/** Whether any process has this id. */
const isTaken = (pid: number) =>
  Effect.try(() => process.kill(pid, 0)).pipe(
    Effect.as(true),
    Effect.orElseSucceed(() => false)
  )

/** Whether a process is the server of this data folder; a zombie is none. */
const isServerOf = (pid: number, data: string): Effect.Effect<boolean, never, Platform> =>
  process.platform === "linux"
    ? Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readLink(`/proc/${pid}/cwd`)).pipe(
        Effect.map((cwd) => cwd === data),
        Effect.orElseSucceed(() => false)
      )
    : Effect.flatMap(ChildProcessSpawner.ChildProcessSpawner, (spawner) =>
        spawner.string(ChildProcess.make("ps", ["-o", "command=", "-p", String(pid)]))
      ).pipe(
        Effect.map((command) => command.includes(data)),
        Effect.orElseSucceed(() => false)
      )

/** What a program complained of last, on one line and without times. */
const complaints = (log: string): string => {
  const lines = log
    .split("\n")
    .map((line) => line.replace(/^[-\d]+ [:.\d]+ UTC \[\d+\] /, "").trim())
    .filter((line) => line !== "" && !/^LOG: +(starting|listening|database system)/.test(line))
  return lines.slice(-3).join("; ") || "it said nothing"
}

/** The file in which a server says who it is and whether it is ready. */
const postmasterFile = "postmaster.pid"

const readPostmaster = Effect.fnUntraced(function* (data: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const lines = yield* fs.readFileString(path.join(data, postmasterFile)).pipe(
    Effect.map((text) => text.split("\n")),
    Effect.orElseSucceed((): ReadonlyArray<string> => [])
  )
  return { pid: Number(lines[0] ?? 0), ready: lines[7]?.trim() === "ready" }
})

/** Ends the server that a killed Kickoff left behind, and forgets one whose process id is somebody else's by now. */
const endOrphan = Effect.fn("EmbeddedPostgres.endOrphan")(function* (data: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const { pid } = yield* readPostmaster(data)
  // Whatever process id this one names, the server it belonged to is not there once we are through.
  const forgetSocket = fs.remove(path.join(data, `../.s.PGSQL.${socketPort}.lock`), { force: true })
  if (!(pid > 0)) return yield* forgetSocket
  if (!(yield* isServerOf(pid, data))) {
    // PostgreSQL refuses to start while any process has that id; with a free one it clears up itself.
    if (yield* isTaken(pid)) yield* fs.remove(path.join(data, postmasterFile))
    return yield* forgetSocket
  }
  yield* Effect.logInfo(`Stopping the embedded PostgreSQL (process ${pid}) that an earlier Kickoff left behind`)
  const gone = Effect.repeat(isServerOf(pid, data), {
    until: (there) => !there,
    schedule: Schedule.spaced("20 millis")
  })
  for (const signal of ["SIGINT", "SIGQUIT"] as const) {
    yield* Effect.ignore(Effect.try(() => process.kill(pid, signal)))
    if (Option.isSome(yield* Effect.timeoutOption(gone, "10 seconds"))) return yield* forgetSocket
  }
  return yield* new EmbeddedPostgresFailed({
    folder: data,
    detail: `the server of an earlier run (process ${pid}) does not end`
  })
})

/** Makes the database files beside, and moves them here when they are complete. */
const initialise = Effect.fn("EmbeddedPostgres.initialise")(function* (
  folder: string,
  home: string,
  binaries: Binaries,
  account: Option.Option<Account>
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const half = yield* Effect.acquireRelease(fs.makeTempDirectory({ directory: folder, prefix: halfPrefix }), (half) =>
    Effect.ignore(fs.remove(half, { recursive: true, force: true }))
  )
  const data = path.join(half, "data")
  const passwordFile = path.join(half, "password")
  yield* fs.makeDirectory(data, { mode: 0o700 })
  yield* fs.writeFileString(passwordFile, randomBytes(24).toString("hex"), { mode: 0o600 })
  if (Option.isSome(account)) {
    const { gid, uid } = account.value
    yield* Effect.forEach([half, data, passwordFile], (path) => fs.chown(path, uid, gid), { discard: true })
  }
  const initdb = yield* run({
    account,
    command: binaries.initdb,
    args: [
      `--pgdata=${dataFolder(data)}`,
      `--pwfile=${dataFolder(data)}/../password`,
      `--username=${name}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8"
    ],
    cwd: data,
    log: "../initdb.log"
  })
  const done = yield* Effect.exit(initdb.exitCode)
  if (done._tag === "Failure" || done.value !== 0) {
    const log = yield* fs.readFileString(path.join(half, "initdb.log")).pipe(Effect.orElseSucceed(() => ""))
    return yield* new EmbeddedPostgresFailed({ folder, detail: `initdb failed: ${complaints(log)}` })
  }
  return yield* fs.rename(half, home)
}, Effect.scoped)

const halfPrefix = "initdb-"
/** How the system ends such a name. */
const halfName = new RegExp(`^${halfPrefix}[0-9A-Za-z]{6}$`)

/** How often the folder of an `initdb` is removed again that outlived its start: it writes on until it misses a file. */
const removals = Schedule.max([Schedule.spaced("50 millis"), Schedule.recurs(100)])

/** All that there is in the folder of an `initdb`. */
const halfEntries = new Set(["data", "initdb.log", "password"])

/** What a start that was killed in the middle of `initdb` left. The folder may be somebody's, with the like of his own in it. */
const removeHalves = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const named = (yield* fs.readDirectory(folder)).filter((entry) => halfName.test(entry))
  const isOurs = (half: string) =>
    fs.readDirectory(half).pipe(
      Effect.map((entries) => entries.every((entry) => halfEntries.has(entry))),
      Effect.orElseSucceed(() => false)
    )
  const halves = yield* Effect.filter(
    named.map((entry) => path.join(folder, entry)),
    isOurs
  )
  const removeHalf = (half: string) => Effect.retry(fs.remove(half, { recursive: true, force: true }), removals)
  yield* Effect.forEach(halves, removeHalf, { discard: true })
})

/** A port that was free a moment ago. */
const freePort = Effect.callback<number>((resume) => {
  const server = Net.createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** Where the server listens: a socket in its folder, or, where that path is too long, a port of this machine. */
const chooseAddress = Effect.fnUntraced(function* (home: string) {
  if (Buffer.byteLength(`${home}/.s.PGSQL.${socketPort}`) <= longestSocketPath) {
    return {
      flags: { unix_socket_directories: "..", listen_addresses: "", port: socketPort },
      authority: `localhost:${socketPort}`,
      query: `?host=${encodeURIComponent(home)}`
    }
  }
  const port = yield* freePort
  return {
    flags: { unix_socket_directories: "", listen_addresses: "127.0.0.1", port },
    authority: `127.0.0.1:${port}`,
    query: ""
  }
})

/** Starts the server and returns it when it accepts connections; it ends with the scope. */
const start = Effect.fn("EmbeddedPostgres.start")(function* (data: string, program: Program) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  yield* endOrphan(data)
  const server = yield* run(program)
  const readLog = fs.readFileString(path.join(data, program.log)).pipe(Effect.orElseSucceed(() => ""))
  const failed = Effect.flatMap(readLog, (log) => new EmbeddedPostgresFailed({ folder: data, detail: complaints(log) }))
  const ready = Effect.repeat(readPostmaster(data), {
    until: (postmaster) => postmaster.ready && postmaster.pid === server.pid,
    schedule: Schedule.spaced("10 millis")
  })
  yield* Effect.raceFirst(ready, Effect.andThen(Effect.exit(server.exitCode), failed)).pipe(
    // Recovery after a crash may take a while.
    Effect.timeoutOrElse({ duration: "60 seconds", orElse: () => failed })
  )
  return server
})

/** Makes, starts and keeps the server of a folder until the scope closes, and returns the URL of its database. */
const make = Effect.fn("EmbeddedPostgres.make")(function* (dataDir: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* holdFolder(dataDir)
  const unusable = (error: PlatformError.PlatformError) => new DataFolderUnusable({ folder, detail: error.message })
  const home = path.join(folder, "postgres")
  const data = path.join(home, "data")
  const account = yield* serverAccount(home)
  const binaries = yield* findBinaries(account)

  const password = yield* Effect.gen(function* () {
    yield* removeHalves(folder)
    if (!(yield* fs.exists(home))) yield* initialise(folder, home, binaries, account)
    return yield* fs.readFileString(path.join(home, "password"))
  }).pipe(Effect.catchTag("PlatformError", (error) => Effect.fail(unusable(error))))
  const version = yield* fs.readFileString(path.join(data, "PG_VERSION")).pipe(Effect.mapError(unusable))
  if (version.trim() !== binaries.version) {
    return yield* new DataFolderUnusable({
      folder,
      detail:
        `its database was made by PostgreSQL ${version.trim()} and this is ${binaries.version}; ` +
        "move the folder away, or dump and restore with the old version"
    })
  }

  const address = yield* chooseAddress(home)
  const program: Program = {
    account,
    command: binaries.postgres,
    args: [
      "-D",
      dataFolder(data),
      ...Object.entries({ ...settings, ...address.flags }).flatMap(([setting, value]) => ["-c", `${setting}=${value}`])
    ],
    cwd: data,
    log: "../server.log"
  }
  const ready = yield* Deferred.make<void, EmbeddedPostgresError>()
  const keep = start(data, program).pipe(
    Effect.tap(Deferred.succeed(ready, undefined)),
    Effect.flatMap((server) => Effect.exit(server.exitCode)),
    Effect.andThen(Effect.logWarning("The embedded PostgreSQL ended; starting it again")),
    Effect.scoped,
    // A server that a killed start had just launched shows only now, in the pid file that it has written meanwhile.
    Effect.retry({ times: 2, schedule: Schedule.spaced("300 millis") }),
    Effect.catchTag("PlatformError", (error) => Effect.fail(unusable(error))),
    // The first start decides whether there is a database; later ones are tried until it is back.
    Effect.catch((error) =>
      Effect.flatMap(Deferred.fail(ready, error), (first) =>
        first ? Effect.never : Effect.logError(`The embedded PostgreSQL does not start again: ${error.message}`)
      )
    ),
    Effect.repeat(Schedule.spaced("1 second"))
  )
  yield* Effect.forkScoped(keep)
  yield* Deferred.await(ready)

  const urlOf = (database: string) =>
    Redacted.make(`postgres://${name}:${password}@${address.authority}/${database}${address.query}`, {
      label: "embedded PostgreSQL"
    })
  yield* ensureDatabase(urlOf("postgres"), name).pipe(
    Effect.mapError(
      (error: SqlError.SqlError) => new EmbeddedPostgresFailed({ folder, detail: describeSqlError(error) })
    )
  )
  return { url: urlOf(name), folder }
})

export class EmbeddedPostgres extends Context.Service<
  EmbeddedPostgres,
  {
    /** Of the database `kickoff`, as its superuser. */
    readonly url: Redacted.Redacted
    /** The data folder's absolute path. */
    readonly folder: string
  }
>()("kickoff/postgres/EmbeddedPostgres") {
  /** Runs the server of a data folder, `KICKOFF_DATA_DIR`, for as long as the layer lives. */
  static readonly layer = (dataDir: string): Layer.Layer<EmbeddedPostgres, EmbeddedPostgresError, Platform> =>
    Layer.effect(EmbeddedPostgres, make(dataDir))
}
