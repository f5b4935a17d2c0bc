/** `kickoff forecast`: how much is planned for the next hours, when the peaks are, and a bar for each stretch of time. */
import { Duration, Effect, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { counted } from "../domain/counted.ts"
import { barMinutes, peaks, toBars, totalOf } from "../operations/forecast.ts"
import { json, printJson } from "./json.ts"
import { print } from "./terminal.ts"

const shownPeaks = 5
const barWidth = 50

const time = (millis: number) => new Date(millis).toISOString().slice(0, 16).replace("T", " ")

export const forecast = Command.make(
  "forecast",
  {
    hours: Flag.Int("hours").pipe(
      Flag.withSchema(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 1, maximum: 744 })))),
      Flag.withDescription("How far ahead, 1 to 744"),
      Flag.withDefault(24)
    ),
    json
  },
  Effect.fnUntraced(function* ({ hours, json }) {
    const { ForecastRepository, withDatabase } = yield* Effect.promise(() => import("./desk.ts"))
    const { minutes, now } = yield* withDatabase(
      Effect.flatMap(ForecastRepository, (repository) => repository.listMinutes(Duration.hours(hours))).pipe(
        Effect.provide(ForecastRepository.layer)
      )
    )
    const sum = (key: "starts" | "completions" | "reminders") =>
      minutes.reduce((total, minute) => total + minute[key], 0)
    const totals = { starts: sum("starts"), completions: sum("completions"), reminders: sum("reminders") }
    const busiest = peaks(minutes, shownPeaks)
    if (json) {
      const named = ({ at, ...counts }: (typeof minutes)[number]) => ({ at: new Date(at).toISOString(), ...counts })
      yield* printJson({
        from: new Date(now).toISOString(),
        hours,
        ...totals,
        peaks: busiest.map(named),
        minutes: minutes.map(named)
      })
      return
    }
    yield* print(
      `${counted(totals.starts, "start")}, ${counted(totals.completions, "completion")} and ${counted(totals.reminders, "reminder")} in the next ` +
        `${hours === 1 ? "hour" : `${hours} hours`}, from ${time(now)} UTC`
    )
    if (minutes.length === 0) return
    yield* print(`Busiest minutes: ${busiest.map((minute) => `${time(minute.at)} (${totalOf(minute)})`).join(", ")}\n`)
    const length = barMinutes(hours)
    const bars = toBars(minutes, { now, hours, length })
    const most = Math.max(1, ...bars.map(({ count }) => count))
    for (const { busiest, count, from } of bars) {
      const bar = "█".repeat(Math.ceil((count / most) * barWidth))
      yield* print(
        `${time(from)}  ${String(count).padStart(9)}  ${count === 0 ? "" : `${bar} at most ${busiest} a minute`}`.trimEnd()
      )
    }
  })
).pipe(Command.withDescription("Count what is planned: per minute, its peaks, and a chart"))
