/**
 * Adds keys to the file of a running service: a reader sees the list of before or the one with the key, never a part.
 *
 * The new list is written beside the old one, under a name that only one can take at a time, so that two who add at once
 * cannot undo each other's work.
 */
import { Effect, Schema } from "effect"
import { type FileHandle, open, readFile, realpath, rename, stat, unlink } from "node:fs/promises"
import { type ApiKey, readList, writeList } from "./apiKey.ts"

/** Nothing was added. */
export class KeyFileFailed extends Schema.TaggedError<KeyFileFailed>()("KeyFileFailed", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.file}: ${this.detail}`
  }
}

const codeOf = (error: unknown): unknown => (error instanceof Error && "code" in error ? error.code : undefined)

const unlessMissing = <A>(promise: Promise<A>, otherwise: A): Promise<A> =>
  promise.catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return otherwise
    throw error
  })

/** Adds a key to a file, which is made if it is not there, readable for its owner alone. */
export const addKey = (file: string, key: ApiKey): Effect.Effect<void, KeyFileFailed> => {
  const attempt = <A>(what: string, body: () => Promise<A>) =>
    Effect.tryPromise({
      try: body,
      catch: (error) =>
        new KeyFileFailed({ file, detail: `${what}: ${error instanceof Error ? error.message : String(error)}` })
    })
  return Effect.gen(function* () {
    // A link stays one.
    const target = yield* attempt("cannot be found", () => unlessMissing(realpath(file), file))
    const draft = `${target}.new`
    const take = Effect.tryPromise({
      try: () => open(draft, "wx", 0o600),
      catch: (error) =>
        new KeyFileFailed({
          file,
          detail:
            codeOf(error) === "EEXIST"
              ? `somebody else is adding a key at this moment, or was interrupted: then delete ${draft}`
              : `cannot be written: ${error instanceof Error ? error.message : String(error)}`
        })
    })
    let renamed = false
    yield* Effect.acquireUseRelease(
      take,
      (handle) =>
        Effect.gen(function* () {
          const text = yield* attempt("cannot be read", () => unlessMissing(readFile(target, "utf8"), "[]"))
          const added = yield* Effect.flatMap(readList(text), (keys) => {
            const list = writeList([...keys, key])
            return Effect.as(readList(list), list)
          }).pipe(Effect.mapError(({ detail }) => new KeyFileFailed({ file, detail })))
          yield* attempt("cannot be written", async () => {
            await keepOwner(target, handle)
            await handle.writeFile(added)
            await handle.sync()
            await rename(draft, target)
            renamed = true
          })
        }),
      (handle) =>
        // Once it is renamed, a draft of this name is somebody else's.
        attempt("cannot be cleaned up", async () => {
          await handle.close()
          if (!renamed) await unlessMissing(unlink(draft), undefined)
        })
    )
  })
}

/** The service may run under an account of its own, and the list be its. */
const keepOwner = async (target: string, handle: FileHandle): Promise<void> => {
  const before = await unlessMissing<{ readonly uid: number; readonly gid: number } | undefined>(
    stat(target),
    undefined
  )
  const now = await handle.stat()
  if (before !== undefined && (before.uid !== now.uid || before.gid !== now.gid)) {
    await handle.chown(before.uid, before.gid)
  }
}
