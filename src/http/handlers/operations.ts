/** Answers the probes and the scrapes. */
import { Duration, Effect, Layer, References } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { PrometheusMetrics } from "effect/observability"
import { Health } from "../../observability/Health.ts"
import { DatabaseMetrics } from "../../operations/DatabaseMetrics.ts"
import { ProcessMetrics } from "../../observability/ProcessMetrics.ts"
import { Settings } from "../../Settings.ts"
import { ProcessApi } from "../api/Api.ts"
import { NotLive, NotReady } from "../api/OperationsApi.ts"
import { Readiness } from "../Readiness.ts"

export const layer = HttpApiBuilder.group(
  ProcessApi,
  "operations",
  Effect.fn(function* (handlers) {
    const health = yield* Health
    const readiness = yield* Readiness
    const processMetrics = yield* ProcessMetrics
    const databaseMetrics = yield* DatabaseMetrics
    const { shadow } = yield* Settings
    const mode = shadow ? { shadow: true as const } : {}

    return handlers.handleAll({
      live: Effect.fnUntraced(function* () {
        const overdue = yield* health.overdue
        if (overdue.length === 0) return { status: "ok" as const, loops: yield* health.loops, ...mode }
        return yield* new NotLive({
          detail: `No progress: ${overdue.map(({ loop, state }) => `${loop} is ${state}`).join(", ")}`,
          overdue: overdue.map(({ loop, since, state }) => ({ loop, state, since_seconds: Duration.toSeconds(since) }))
        })
      }),

      ready: Effect.fnUntraced(function* () {
        const { components, paused } = yield* readiness.check
        const { broker, database, listener, migrations } = components
        const missing = [database, migrations].find(({ state }) => state !== "ok")
        if (missing !== undefined) {
          return yield* new NotReady({
            detail: database.state === "ok" ? "The database is not migrated" : "The database is away",
            components
          })
        }
        const whole = listener.state !== "away" && broker.state !== "away"
        return { status: whole ? ("ok" as const) : ("degraded" as const), components, paused, ...mode }
      }),

      metrics: Effect.fnUntraced(function* () {
        yield* health.measure
        yield* processMetrics.refresh
        yield* databaseMetrics.refresh
        return yield* PrometheusMetrics.format()
      })
    })
  })
  // They come all the time, so nothing of what they ask makes a span.
).pipe(Layer.provide(Layer.succeed(References.TracerEnabled, false)))
