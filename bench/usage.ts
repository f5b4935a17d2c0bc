/**
 * What processes use, as Linux counts it; elsewhere nothing is known.
 *
 * Wake-ups are the times that one of a process's threads gave up the processor by itself and was given it again.
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

/** Processor time of a process, and of those of its children that have ended, in seconds. */
const readCpu = (pid: number): { readonly own: number; readonly ended: number } => {
  // The name in parentheses may contain spaces; the fields after it do not.
  const [, , , , , , , , , , , user = 0, system = 0, childrenUser = 0, childrenSystem = 0] = readFileSync(
    `/proc/${pid}/stat`,
    "utf8"
  )
    .replace(/^.*\) /s, "")
    .split(" ")
    .map(Number)
  return { own: (user + system) / ticksPerSecond, ended: (childrenUser + childrenSystem) / ticksPerSecond }
}

/** Processor time of a process with all that it has started, in seconds. */
const readCpuOfFamily = (pid: number): number => {
  const { ended, own } = readCpu(pid)
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim()
  // One that ends at this moment is counted with those that have ended, the next time.
  const ofChild = Option.liftThrowable((child: string) => readCpuOfFamily(Number(child)))
  return children
    .split(" ")
    .flatMap((child) => Option.toArray(ofChild(child)))
    .reduce((a, b) => a + b, own + ended)
}

/** Seconds of processor time that these processes have used, each with all that it has started; NaN where nobody knows. */
export const readFamilies = (pids: ReadonlyArray<number>): Effect.Effect<number> =>
  Effect.sync(() =>
    Option.getOrElse(
      Option.liftThrowable(() => pids.reduce((sum, pid) => sum + readCpuOfFamily(pid), 0))(),
      () => Number.NaN
    )
  )

/** Whether a process is there under this number, and its program is called like this. */
export const isProgram = (pid: number, name: string): boolean =>
  Option.exists(Option.liftThrowable(() => readFileSync(`/proc/${pid}/comm`, "utf8"))(), (program) =>
    program.includes(name)
  )

export const readUsage = (pid: number): Effect.Effect<Option.Option<Usage>> =>
  Effect.sync(() => {
    if (process.platform !== "linux") return Option.none()
    const status = readFileSync(`/proc/${pid}/status`, "utf8")
    return Option.some({
      resident: field(status, "VmRSS") / 1024,
      peak: field(status, "VmHWM") / 1024,
      cpu: readCpu(pid).own,
      wakeUps: readdirSync(`/proc/${pid}/task`)
        .map((task) => field(readFileSync(`/proc/${pid}/task/${task}/status`, "utf8"), "voluntary_ctxt_switches"))
        .reduce((a, b) => a + b)
    })
  })
