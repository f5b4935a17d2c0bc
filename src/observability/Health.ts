/**
 * What the parts of this process say of themselves, for `/health/live` and `/health/ready`.
 *
 * A loop says when it will speak next, and whether the work that it could do gets done. It is alive while it speaks in
 * time and gets somewhere. So "live" means that the loops make progress, not that the process is up.
 */
import { Context, Duration, Effect, Layer, Metric } from "effect"
import * as Metrics from "./Metrics.ts"
import { uptimeMillis } from "./uptime.ts"

/** A daemon that must make progress. */
export type Loop = "status-transitions" | "notifications" | "outbox" | "listener"

export interface Overdue {
  readonly loop: Loop
  /** `silent`: it has not spoken when it should have. `stuck`: it speaks, and leaves work undone that it could do. */
  readonly state: "silent" | "stuck"
  /** How long ago it should have spoken, or since when it gets nowhere. */
  readonly since: Duration.Duration
}

/** How long a loop may get nowhere with work that nobody keeps it from. */
const patience = Duration.seconds(15)

export class Health extends Context.Service<
  Health,
  {
    /** Said by a loop after each step: alive, and will say so again within `next`. */
    readonly beat: (loop: Loop, next: Duration.Duration) => Effect.Effect<void>
    /**
     * Said by a loop that has looked at its work: whether it gets somewhere. Nothing to do, work that others hold or that
     * rests, and a server that is away, are no standstill.
     */
    readonly progress: (loop: Loop, made: boolean) => Effect.Effect<void>
    /** The loops that should have spoken by now, or have got nowhere for 15 s. */
    readonly overdue: Effect.Effect<ReadonlyArray<Overdue>>
    /** Every loop that has ever spoken. */
    readonly loops: Effect.Effect<ReadonlyArray<Loop>>
    /** Brings the metrics of the loops up to date. */
    readonly measure: Effect.Effect<void>
  }
>()("kickoff/observability/Health") {
  static readonly layer = Layer.sync(Health, () => {
    const deadlines = new Map<Loop, number>()
    const standstills = new Map<Loop, number>()
    const overdue = Effect.map(uptimeMillis, (now) => {
      const late = (since: Map<Loop, number>, state: Overdue["state"], grace: number): ReadonlyArray<Overdue> =>
        [...since]
          .filter(([, instant]) => instant + grace < now)
          .map(([loop, instant]) => ({ loop, state, since: Duration.millis(now - instant) }))
      return [...late(deadlines, "silent", 0), ...late(standstills, "stuck", Duration.toMillis(patience))]
    })
    const measure = Effect.gen(function* () {
      const late = yield* overdue
      for (const loop of deadlines.keys()) {
        const seconds = late.filter((each) => each.loop === loop).map(({ since }) => Duration.toSeconds(since))
        yield* Metric.update(Metric.withAttributes(Metrics.loopOverdue, { loop }), Math.max(0, ...seconds))
      }
    })
    return Health.of({
      beat: (loop, next) => Effect.map(uptimeMillis, (now) => void deadlines.set(loop, now + Duration.toMillis(next))),
      progress: (loop, made) =>
        Effect.map(uptimeMillis, (now) => {
          if (made) standstills.delete(loop)
          else if (!standstills.has(loop)) standstills.set(loop, now)
        }),
      overdue,
      loops: Effect.sync(() => [...deadlines.keys()]),
      measure
    })
  })
}
