/** `kickoff verify`: holds the record of a window of time against the promises; exit 1 if anything contradicts them. */
import { DateTime, Effect, Schema } from "effect"
import { Command } from "effect/cli"
import { counted } from "../domain/counted.ts"
import type { Findings } from "../ledger/LedgerRepository.ts"
import { readDuration, since } from "./durations.ts"
import { json, printJson } from "./json.ts"
import { print } from "./terminal.ts"

/** A promise was not kept; the report has been printed. */
export class PromiseBroken extends Schema.TaggedError<PromiseBroken>()("PromiseBroken", { count: Schema.Int }) {
  override get message() {
    return `${counted(this.count, "finding contradicts", "findings contradict")} the promises`
  }
}

/** Why there is no verdict on a database in shadow. */
const notOurs =
  'what is due and not done is the other system\'s, so there is nothing to verify; "kickoff shadow report" compares the two'

const printExamples = Effect.fnUntraced(function* ({ count, examples }: Findings) {
  for (const { detail, game_id } of examples) yield* print(`     game ${game_id ?? "-"}: ${detail}`)
  const hidden = count - examples.length
  if (hidden > 0) yield* print(`     and ${hidden} more`)
})

export const verify = Command.make(
  "verify",
  { since, json },
  Effect.fnUntraced(function* ({ json, since }) {
    const reach = yield* readDuration("--since", since)
    const { isClean, LedgerRepository, verify, withLiveDatabase } = yield* Effect.promise(() => import("./desk.ts"))
    const now = yield* DateTime.now
    const window = { from: DateTime.subtractDuration(now, reach), to: DateTime.addDuration(now, "1 minute") }
    const showProgress = process.stderr.isTTY
    const report = yield* withLiveDatabase(notOurs)(
      verify(window, (name) =>
        Effect.sync(() => {
          if (showProgress) process.stderr.write(`\r\u001B[Kchecking: ${name}`)
        })
      ).pipe(Effect.provide(LedgerRepository.layer))
    )
    if (showProgress) process.stderr.write("\r\u001B[K")

    if (json) {
      yield* printJson({
        from: DateTime.formatIso(report.window.from),
        to: DateTime.formatIso(report.window.to),
        effects: report.effects,
        clean: isClean(report),
        checks: report.checks,
        undecided: report.undecided,
        given_up: report.givenUp,
        paused: report.paused
      })
    } else {
      yield* print(`${counted(report.effects, "row")} took effect since ${DateTime.formatIso(report.window.from)}`)
      for (const check of report.checks) {
        yield* print(
          `${check.count === 0 ? "ok  " : "FAIL"} ${check.promise}${check.count === 0 ? "" : `: ${check.count} not`}`
        )
        yield* printExamples(check)
      }
      yield* print(`undecided: ${report.undecided.count}, open dead letters`)
      yield* printExamples(report.undecided)
      yield* print(`given up: ${report.givenUp.count}, discarded dead letters of what was not done`)
      yield* printExamples(report.givenUp)
      yield* print(`paused: ${report.paused.count}, due and waiting because their kind is paused`)
      yield* printExamples(report.paused)
    }
    const count = report.checks.reduce((sum, check) => sum + check.count, 0)
    if (count > 0) yield* new PromiseBroken({ count })
  })
).pipe(Command.withDescription("Prove from the record that everything due happened once, on time, and was told"))
