/** `kickoff pause` and `kickoff resume`: stops what the clock does of a kind, in all processes, and lets it go on. */
import { DateTime, Duration, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { PauseReason } from "../domain/Pause.ts"
import { ScheduleKind } from "../domain/ScheduleKind.ts"
import { json, printJson } from "./json.ts"
import { toClause } from "./pauseClause.ts"
import { print } from "./terminal.ts"

const kind = Argument.Literals("kind", [...ScheduleKind.literals, "all"]).pipe(
  Argument.withDescription("What starts and completes games, what reminds of them, or both")
)

const kindsOf = (kind: ScheduleKind | "all"): ReadonlyArray<ScheduleKind> =>
  kind === "all" ? ScheduleKind.literals : [kind]

const desk = Effect.promise(() => import("./pauseDesk.ts"))

export const pause = Command.make(
  "pause",
  {
    kind,
    reason: Flag.String("reason").pipe(
      Flag.withSchema(PauseReason),
      Flag.withMetavar("text"),
      Flag.withDescription("Why, for those who find it so"),
      Flag.optional
    ),
    json
  },
  Effect.fnUntraced(function* ({ json, kind, reason }) {
    const { encodePause, Pauses, withPauses } = yield* desk
    const opened = yield* withPauses(
      Effect.flatMap(Pauses, (pauses) => pauses.pause(kindsOf(kind), Option.getOrNull(reason)))
    )
    if (json) {
      const paused = yield* Effect.forEach(opened, ({ fresh, pause }) =>
        Effect.map(Effect.orDie(encodePause(pause)), (body) => ({ ...body, already: !fresh }))
      )
      yield* printJson({ paused })
      return
    }
    for (const { fresh, pause } of opened) {
      yield* print(`${pause.kind} ${fresh ? "is paused" : "has been paused already"} ${toClause(pause)}`)
    }
  })
).pipe(Command.withDescription("Do nothing of a kind of schedule, in all processes, until it is resumed"))

export const resume = Command.make(
  "resume",
  { kind, json },
  Effect.fnUntraced(function* ({ json, kind }) {
    const { encodePause, Pauses, withPauses } = yield* desk
    const kinds = kindsOf(kind)
    const ended = yield* withPauses(Effect.flatMap(Pauses, (pauses) => pauses.resume(kinds)))
    if (json) {
      yield* printJson({ resumed: yield* Effect.forEach(ended, (pause) => Effect.orDie(encodePause(pause))) })
      return
    }
    for (const kind of kinds) {
      const pause = ended.find((pause) => pause.kind === kind)
      if (pause === undefined) yield* print(`${kind} was not paused`)
      else {
        const lasted = DateTime.distance(pause.paused_at, pause.resumed_at ?? pause.paused_at)
        yield* print(`${kind} goes on after ${Duration.format(lasted)}; it was paused ${toClause(pause)}`)
      }
    }
  })
).pipe(Command.withDescription("End a pause: what is due meanwhile is done at once"))
