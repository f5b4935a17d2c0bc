/** Runs a program to its end, for set-up code: answers its standard output, rejects with what it said. */
import { execFile } from "node:child_process"

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly uid?: number
  readonly gid?: number
}

export const run = (program: string, args: ReadonlyArray<string>, options: RunOptions = {}): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(program, args, { timeout: 300_000, maxBuffer: 64 * 1024 * 1024, ...options }, (error, stdout, stderr) =>
      error === null
        ? resolve(stdout)
        : reject(new Error(`${program} ${args.join(" ")}: ${stderr || stdout || error.message}`, { cause: error }))
    )
  })
