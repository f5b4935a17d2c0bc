/** The routes for those who run the service: health and metrics. Every process serves them, whatever its roles. */
import { Schema } from "effect"
import { ScheduleKind } from "../../domain/ScheduleKind.ts"
import { HttpApiEndpoint, HttpApiError, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Instant } from "./fields.ts"
import { edgeErrors } from "./problems.ts"

const Component = Schema.Struct({
  state: Schema.Literals(["ok", "away", "not used"]),
  detail: Schema.optionalKey(Schema.String)
}).annotate({ identifier: "Component" })
export type Component = typeof Component.Type

export const Components = Schema.Struct({
  database: Component,
  migrations: Component,
  listener: Component,
  broker: Component
}).annotate({ identifier: "Components" })
export type Components = typeof Components.Type

/** A kind of schedule that somebody has paused; who and why is for those who have a key. */
const PausedKind = Schema.Struct({ kind: ScheduleKind, since: Instant }).annotate({ identifier: "PausedKind" })
export type PausedKind = typeof PausedKind.Type

const Overdue = Schema.Struct({
  loop: Schema.String,
  state: Schema.Literals(["silent", "stuck"]),
  since_seconds: Schema.Finite
})

/** Said where the process only records what it would do. */
const shadow = Schema.optionalKey(Schema.Literal(true))

/** The database is away or not migrated: this process can do nothing. */
export class NotReady extends HttpApiError.Problem<NotReady>()(
  "NotReady",
  { type: "urn:kickoff:problem:not-ready", status: 503, title: "Not ready" },
  { components: Components }
) {}

/** A loop makes no progress: this process should be restarted. */
export class NotLive extends HttpApiError.Problem<NotLive>()(
  "NotLive",
  { type: "urn:kickoff:problem:not-live", status: 503, title: "Not live" },
  { overdue: Schema.Array(Overdue) }
) {}

export class OperationsApi extends HttpApiGroup.make("operations")
  .add(
    HttpApiEndpoint.get("live", "/health/live", {
      success: Schema.Struct({ status: Schema.Literal("ok"), loops: Schema.Array(Schema.String), shadow }),
      error: [NotLive, ...edgeErrors]
    })
      .annotate(OpenApi.Summary, "Whether the loops of this process make progress")
      .annotate(
        OpenApi.Description,
        "503: a loop is `silent`, as one that hangs, or `stuck`: rows are overdue or events wait, nobody keeps it from them, " +
          "and they do not get done. A database or broker that is away is no reason; see `/health/ready`."
      ),
    HttpApiEndpoint.get("ready", "/health/ready", {
      success: Schema.Struct({
        status: Schema.Literals(["ok", "degraded"]),
        components: Components,
        paused: Schema.Array(PausedKind),
        shadow
      }),
      error: [NotReady, ...edgeErrors]
    })
      .annotate(OpenApi.Summary, "Whether this process can work")
      .annotate(
        OpenApi.Description,
        "`degraded`: the listener or the broker is away, and the work goes on. 503: the database is away or not migrated. " +
          "A process without the role `outbox` uses no broker. `paused` names the kinds of schedule of which nothing is done, " +
          "by the will of an operator: that makes no process unready."
      ),
    HttpApiEndpoint.get("metrics", "/metrics", {
      success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" })),
      error: edgeErrors
    }).annotate(OpenApi.Summary, "Metrics in the text format of Prometheus")
  )
  .annotate(OpenApi.Description, "For those who run the service") {}
