/** What a measurement was made on. */
import * as Os from "node:os"

export const describeMachine = () => ({
  cores: Os.availableParallelism(),
  processor: Os.cpus()[0]?.model.trim() ?? "unknown",
  "memory, GB": Math.round(Os.totalmem() / 1e9),
  system: `${Os.type()} ${Os.release()} ${Os.arch()}`,
  "load at start": Math.round((Os.loadavg()[0] ?? 0) * 100) / 100
})
