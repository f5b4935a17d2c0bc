/**
 * Holds the record against the promises: did everything that was due happen once, not early, and was it told?
 *
 * It reads the tables and the ledger alone, so it can run beside the service, and afterwards. A window that reaches back
 * further than `KICKOFF_RETENTION` finds effects that are no longer on record.
 */
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import { type Findings, LedgerRepository, type Window } from "./LedgerRepository.ts"

export interface CheckResult extends Findings {
  readonly name: string
  readonly promise: string
}

export interface Report {
  readonly window: Window
  /** How many schedule rows took effect in the window. */
  readonly effects: number
  readonly checks: ReadonlyArray<CheckResult>
  /** What waits for somebody's decision: open dead letters. They contradict nothing. */
  readonly undecided: Findings
  /** What will not be done because somebody decided so: discarded dead letters. They contradict nothing. */
  readonly givenUp: Findings
  /** What is due and waits because somebody has paused its kind. It contradicts nothing. */
  readonly paused: Findings
}

/** Whether nothing contradicts a promise. */
export const isClean = (report: Report): boolean => report.checks.every((check) => check.count === 0)

/** Runs all checks, one after the other; `onCheck` hears of each before it begins. */
export const verify = Effect.fn("Verification.verify")(function* (
  window: Window,
  onCheck: (name: string) => Effect.Effect<void> = () => Effect.void
): Effect.fn.Return<Report, SqlError.SqlError, LedgerRepository> {
  const ledger = yield* LedgerRepository
  const checks = [
    { name: "repeated", promise: "each due row took effect at most once", find: ledger.findRepeated },
    { name: "early", promise: "none took effect before its time", find: ledger.findEarly },
    { name: "overdue", promise: "nothing that is due is left undone", find: ledger.findOverdue },
    { name: "unrecorded", promise: "what is done is on record", find: ledger.findUnrecorded },
    { name: "untold", promise: "each effect has its event, confirmed or waiting", find: ledger.findUntold },
    { name: "unplanned", promise: "every game has the rows that its status asks for", find: ledger.findUnplanned },
    { name: "orphans", promise: "parked rows and dead letters belong together", find: ledger.findOrphans }
  ]
  return {
    window,
    effects: yield* ledger.countEffects(window),
    checks: yield* Effect.forEach(checks, ({ find, name, promise }) =>
      Effect.map(Effect.andThen(onCheck(name), find(window)), (findings) => ({ name, promise, ...findings }))
    ),
    undecided: yield* ledger.findUndecided(window),
    givenUp: yield* ledger.findGivenUp(window),
    paused: yield* ledger.findPaused(window)
  }
})
