/** Programs on a terminal, as `script` makes one: what they print there is what a person would see. */
import { spawn } from "node:child_process"
import { startProcess, toItsEnd } from "./service.ts"

/** The environment without what is said of colours here. */
const surroundings = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(NO_COLOR|FORCE_COLOR|NODE_DISABLE_COLORS|COLORTERM)$/.test(name))
)

const quoted = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`

/** Runs a program on a terminal to its end; standard output and standard error are the same there. */
export const runOnTerminal = (words: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  toItsEnd(
    startProcess(() =>
      spawn(
        "script",
        process.platform === "darwin"
          ? ["-q", "/dev/null", ...words]
          : ["--quiet", "--return", "--command", words.map(quoted).join(" "), "/dev/null"],
        { env: { ...surroundings, TERM: "xterm-256color", ...env } }
      )
    )
  )
