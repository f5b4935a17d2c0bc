/** `kickoff backfill`: plans the rows that games written by other means lack; a rerun finds nothing. */
import { Effect } from "effect"
import { Command, Flag } from "effect/cli"

const json = Flag.Boolean("json").pipe(Flag.withDescription("Print the counts as JSON"), Flag.withDefault(false))

export const backfill = Command.make(
  "backfill",
  { json },
  Effect.fnUntraced(function* ({ json }) {
    const { GameRepository, withDatabase } = yield* Effect.promise(() => import("./desk.ts"))
    const planned = yield* withDatabase(
      Effect.flatMap(GameRepository, (repository) => repository.backfill).pipe(Effect.provide(GameRepository.layer))
    )
    yield* Effect.sync(() =>
      process.stdout.write(
        json
          ? `${JSON.stringify(planned)}\n`
          : planned.games === 0
            ? "Nothing to plan, every game has its rows\n"
            : `Planned ${planned.transitions} transitions and ${planned.reminders} reminders of ${planned.games} games\n`
      )
    )
  })
).pipe(Command.withDescription("Plan what games that were written by other means lack"))
