/** Tells a test when a loop rests, and for how long: the moment to turn the test clock. */
import { Context, Duration, Effect, Layer, Queue } from "effect"
import { Health } from "../../src/observability/Health.ts"

/** What the loops add to a rest before they count as stuck, ms. */
const slack = 30_000

export class Rests extends Context.Service<
  Rests,
  {
    /** Waits until a loop rests, and returns for how many milliseconds. */
    readonly take: Effect.Effect<number>
  }
>()("kickoff/test/support/Rests") {
  /** Health that listens to what the loops say of themselves. */
  static readonly layer: Layer.Layer<Rests | Health> = Layer.effectContext(
    Effect.map(Queue.unbounded<number>(), (rests) =>
      Context.make(Rests, Rests.of({ take: Queue.take(rests) })).pipe(
        Context.add(
          Health,
          Health.of({
            beat: (_loop, next) => {
              const rest = Duration.toMillis(next) - slack
              return rest > 0 ? Effect.asVoid(Queue.offer(rests, rest)) : Effect.void
            },
            progress: () => Effect.void,
            overdue: Effect.succeed([]),
            loops: Effect.succeed([]),
            measure: Effect.void
          })
        )
      )
    )
  )
}
