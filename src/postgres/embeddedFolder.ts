/**
 * The folder of the embedded database belongs to one Kickoff at a time.
 *
 * The lock is an SQLite file held in an exclusive transaction: the operating system drops it with the process, however
 * that ends, so neither `kill -9` nor a process id that is used again leaves a stale one. It holds no data.
 */
import { Effect, FileSystem, Path, type PlatformError, Schema } from "effect"

/** Another process works in the folder. */
export class DataFolderInUse extends Schema.TaggedError<DataFolderInUse>()("DataFolderInUse", {
  folder: Schema.String,
  holder: Schema.String
}) {
  override get message() {
    return `KICKOFF_DATA_DIR: another Kickoff (process ${this.holder}) is using ${this.folder}`
  }
}

/** The folder, or what is in it, cannot be used. */
export class DataFolderUnusable extends Schema.TaggedError<DataFolderUnusable>()("DataFolderUnusable", {
  folder: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `KICKOFF_DATA_DIR: ${this.folder} cannot be used: ${this.detail}`
  }
}

const isBusy = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "errcode" in error && error.errcode === 5

/**
 * Makes a folder and those above it. Step by step, because Node.js never comes back from making `/proc/x` with
 * `recursive`.
 */
const makeFolder: (
  folder: string
) => Effect.Effect<void, PlatformError.PlatformError, FileSystem.FileSystem | Path.Path> = Effect.fnUntraced(
  function* (folder) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const make = fs
      .makeDirectory(folder)
      .pipe(
        Effect.catchReason("PlatformError", "AlreadyExists", (_reason, error) =>
          Effect.flatMap(fs.stat(folder), ({ type }) => (type === "Directory" ? Effect.void : Effect.fail(error)))
        )
      )
    yield* make.pipe(
      Effect.catchReason("PlatformError", "NotFound", () => Effect.andThen(makeFolder(path.dirname(folder)), make))
    )
  }
)

/** Makes the folder if need be, holds it for as long as the scope lives, and returns its absolute path. */
export const holdFolder = Effect.fn("EmbeddedPostgres.holdFolder")(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const unusable = (error: Error) =>
    new DataFolderUnusable({
      folder: path.resolve(folder),
      // The system's own words say more than what is made of them.
      detail: `${error.cause instanceof Error ? error.cause.message : error.message}; start as the account that owns it, or name another folder`
    })
  const absolute = yield* makeFolder(path.resolve(folder)).pipe(
    Effect.andThen(fs.realPath(folder)),
    Effect.mapError(unusable)
  )
  const holderFile = path.join(absolute, "kickoff.pid")
  // A Node that is too old has no such module, and must get as far as saying that it is too old.
  const { DatabaseSync } = yield* Effect.promise(() => import("node:sqlite"))
  yield* Effect.acquireRelease(
    Effect.try({
      try: () => {
        const lock = new DatabaseSync(path.join(absolute, "lock"))
        lock.exec("BEGIN EXCLUSIVE")
        return lock
      },
      catch: (error) => (isBusy(error) ? ("busy" as const) : unusable(new Error(String(error))))
    }).pipe(
      Effect.catchIf(
        (error) => error === "busy",
        () =>
          fs.readFileString(holderFile).pipe(
            Effect.orElseSucceed(() => "unknown"),
            Effect.flatMap((holder) => new DataFolderInUse({ folder: absolute, holder: holder.trim() || "unknown" }))
          )
      )
    ),
    (lock) => Effect.sync(() => lock.close())
  )
  yield* fs.writeFileString(holderFile, `${process.pid}\n`).pipe(Effect.mapError(unusable))
  return absolute
})
