/** Lengths of time as the command line reads them, like "24 hours". */
import { Duration, Effect, Option } from "effect"
import { Flag } from "effect/cli"
import { BadArgument } from "./failures.ts"

/** The flag of a command that looks back, to be read by {@link readDuration}. */
export const since = Flag.String("since").pipe(
  Flag.withDescription('How far the window reaches back, like "24 hours" or "7 days"'),
  Flag.withDefault("24 hours")
)

/** Reads the value of a flag; what is no length of time is a bad argument. */
export const readDuration = (flag: string, text: string): Effect.Effect<Duration.Duration, BadArgument> =>
  Option.match(
    /^\d+ (milli|second|minute|hour|day|week)s?$/.test(text)
      ? // The pattern is the form that it reads.
        Duration.fromInput(text as Duration.Input)
      : Option.none(),
    {
      onNone: () => Effect.fail(new BadArgument({ name: flag, detail: 'Expected a time like "24 hours" or "7 days"' })),
      onSome: Effect.succeed
    }
  )
