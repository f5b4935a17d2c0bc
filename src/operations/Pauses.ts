/**
 * Pausing and resuming a kind of schedule: what an operator does while consumers are replaced, or when games start that
 * should not.
 *
 * A pause holds for all guilds and all processes, so only who deals with every guild may have to do with it.
 */
import { Context, Duration, Effect, Layer, Schema } from "effect"
import type { SqlError } from "effect/sql"
import { Caller } from "../domain/Caller.ts"
import type { Pause } from "../domain/Pause.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import { statementTimeout } from "../postgres/Database.ts"
import { type OpenedPause, PauseRepository } from "./PauseRepository.ts"

/** The caller deals with games of some guilds only, and a pause would stop those of all. */
export class PauseForbidden extends Schema.TaggedError<PauseForbidden>()("PauseForbidden", {}) {
  override get message() {
    return "A pause holds for the games of all guilds, and those of some alone are yours"
  }
}

/** How often it is looked whether statements under way have ended. */
const look = Duration.millis(20)

type Doing<A> = Effect.Effect<A, PauseForbidden | SqlError.SqlError, Caller>

export class Pauses extends Context.Service<
  Pauses,
  {
    /** Those that are open. */
    readonly list: Doing<ReadonlyArray<Pause>>
    /**
     * Pauses these kinds; one that is paused stays so, with who did it first and why. Once it succeeds, nothing of them is
     * done any more: it waits for what was under way, 10 s at most.
     */
    readonly pause: (kinds: ReadonlyArray<ScheduleKind>, reason: string | null) => Doing<ReadonlyArray<OpenedPause>>
    /** Lets these kinds go on, and returns the pauses that this ended. What is due meanwhile is done at once. */
    readonly resume: (kinds: ReadonlyArray<ScheduleKind>) => Doing<ReadonlyArray<Pause>>
  }
>()("kickoff/operations/Pauses") {
  static readonly layer = Layer.effect(
    Pauses,
    Effect.gen(function* () {
      const repository = yield* PauseRepository

      const requireEveryGuild = Effect.flatMap(Caller, ({ guilds, name }) =>
        guilds === "every" ? Effect.succeed(name) : Effect.fail(new PauseForbidden())
      )

      /**
       * A statement locks its tables before it takes its snapshot, so whoever cannot see the pause is among those who
       * hold such a lock now. Others may be as well: they are not told apart, because a pooler may hide their names.
       */
      const untilOver = Effect.fnUntraced(function* (kinds: ReadonlyArray<ScheduleKind>) {
        let left = yield* repository.listWriters(kinds)
        while (left.length > 0) {
          yield* Effect.sleep(look)
          const running = new Set(yield* repository.listWriters(kinds))
          left = left.filter((transaction) => running.has(transaction))
        }
      })

      const pause = Effect.fn("Pauses.pause")(function* (kinds: ReadonlyArray<ScheduleKind>, reason: string | null) {
        const opened = yield* repository.open(kinds, yield* requireEveryGuild, reason)
        // The server ends a statement of a loop after that time: what lasts longer is somebody else's.
        yield* Effect.timeoutOption(untilOver(kinds), statementTimeout)
        return opened
      })

      return Pauses.of({
        list: Effect.andThen(requireEveryGuild, repository.listOpen),
        pause,
        resume: Effect.fn("Pauses.resume")(function* (kinds: ReadonlyArray<ScheduleKind>) {
          return yield* repository.close(kinds, yield* requireEveryGuild)
        })
      })
    })
  ).pipe(Layer.provide(PauseRepository.layer))
}
