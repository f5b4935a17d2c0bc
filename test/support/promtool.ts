/** Prometheus' own judge of metrics, rules and their tests: the `promtool` on PATH, or Debian's. */
import { spawn } from "node:child_process"
import { aptInstall } from "./apt.ts"

const howToGetOne =
  "The tests need promtool, which comes with Prometheus: apt-get install prometheus, brew install prometheus, " +
  "or its release for this system on PATH."

export interface Verdict {
  readonly code: number | null
  /** What it wrote, to either stream. */
  readonly output: string
}

/** Runs it with arguments, what it reads from its standard input, and the folder in which it finds files. */
export const promtool = async (
  args: ReadonlyArray<string>,
  options: { readonly input?: string; readonly cwd?: string } = {}
): Promise<Verdict> => {
  await (available ??= ensureAvailable())
  return run(args, options)
}

let available: Promise<void> | undefined

const ensureAvailable = async (): Promise<void> => {
  if (!(await isThere())) await aptInstall(["prometheus"], howToGetOne)
}

const isThere = () =>
  run(["--version"], {}).then(
    ({ code }) => code === 0,
    () => false
  )

const run = (
  args: ReadonlyArray<string>,
  { cwd, input = "" }: { readonly input?: string; readonly cwd?: string }
): Promise<Verdict> =>
  new Promise((resolve, reject) => {
    const child = spawn("promtool", args, { cwd })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString()
      })
    }
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, output }))
    // It may end without reading all of it, and says why itself.
    child.stdin.on("error", () => {})
    child.stdin.end(input)
  })
