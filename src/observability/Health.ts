/**
 * What the parts of this process say of themselves, for `/health/live` and `/health/ready`.
 *
 * A loop says when it will speak next; it is alive until that moment has passed. So "live" means that the loops make
 * progress, not that the process is up.
 */
import { Context, Duration, Effect, Layer, Ref } from "effect"
import { uptimeMillis } from "./uptime.ts"

/** A daemon that must make progress. */
export type Loop = "status-transitions" | "notifications" | "outbox" | "listener"

export interface Overdue {
  readonly loop: Loop
  /** How long ago the loop should have spoken. */
  readonly since: Duration.Duration
}

export class Health extends Context.Service<
  Health,
  {
    /** Said by a loop after each step: alive, and will say so again within `next`. */
    readonly beat: (loop: Loop, next: Duration.Duration) => Effect.Effect<void>
    /** The loops that should have spoken by now. */
    readonly overdue: Effect.Effect<ReadonlyArray<Overdue>>
    /** Every loop that has ever spoken. */
    readonly loops: Effect.Effect<ReadonlyArray<Loop>>
  }
>()("kickoff/observability/Health") {
  static readonly layer = Layer.effect(
    Health,
    Effect.gen(function* () {
      const deadlines = yield* Ref.make<ReadonlyMap<Loop, number>>(new Map())
      return Health.of({
        beat: (loop, next) =>
          Effect.flatMap(uptimeMillis, (now) =>
            Ref.update(deadlines, (current) => new Map(current).set(loop, now + Duration.toMillis(next)))
          ),
        overdue: Effect.gen(function* () {
          const now = yield* uptimeMillis
          const current = yield* Ref.get(deadlines)
          return [...current]
            .filter(([, deadline]) => deadline < now)
            .map(([loop, deadline]) => ({ loop, since: Duration.millis(now - deadline) }))
        }),
        loops: Effect.map(Ref.get(deadlines), (current) => [...current.keys()])
      })
    })
  )
}
