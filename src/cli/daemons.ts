/**
 * Runs the daemons of a process side by side. None of them ever ends, so the first one that does, however, ends them all:
 * a process that lives on without one of its parts would look healthy and leave work undone.
 */
import { Cause, Effect, Exit } from "effect"

/** Daemons by the names that the log tells. */
export type Daemons<E, R> = Readonly<Record<string, Effect.Effect<never, E, R>>>

/** Never succeeds. It fails as a daemon fails; a daemon that dies, returns or interrupts itself is a defect of its name. */
export const runDaemons = <E, R>(daemons: Daemons<E, R>): Effect.Effect<never, E, R> =>
  Effect.all(
    Object.entries(daemons).map(([name, daemon]) =>
      // Where this fiber itself is interrupted, nothing after the daemon is run.
      Effect.flatMap(Effect.exit(daemon), (exit) => endOf(name, exit))
    ),
    { concurrency: "unbounded", discard: true }
  ).pipe(Effect.andThen(Effect.never))

const endOf = <E>(name: string, exit: Exit.Exit<never, E>): Effect.Effect<never, E> => {
  if (Exit.isFailure(exit) && Cause.hasFails(exit.cause)) return Effect.failCause(exit.cause)
  const cause = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  return Effect.die(new Error(`The ${name} has ended, which it never should`, { cause }))
}
