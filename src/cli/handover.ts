/**
 * Finds the Node.js that this program was made for when it is started on one that is too old, and runs it there.
 *
 * It must itself run on the old one, so it uses nothing but Node's own modules. The new process dies with this one, even
 * if this one is killed: what a supervisor believes to be stopped must not go on.
 */
import { spawn } from "node:child_process"
import { existsSync, realpathSync } from "node:fs"
import { join } from "node:path"

/** The oldest Node.js that the program runs on. */
export const oldestNode = "22.19.0"

const handedOver = "KICKOFF_HANDED_OVER"

const signals = ["SIGTERM", "SIGINT", "SIGHUP"] as const

/** Whether a version like `20.11.1` is below {@link oldestNode}. */
export const isTooOld = (version: string): boolean => {
  const [major = 0, minor = 0] = version.split(".").map(Number)
  const [oldestMajor = 0, oldestMinor = 0] = oldestNode.split(".").map(Number)
  return major < oldestMajor || (major === oldestMajor && minor < oldestMinor)
}

/** The Node.js that `npm ci` installed beside the program, if it did and it is not the one that runs now. */
export const pinnedNode = (root: string): string | undefined => {
  const file = join(root, "node_modules", "node", "bin", process.platform === "win32" ? "node.exe" : "node")
  return existsSync(file) && realpathSync(file) !== realpathSync(process.execPath) ? file : undefined
}

/** Runs `program` on `node` in this process's place: same streams, signals passed on, same exit code. */
export const handOver = (node: string, program: string, args: ReadonlyArray<string>): void => {
  const child = spawn(node, [program, ...args], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, [handedOver]: "true" }
  })
  for (const signal of signals) process.on(signal, () => child.kill(signal))
  child.once("error", (error) => {
    process.stderr.write(`kickoff: ${node} could not be started: ${error.message}\n`)
    process.exit(2)
  })
  child.once("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    for (const name of signals) process.removeAllListeners(name)
    process.kill(process.pid, signal)
  })
}

/** Said at the start of every process: ends it at once when the one that handed over to it is gone. */
export const dieWithParent = (): void => {
  if (process.env[handedOver] === undefined) return
  delete process.env[handedOver]
  process.once("disconnect", () => process.kill(process.pid, "SIGKILL"))
  process.channel?.unref()
}
