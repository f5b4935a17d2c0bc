/**
 * What a process uses, as Linux counts it; elsewhere nothing is known.
 *
 * Wake-ups are the times that one of its threads gave up the processor by itself and was given it again.
 */
import { Effect, Option } from "effect"
import { readdirSync, readFileSync } from "node:fs"

export interface Usage {
  /** MB. */
  readonly resident: number
  /** The most that was resident since the start, MB. */
  readonly peak: number
  /** Seconds of processor time. */
  readonly cpu: number
  readonly wakeUps: number
}

/** The kernel counts processor time in hundredths of a second on every platform that Node.js runs on. */
const ticksPerSecond = 100

const field = (text: string, name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1])

export const readUsage = (pid: number): Effect.Effect<Option.Option<Usage>> =>
  Effect.sync(() => {
    if (process.platform !== "linux") return Option.none()
    const status = readFileSync(`/proc/${pid}/status`, "utf8")
    // The name in parentheses may contain spaces; the fields after it do not.
    const [, , , , , , , , , , , user = 0, system = 0] = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")
      .map(Number)
    return Option.some({
      resident: field(status, "VmRSS") / 1024,
      peak: field(status, "VmHWM") / 1024,
      cpu: (user + system) / ticksPerSecond,
      wakeUps: readdirSync(`/proc/${pid}/task`)
        .map((task) => field(readFileSync(`/proc/${pid}/task/${task}/status`, "utf8"), "voluntary_ctxt_switches"))
        .reduce((a, b) => a + b)
    })
  })
