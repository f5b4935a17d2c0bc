/**
 * A copy of the project in which a protection is taken out. The modules are those of the project itself, by a link.
 *
 * It is built like the project, because some tests run the built process.
 */
import { Effect, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { applyChange, type Change } from "./Protection.ts"
import { ProofError } from "./ProofError.ts"

export const root = fileURLToPath(new URL("../..", import.meta.url))

/** What a copy does without, or makes anew. */
const left = new Set([".git", ".kickoff", ".test", "coverage", "dist", "node_modules"])

/** Runs a program in a folder to its end; whatever it started ends with the scope. */
export const run = Effect.fn("Copy.run")(function* (
  folder: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const child = yield* spawner.spawn(
    ChildProcess.make(process.execPath, args, {
      cwd: folder,
      env,
      extendEnv: true,
      stdin: "ignore",
      killSignal: "SIGKILL"
    })
  )
  const output = yield* Stream.mkString(Stream.decodeText(child.all))
  return { code: yield* child.exitCode, output }
}, Effect.scoped)

/** Copies a folder with these changes; the copy lives as long as the scope. Returns its folder. */
export const makeCopy = (
  from: string,
  changes: ReadonlyArray<Change>
): Effect.Effect<string, ProofError, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner> =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const folder = mkdtempSync(join(tmpdir(), "kickoff-protections-"))
        cpSync(from, folder, { recursive: true, filter: (path) => !left.has(basename(path)) })
        symlinkSync(join(root, "node_modules"), join(folder, "node_modules"))
        return folder
      }),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
    )
    for (const change of changes) {
      const file = join(folder, change.file)
      const changed = applyChange(readFileSync(file, "utf8"), change)
      if (typeof changed !== "string") return yield* new ProofError({ detail: changed.objection })
      writeFileSync(file, changed)
    }
    const built = yield* run(folder, ["scripts/build.ts"]).pipe(
      Effect.mapError((error) => new ProofError({ detail: error.message }))
    )
    if (built.code !== 0) return yield* new ProofError({ detail: `it cannot be built: ${built.output}` })
    return folder
  })
