/**
 * `kickoff shadow`: begins and ends a time in which another system does the work, and compares the two.
 *
 * `report` exits with 0 only if Kickoff would have missed nothing and been late with nothing, and there was something to
 * compare.
 */
import { DateTime, Effect, Option, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { counted } from "../domain/counted.ts"
import { formatMillis as time, InstantFromString } from "../domain/Instant.ts"
import type { Comparison, Example, Line } from "../shadow/ShadowReportRepository.ts"
import { readDuration, since } from "./durations.ts"
import { json, printJson } from "./json.ts"
import { plain, print, toTable } from "./terminal.ts"

/** Kickoff would have done worse than it must; the report has been printed. */
export class FellShort extends Schema.TaggedError<FellShort>()("FellShort", {
  missed: Schema.Int,
  late: Schema.Int
}) {
  override get message() {
    return `Kickoff would have missed ${this.missed} and been late with ${this.late}`
  }
}

/** There is no verdict, because there was nothing to do. */
export class NothingCompared extends Schema.TaggedError<NothingCompared>()("NothingCompared", {}) {
  override get message() {
    return "nothing was due in the window, so nothing is proved"
  }
}

/** The command is about a shadow, and there is none. */
export class NotInShadow extends Schema.TaggedError<NotInShadow>()("NotInShadow", {}) {
  override get message() {
    return 'the database is not in shadow; "kickoff shadow begin" begins it'
  }
}

const desk = Effect.promise(() => import("./shadowDesk.ts"))

/** What a database that is not in shadow cannot give. */
const required = <A, E, R>(found: Effect.Effect<Option.Option<A>, E, R>): Effect.Effect<A, E | NotInShadow, R> =>
  Effect.flatMap(found, Option.match({ onNone: () => Effect.fail(new NotInShadow()), onSome: Effect.succeed }))

/** `3 ms`, `58.2 s`, `2.5 h`; a minus is before the time. */
const lateness = (millis: number | null): string => {
  if (millis === null) return "-"
  const size = Math.abs(millis)
  if (size < 1000) return `${Math.round(millis)} ms`
  if (size < 120_000) return `${(millis / 1000).toFixed(1)} s`
  return size < 7_200_000 ? `${(millis / 60_000).toFixed(1)} min` : `${(millis / 3_600_000).toFixed(1)} h`
}

const names: Readonly<Record<string, string>> = {
  IN_PROGRESS: "start",
  COMPLETED: "completion",
  reminder: "reminder"
}

const headings = ["", "", "ON TIME", "EARLY", "LATE", "MISSED", "P50", "P95", "MAX"]

const toRows = ({ due, kickoff, other_system, target, ...line }: Line): ReadonlyArray<ReadonlyArray<string>> => {
  const row = (
    who: string,
    { early, late, max_ms, missed, p50_ms, p95_ms }: Line["kickoff"] & { readonly early: number },
    others: number
  ) => [
    who,
    ...[due - others - early - late - missed, early, late, missed].map(String),
    ...[p50_ms, p95_ms, max_ms].map(lateness)
  ]
  return [
    [
      counted(due, names[target] ?? target),
      ...row("other system", other_system, line.overtaken + line.open + line.unseen)
    ],
    ["", ...row("Kickoff", { ...kickoff, early: 0 }, 0)]
  ]
}

const notes = ({ by_hand, needless, open, overtaken, target, unseen }: Line): ReadonlyArray<string> => {
  const name = names[target] ?? target
  const note = (count: number, one: string, many: string) =>
    count === 0 ? [] : [`${counted(count, name)} ${count === 1 ? one : many}`]
  const noTrace = "cannot be compared: the other system leaves no trace of reminders in notification_schedule.sent"
  return [
    ...note(
      overtaken,
      "was cancelled, moved or deleted before the other system got to it",
      "were cancelled, moved or deleted before the other system got to them"
    ),
    ...note(open, "is not done by the other system yet", "are not done by the other system yet"),
    ...note(unseen, noTrace, noTrace),
    ...note(
      needless,
      "was not to be done any more when its time came",
      "were not to be done any more when their time came"
    ),
    ...note(by_hand, "was done long before its time, so by hand", "were done long before their time, so by hand")
  ]
}

const toLine = ({
  changed_by,
  due_at,
  game_id,
  kickoff_ms,
  missed_because,
  other_system_ms,
  target
}: Example): string => {
  const theirs =
    other_system_ms === null
      ? "the other system missed it"
      : `the other system ${lateness(other_system_ms)} after its time (${changed_by === null ? "-" : plain(changed_by)})`
  const ours =
    missed_because === null ? `Kickoff ${lateness(kickoff_ms)}` : `Kickoff would have missed it: ${missed_because}`
  return `  game ${game_id}, ${target} at ${time(due_at)}: ${theirs}; ${plain(ours)}`
}

const printComparison = Effect.fnUntraced(function* ({ examples, lines, window }: Comparison) {
  yield* print(`In shadow since ${time(window.since)}; what was due from ${time(window.from)} to ${time(window.to)}:`)
  if (lines.length > 0) yield* print(toTable([headings, ...lines.flatMap(toRows)]))
  for (const note of lines.flatMap(notes)) yield* print(note)
  if (examples.length > 0) yield* print(["Worst:", ...examples.map(toLine)].join("\n"))
})

const report = Command.make(
  "report",
  {
    since,
    tolerance: Flag.String("tolerance").pipe(
      Flag.withDescription('Up to how much later than its time something is on time, like "500 millis"'),
      Flag.withDefault("1 second")
    ),
    missedAfter: Flag.String("missed-after").pipe(
      Flag.withDescription("When what the other system has not done counts as missed"),
      Flag.withDefault("5 minutes")
    ),
    examples: Flag.Int("examples").pipe(
      Flag.withSchema(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: 1000 })))),
      Flag.withDescription("How many of the worst cases to print, 0 to 1000"),
      Flag.withDefault(10)
    ),
    json
  },
  Effect.fnUntraced(function* ({ examples, json, missedAfter, since, tolerance }) {
    const question = {
      reach: yield* readDuration("--since", since),
      tolerance: yield* readDuration("--tolerance", tolerance),
      missedAfter: yield* readDuration("--missed-after", missedAfter),
      examples
    }
    const { ShadowReportRepository, withShadow } = yield* desk
    const { lines, window, ...comparison } = yield* required(
      withShadow(Effect.flatMap(ShadowReportRepository, (repository) => repository.compare(question)))
    )
    const sum = (count: (line: Line) => number) => lines.reduce((total, line) => total + count(line), 0)
    const due = sum((line) => line.due)
    const missed = sum(({ kickoff }) => kickoff.missed)
    const late = sum(({ kickoff }) => kickoff.late)
    if (json) {
      yield* printJson({
        since: time(window.since),
        from: time(window.from),
        to: time(window.to),
        ready: due > 0 && missed === 0 && late === 0,
        lines,
        examples: comparison.examples.map((example) => ({ ...example, due_at: time(example.due_at) }))
      })
    } else yield* printComparison({ lines, window, ...comparison })
    if (due === 0) yield* new NothingCompared()
    if (missed > 0 || late > 0) yield* new FellShort({ missed, late })
  })
).pipe(
  Command.withDescription("Compare what Kickoff would have done with what happened; exit 0 if it fell short nowhere")
)

const begin = Command.make(
  "begin",
  { json },
  Effect.fnUntraced(function* ({ json }) {
    const { ShadowRunRepository, withShadow } = yield* desk
    const since = yield* required(
      withShadow(Effect.flatMap(ShadowRunRepository, (run) => Effect.andThen(run.begin, run.since)))
    )
    yield* json ? printJson({ since: time(since) }) : print(`In shadow since ${time(since)}`)
  })
).pipe(Command.withDescription("Leave the database to another system: no process can change or publish anything"))

const end = Command.make(
  "end",
  {
    remindedUntil: Flag.String("reminded-until").pipe(
      Flag.withSchema(InstantFromString),
      Flag.withMetavar("instant"),
      Flag.withDescription(
        "When the other system stopped: reminders that were due until then are not sent again; now unless given"
      ),
      Flag.optional
    ),
    json
  },
  Effect.fnUntraced(function* ({ json, remindedUntil }) {
    const { ShadowRunRepository, withShadow } = yield* desk
    const handover = yield* required(
      withShadow(
        Effect.flatMap(ShadowRunRepository, (run) => run.end(Option.map(remindedUntil, DateTime.toEpochMillis)))
      )
    )
    if (json) {
      yield* printJson(handover)
      return
    }
    const { overdue_completions, overdue_reminders, overdue_starts, settled_reminders, settled_transitions } = handover
    yield* print(
      `Marked as done what the other system has done: ${counted(settled_transitions, "transition")}, ${counted(settled_reminders, "reminder")}`
    )
    yield* print(
      `Left for Kickoff, which does it as soon as it starts: ${counted(overdue_starts, "start")}, ${counted(overdue_completions, "completion")}, ${counted(overdue_reminders, "reminder")}`
    )
  })
).pipe(Command.withDescription("End the shadow, forget its record, and mark as done what the other system has done"))

export const shadow = Command.make("shadow").pipe(
  Command.withDescription("Run beside another system that does the work, and compare"),
  Command.withSubcommands([begin, report, end])
)
