/** The report of a run as a Markdown table, one line per fault. */
import type { Fault } from "./faults.ts"

/** What one injection of a fault came to. */
export interface Round {
  readonly fault: string
  readonly transitions: number
  readonly events: number
  readonly checked: number
  readonly lost: number
  readonly twice: number
  readonly early: number
  readonly stale: number
  readonly objections: number
  /** Milliseconds, as the next. */
  readonly recovery: number
  readonly lateness: number
}

const seconds = (millis: number): string => `${(millis / 1000).toFixed(2)} s`

const middle = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.ceil(values.length / 2) - 1] ?? 0

export const table = (faults: ReadonlyArray<Fault>, rounds: ReadonlyArray<Round>): string => {
  const sum = (of: ReadonlyArray<Round>, field: "transitions" | "events" | "lost" | "twice" | "early" | "stale") =>
    of.reduce((total, round) => total + round[field], 0)
  const line = (name: string, of: ReadonlyArray<Round>) => [
    name,
    of.length,
    sum(of, "transitions"),
    sum(of, "events"),
    sum(of, "lost"),
    sum(of, "twice"),
    sum(of, "early"),
    sum(of, "stale"),
    of.reduce((total, { objections }) => total + objections, 0),
    seconds(middle(of.map(({ recovery }) => recovery))),
    seconds(Math.max(...of.map(({ recovery }) => recovery))),
    seconds(Math.max(...of.map(({ lateness }) => lateness)))
  ]
  const injected = faults.flatMap(({ name, summary }) => {
    const of = rounds.filter(({ fault }) => fault === name)
    return of.length === 0 ? [] : [line(`${name}: ${summary}`, of)]
  })
  const head = [
    "fault",
    "injected",
    "due meanwhile",
    "events",
    "lost",
    "twice",
    "early",
    "stale",
    "verify",
    "recovery p50",
    "max",
    "most late"
  ]
  return [head, head.map((_, column) => (column === 0 ? "---" : "---:")), ...injected, line("all", rounds)]
    .map((cells) => `| ${cells.join(" | ")} |`)
    .join("\n")
}
