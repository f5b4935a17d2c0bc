/**
 * What a scenario is: a name, a line of help, and a run that ends in a report.
 *
 * One file in `scenarios/` is one scenario; `main.ts` lists them. A scenario prints nothing itself.
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

export interface Scenario {
  readonly name: string
  readonly summary: string
  readonly run: (
    options: Options
  ) => Effect.Effect<Report, BenchError | SqlError.SqlError, Servers | Progress | Scope.Scope>
}
