/**
 * `kickoff doctor`: looks for what keeps the service from working well, names it, and says what to do; exit 1 on trouble.
 *
 * It may run beside the service, whose environment it reads, and needs no right that the service does not have.
 */
import { Effect, Option, Schema } from "effect"
import { Command } from "effect/cli"
import { json, printJson } from "./json.ts"
import { paint, plain, print } from "./terminal.ts"

/** Something is wrong; the findings have been printed. */
export class TroubleFound extends Schema.TaggedError<TroubleFound>()("TroubleFound", { count: Schema.Int }) {
  override get message() {
    return this.count === 1 ? "one check found trouble" : `${this.count} checks found trouble`
  }
}

const marks = {
  ok: { colour: "green", text: "ok     " },
  warning: { colour: "yellow", text: "warning" },
  trouble: { colour: "red", text: "TROUBLE" }
} as const

export const doctor = Command.make(
  "doctor",
  { json },
  Effect.fnUntraced(function* ({ json }) {
    const { examine } = yield* Effect.promise(() => import("./doctorDesk.ts"))
    const findings = yield* examine
    const trouble = findings.filter(({ verdict }) => verdict === "trouble").length
    if (json) yield* printJson({ healthy: trouble === 0, findings })
    else {
      const painted = yield* paint
      for (const { check, cure, detail, verdict } of findings) {
        const { colour, text } = marks[verdict]
        yield* print(`${painted(colour, text)} ${check}: ${plain(detail)}`)
        yield* Option.match(Option.fromUndefinedOr(cure), {
          onNone: () => Effect.void,
          onSome: (cure) => print(`        ${cure}`)
        })
      }
    }
    if (trouble > 0) yield* new TroubleFound({ count: trouble })
  })
).pipe(Command.withDescription("Look for what keeps the service from working well; exit 1 on trouble"))
