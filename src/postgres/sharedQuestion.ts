/**
 * A question to the database that many ask at once, like probes and scrapes: one that is under way answers all of them.
 *
 * The patience is the question's, not that of whoever asks: once it is used up, those who come later are not held up by
 * a server that keeps silent. The question goes on meanwhile, so that a slow server is not asked ever more.
 */
import { Duration, Effect, Fiber, type Option, type Result, Scope } from "effect"
import { uptimeMillis } from "../observability/uptime.ts"

/** The answer, or none where there was none within the patience from its beginning. The question ends with the scope. */
export const shareQuestion = <A, E, R>(
  question: Effect.Effect<A, E, R>,
  patience: Duration.Duration
): Effect.Effect<Effect.Effect<Option.Option<Result.Result<A, E>>, never, R>, never, Scope.Scope> =>
  Effect.map(Scope.Scope, (scope) => {
    let asking: { readonly began: number; readonly fiber: Fiber.Fiber<Result.Result<A, E>> } | undefined
    return Effect.gen(function* () {
      const now = yield* uptimeMillis
      asking ??= {
        began: now,
        fiber: yield* question.pipe(
          Effect.result,
          Effect.ensuring(Effect.sync(() => (asking = undefined))),
          Effect.forkIn(scope)
        )
      }
      const left = Math.max(0, Duration.toMillis(patience) - (now - asking.began))
      return yield* Effect.timeoutOption(Fiber.join(asking.fiber), left)
    })
  })
