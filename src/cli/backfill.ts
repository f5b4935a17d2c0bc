/** `kickoff backfill`: plans the rows that games written by other means lack; a rerun finds nothing. */
import { Effect } from "effect"
import { Command } from "effect/cli"
import { counted } from "../domain/counted.ts"
import { json, printJson } from "./json.ts"
import { print } from "./terminal.ts"

export const backfill = Command.make(
  "backfill",
  { json },
  Effect.fnUntraced(function* ({ json }) {
    const { GameRepository, withDatabase } = yield* Effect.promise(() => import("./desk.ts"))
    const planned = yield* withDatabase(
      Effect.flatMap(GameRepository, (repository) => repository.backfill).pipe(Effect.provide(GameRepository.layer))
    )
    yield* json
      ? printJson(planned)
      : print(
          planned.games === 0
            ? "Nothing to plan, every game has its rows"
            : `Planned ${counted(planned.transitions, "transition")} and ${counted(planned.reminders, "reminder")} of ${counted(planned.games, "game")}`
        )
  })
).pipe(Command.withDescription("Plan what games that were written by other means lack"))
