/** `kickoff explain`: the whole history of a game, what will happen to it and when, and why something has not. */
import { DateTime, Duration, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { GameId } from "../domain/Game.ts"
import { formatMillis as time } from "../domain/Instant.ts"
import { explain as explanationOf, type Moment } from "../operations/explanation.ts"
import { json, printJson } from "./json.ts"
import { plain, print } from "./terminal.ts"

const lines = (moments: ReadonlyArray<Moment>, from: number): ReadonlyArray<string> =>
  moments.map(({ at, what }) => {
    const distance = Duration.format(Duration.millis(Math.abs(Math.round((at - from) / 1000) * 1000)))
    return `  ${time(at)}  ${at > from ? `in ${distance}` : `${distance} ago`}: ${plain(what)}`
  })

export const explain = Command.make(
  "explain",
  {
    game: Argument.String("game").pipe(Argument.withSchema(GameId), Argument.withDescription("The game's id")),
    days: Flag.Int("days").pipe(
      Flag.withDescription("How far back the record is read, in days"),
      Flag.filter(
        (days) => days >= 1 && days <= 3650,
        () => "Expected a number from 1 to 3650"
      ),
      Flag.withDefault(7)
    ),
    json
  },
  Effect.fnUntraced(function* ({ days, game: id, json }) {
    const { GameHistoryRepository, withDatabase } = yield* Effect.promise(() => import("./desk.ts"))
    const since = DateTime.subtract(yield* DateTime.now, { days })
    const history = yield* withDatabase(
      Effect.flatMap(GameHistoryRepository, (repository) => repository.read(id, since)).pipe(
        Effect.provide(GameHistoryRepository.layer)
      )
    )
    const explanation = explanationOf(history)
    if (json) {
      const named = ({ at, what }: Moment) => ({ at: time(at), what })
      const game = Option.getOrNull(
        Option.map(history.game, ({ created_at, scheduled_at, ...game }) => ({
          ...game,
          scheduled_at: time(scheduled_at),
          created_at: time(created_at)
        }))
      )
      yield* printJson({
        id,
        game,
        history: explanation.history.map(named),
        outlook: explanation.outlook.map(named),
        remarks: explanation.remarks
      })
      return
    }
    const { history: past, outlook, remarks } = explanation
    yield* print(
      Option.match(history.game, {
        onNone: () => `Game ${id}`,
        onSome: ({ guild_id, scheduled_at, status, title, version }) =>
          `Game ${id} "${plain(title)}" of guild ${plain(guild_id)}: ${status}, version ${version}, scheduled at ${time(scheduled_at)}`
      })
    )
    const sections = [
      ["On record", lines(past, history.now)],
      ["To come", lines(outlook, history.now)],
      ["Remarks", remarks.map((remark) => `  ${plain(remark)}`)]
    ] as const
    for (const [title, text] of sections) {
      if (text.length > 0) yield* print(`\n${title}\n${text.join("\n")}`)
    }
  })
).pipe(Command.withDescription("Tell what happened to a game, what will, and why something has not"))
