/**
 * What a scenario is: a name, a line of help, and parts that are run one after the other.
 *
 * One file in `scenarios/` is one scenario; `main.ts` lists them. A scenario prints nothing itself. A part that fails does not
 * take along what the others have found.
 */
import type { Effect, Scope } from "effect"
import type { SqlError } from "effect/sql"
import type { BenchError } from "./BenchError.ts"
import type { Progress } from "./Progress.ts"
import type { Servers } from "./Servers.ts"
import type { Figures } from "./targets.ts"

export interface Options {
  /** How often each side is measured, in turn; the figures are medians over the rounds. */
  readonly rounds: number
  /** How many games are due at one instant in a burst; what each comparison has as its own unless given. */
  readonly games: number | undefined
  /** Folder for the CPU profile of the service. */
  readonly profile: string | undefined
  /** What the name of a part contains that is to be run; all parts unless given. */
  readonly only: string | undefined
}

export interface Row {
  readonly name: string
  /** One per column; null where a column says nothing of this row. */
  readonly cells: ReadonlyArray<number | null>
}

export interface Table {
  readonly title: string
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Row>
}

export interface Report {
  /** What was run, for who compares two reports. */
  readonly settings: Readonly<Record<string, string | number>>
  readonly tables: ReadonlyArray<Table>
  /** What a reader must know to trust the figures. */
  readonly notes: ReadonlyArray<string>
  /** What is held against the targets. */
  readonly figures: Figures
  /** What must not be: an early game, an event twice, an API error. The run ends with exit code 1. */
  readonly violations: ReadonlyArray<string>
}

/** What is measured together. */
export interface Part<R = Servers> {
  /** For people, when it fails. */
  readonly name: string
  /** Measures, in a scope of its own, and answers what it adds to the report. */
  readonly run: Effect.Effect<Partial<Report>, BenchError | SqlError.SqlError, R | Progress | Scope.Scope>
}

export interface Scenario<R = Servers> {
  readonly name: string
  readonly summary: string
  /** Starts what several parts share, in a scope that is closed after the last of them. */
  readonly prepare: (
    options: Options
  ) => Effect.Effect<ReadonlyArray<Part<R>>, BenchError | SqlError.SqlError, R | Progress | Scope.Scope>
}

export const emptyReport: Report = { settings: {}, tables: [], notes: [], figures: {}, violations: [] }

/** A report with what a part adds to it. */
export const withPart = (report: Report, part: Partial<Report>): Report => ({
  settings: { ...report.settings, ...part.settings },
  tables: [...report.tables, ...(part.tables ?? [])],
  notes: [...report.notes, ...(part.notes ?? [])],
  figures: { ...report.figures, ...part.figures },
  violations: [...report.violations, ...(part.violations ?? [])]
})
