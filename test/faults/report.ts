/** The report of a run as Markdown: a line per fault, the deadlines, and what else a reader needs to judge it. */
import { quantile } from "../../bench/statistics.ts"
import type { Timed } from "./Fault.ts"

/** What one injection came to. */
export interface Round {
  readonly name: string
  readonly summary: string
  readonly transitions: number
  readonly events: number
  readonly lost: number
  readonly twice: number
  readonly early: number
  readonly stale: number
  /** Of `verify`, and dead letters that nobody expects. */
  readonly objections: number
  /** Milliseconds, as the next. */
  readonly recovery: number
  readonly lateness: number
  readonly timed: ReadonlyArray<Timed>
}

const counts = ["transitions", "events", "lost", "twice", "early", "stale", "objections"] as const

const seconds = (millis: number): string => `${(millis / 1000).toFixed(2)} s`

const table = (
  head: ReadonlyArray<string>,
  lines: ReadonlyArray<ReadonlyArray<string | number>>
): ReadonlyArray<string> =>
  [head, head.map((_, column) => (column === 0 ? "---" : "---:")), ...lines].map((cells) => `| ${cells.join(" | ")} |`)

const groupBy = <A>(items: ReadonlyArray<A>, key: (item: A) => string) => [...Map.groupBy(items, key)]

const faultTable = (rounds: ReadonlyArray<Round>) => {
  const line = (name: string, of: ReadonlyArray<Round>) => [
    name,
    of.length,
    ...counts.map((field) => of.reduce((total, round) => total + round[field], 0)),
    seconds(
      quantile(
        of.map(({ recovery }) => recovery),
        0.5
      )
    ),
    seconds(Math.max(...of.map(({ recovery }) => recovery))),
    seconds(Math.max(...of.map(({ lateness }) => lateness)))
  ]
  return table(
    "fault,injected,due meanwhile,events,lost,twice,early,stale,verify,recovery p50,max,most late".split(","),
    [
      ...groupBy(rounds, ({ name, summary }) => `\`${name}\`: ${summary}`).map(([name, of]) => line(name, of)),
      line("all", rounds)
    ]
  )
}

const deadlineTable = (timed: ReadonlyArray<Timed>) =>
  table(
    ["deadline", "measured", "p50", "max", "at most"],
    groupBy(timed, ({ what }) => what).map(([what, of]) => [
      what,
      of.length,
      seconds(
        quantile(
          of.map(({ took }) => took),
          0.5
        )
      ),
      seconds(Math.max(...of.map(({ took }) => took))),
      seconds(of[0]?.deadline ?? 0)
    ])
  )

export const report = (options: {
  readonly facts: Readonly<Record<string, string | number>>
  readonly rounds: ReadonlyArray<Round>
  /** Sentences about the run as a whole. */
  readonly totals: ReadonlyArray<string>
}): string => {
  const timed = options.rounds.flatMap(({ timed }) => timed)
  return [
    Object.entries(options.facts)
      .map(([name, value]) => `${name} ${value}`)
      .join(" · "),
    "",
    ...faultTable(options.rounds),
    "",
    ...(timed.length === 0 ? [] : [...deadlineTable(timed), ""]),
    ...options.totals,
    ""
  ].join("\n")
}
