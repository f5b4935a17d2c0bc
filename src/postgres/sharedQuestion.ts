/**
 * A question to the database that many ask at once, like probes and scrapes: one that is under way answers all of them.
 *
 * Who asks waits for a limited time. The question goes on meanwhile, so that a slow server is not asked ever more.
 */
import { type Duration, Effect, Fiber, type Option, type Result, Scope } from "effect"

/** The answer, or none where there was none in time. The question ends with the scope. */
export const shareQuestion = <A, E, R>(
  question: Effect.Effect<A, E, R>,
  patience: Duration.Duration
): Effect.Effect<Effect.Effect<Option.Option<Result.Result<A, E>>, never, R>, never, Scope.Scope> =>
  Effect.map(Scope.Scope, (scope) => {
    let asking: Fiber.Fiber<Result.Result<A, E>> | undefined
    return Effect.gen(function* () {
      asking ??= yield* question.pipe(
        Effect.result,
        Effect.ensuring(Effect.sync(() => (asking = undefined))),
        Effect.forkIn(scope)
      )
      return yield* Effect.timeoutOption(Fiber.join(asking), patience)
    })
  })
