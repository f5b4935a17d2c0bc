/**
 * Runs named tests in a copy of the project and says of each how it ended. Only a test that ran and failed by an assertion
 * or its timeout has noticed anything: one that was not found, or broke because the program makes no sense, has not.
 */
import { Duration, Effect, Option } from "effect"
import { readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { run } from "./Copy.ts"
import { ProofError } from "./ProofError.ts"
import type { Tests } from "./Protection.ts"

export interface Verdict {
  readonly file: string
  readonly test: string
  readonly outcome: "passed" | "failed" | "broken" | "absent"
  /** What it said, on one line. */
  readonly said: string
}

/** The part of vitest's JSON report that is of interest. */
interface Report {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{
      readonly ancestorTitles: ReadonlyArray<string>
      readonly title: string
      readonly status: string
      readonly failureMessages: ReadonlyArray<string>
    }>
  }>
}

/** Longest run of the tests of one protection. */
const patience = Duration.minutes(6)

const pathOf = (test: string): ReadonlyArray<string> => test.split(" > ")

const endsWith = (path: ReadonlyArray<string>, end: ReadonlyArray<string>): boolean =>
  end.every((part, index) => path[path.length - end.length + index] === part)

const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")

/** The whole of the names, so that a test is not chosen by a part of its title. */
const patternOf = (tests: Tests): string => {
  const names = Object.values(tests).flatMap((titles) =>
    titles.map((title) =>
      pathOf(title)
        .map((part) => escape(part))
        .join(".+")
    )
  )
  return `(?:${[...new Set(names)].join("|")})$`
}

/** The mark of a program that makes no sense, as after a change that did not fit. */
const nonsense =
  /\b(?:ReferenceError|SyntaxError|is not a function|is not a constructor|Cannot find (?:module|package))\b/

/** Runs the tests in a copy, on servers that run already. */
export const judge = Effect.fn("verdict.judge")(function* (
  folder: string,
  tests: Tests,
  servers: Readonly<Record<string, string>>,
  options: { readonly workers: number; readonly patience?: Duration.Duration }
) {
  const report = join(folder, "report.json")
  const ended = yield* run(
    folder,
    [
      "node_modules/vitest/vitest.mjs",
      "run",
      ...Object.keys(tests),
      "--testNamePattern",
      patternOf(tests),
      "--reporter=json",
      `--outputFile=${report}`,
      "--no-cache",
      `--maxWorkers=${options.workers}`
    ],
    servers
  ).pipe(
    Effect.mapError((error) => new ProofError({ detail: error.message })),
    Effect.timeoutOption(options.patience ?? patience)
  )
  if (Option.isNone(ended)) {
    return yield* new ProofError({
      detail: `its tests did not end within ${Duration.format(options.patience ?? patience)}`
    })
  }
  const read = yield* Effect.try({
    // The report is vitest's own.
    try: () => JSON.parse(readFileSync(report, "utf8")) as Report,
    catch: () => new ProofError({ detail: `the tests could not be run: ${ended.value.output}` })
  })
  rmSync(report)
  return Object.entries(tests).flatMap(([file, titles]) => titles.flatMap((title) => find(read, folder, file, title)))
})

const find = (report: Report, folder: string, file: string, test: string): ReadonlyArray<Verdict> => {
  const suite = report.testResults.find(({ name }) => name === join(folder, file))
  const found = (suite?.assertionResults ?? []).filter((result) =>
    endsWith([...result.ancestorTitles, result.title], pathOf(test))
  )
  if (found.length === 0) {
    return [{ file, test, outcome: "absent", said: `there is no such test; ${oneLine(suite?.message ?? "")}` }]
  }
  return found.map(({ ancestorTitles, failureMessages, status, title }) => {
    const said = failureMessages.join("\n")
    const outcome =
      status === "passed" ? "passed" : status !== "failed" ? "absent" : nonsense.test(said) ? "broken" : "failed"
    return {
      file,
      test: found.length === 1 ? test : [...ancestorTitles, title].join(" > "),
      outcome,
      said: oneLine(said === "" ? (suite?.message ?? "") : said)
    }
  })
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, " ").trim().slice(0, 160)
