/**
 * Brings spans to the collector in the background: one request at a time, with at most so many that wait.
 *
 * It poses as the HTTP client of Effect's exporter and takes every request at once. Left to a client of the common kind, the
 * exporter would wait without end for a collector that hangs, keep all spans of that time, and say nothing of it.
 */
import {
  type Cause,
  Duration,
  Effect,
  Fiber,
  Layer,
  Metric,
  Queue,
  Redacted,
  References,
  Schedule,
  Schema,
  Tracer
} from "effect"
import { FetchHttpClient, HttpClient, type HttpClientError, HttpClientRequest, HttpClientResponse } from "effect/http"
import { describeError } from "./connectionError.ts"
import * as Metrics from "./Metrics.ts"
import { uptimeMillis } from "./uptime.ts"

export interface DeliveryOptions {
  /** The collector as a person may read it. */
  readonly collector: string
  readonly headers: Redacted.Redacted<Readonly<Record<string, string>>>
  /** Longest wait for an answer. */
  readonly timeout: Duration.Duration
  /** Most batches that wait. */
  readonly capacity: number
}

/** How long the end of the process is held up for spans that are still to be sent. */
const farewell = Duration.seconds(1)

/** How long a batch is tried, and with which pauses, while the collector is away. */
const retries = Schedule.max([
  Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("10 seconds")]).pipe(Schedule.jittered),
  Schedule.during("1 minute")
])

/** Statuses after which the same may be sent again: https://opentelemetry.io/docs/specs/otlp/#failures-1 */
const passingStatuses: ReadonlySet<number> = new Set([429, 502, 503, 504])

/** The collector did not take a batch; `passing` if it may later. */
class NotDelivered extends Schema.TaggedError<NotDelivered>()("NotDelivered", {
  detail: Schema.String,
  passing: Schema.Boolean
}) {
  override get message() {
    return this.detail
  }
}

const delivered = Metric.withAttributes(Metrics.spanBatches, { outcome: "delivered" })
const dropped = Metric.withAttributes(Metrics.spanBatches, { outcome: "dropped" })

/** A client for the exporter alone. */
export const layer = (options: DeliveryOptions): Layer.Layer<HttpClient.HttpClient> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.gen(function* () {
      const client = yield* HttpClient.HttpClient
      const batches = yield* Queue.dropping<HttpClientRequest.HttpClientRequest, Cause.Done>(options.capacity)
      for (const outcome of [delivered, dropped]) yield* Metric.value(outcome)

      /** Since when spans may be lost, by `uptimeMillis`: said once, and once more when it is over. */
      let losingSince: number | undefined

      const losing = Effect.fnUntraced(function* (why: string) {
        if (losingSince !== undefined) return
        losingSince = yield* uptimeMillis
        yield* Effect.logWarning(
          `Traces do not reach ${options.collector}: ${why}. What does not fit into the queue is dropped, all else goes on`
        )
      })

      const caughtUp = Effect.gen(function* () {
        if (losingSince === undefined || Queue.sizeUnsafe(batches) > 0) return
        const lasted = Duration.millis((yield* uptimeMillis) - losingSince)
        losingSince = undefined
        yield* Effect.logInfo(`Traces reach ${options.collector} again after ${Duration.format(lasted)}`)
      })

      const send = (request: HttpClientRequest.HttpClientRequest) =>
        client.execute(HttpClientRequest.setHeaders(request, Redacted.value(options.headers))).pipe(
          // Read to its end, or the connection is not used again.
          Effect.tap((response) => Effect.ignore(response.arrayBuffer)),
          Effect.mapError((error) => new NotDelivered({ detail: describe(error), passing: true })),
          Effect.timeoutOrElse({
            duration: options.timeout,
            orElse: () =>
              Effect.fail(
                new NotDelivered({ detail: `no answer within ${Duration.format(options.timeout)}`, passing: true })
              )
          }),
          Effect.filterOrFail(
            ({ status }) => status >= 200 && status < 300,
            ({ status }) => new NotDelivered({ detail: `it answers ${status}`, passing: passingStatuses.has(status) })
          ),
          Effect.tapError(({ detail }) => losing(detail)),
          Effect.retry({ while: ({ passing }) => passing, schedule: retries }),
          Effect.matchEffect({
            onFailure: () => Metric.update(dropped, 1),
            onSuccess: () => Effect.andThen(Metric.update(delivered, 1), caughtUp)
          }),
          // Sending spans is nothing to make spans of.
          Effect.provideService(Tracer.DisablePropagation, true),
          // The headers are for the collector, not for wherever it may point to.
          Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" })
        )

      const sending = yield* Queue.take(batches).pipe(Effect.flatMap(send), Effect.forever, Effect.forkScoped)

      // Of a collector that is away nobody waits to take leave.
      yield* Effect.addFinalizer(() =>
        losingSince === undefined
          ? Effect.andThen(Queue.end(batches), Fiber.await(sending)).pipe(
              Effect.interruptible,
              Effect.timeoutOption(farewell)
            )
          : Effect.void
      )

      return HttpClient.make((request) =>
        Effect.gen(function* () {
          if (!(yield* Queue.offer(batches, request))) {
            yield* Metric.update(dropped, 1)
            yield* losing("it takes them slower than they come")
          }
          return HttpClientResponse.fromWeb(request, new Response(null, { status: 202 }))
          // The exporter names itself in every line.
        }).pipe(Effect.provideService(References.CurrentLogAnnotations, {}))
      )
    })
  ).pipe(Layer.provide(FetchHttpClient.layer))

/** What went wrong with a request, without its URL, which may hold a secret. */
const describe = ({ reason }: HttpClientError.HttpClientError): string =>
  "cause" in reason && reason.cause instanceof Error ? innermost(reason.cause) : reason._tag

/** `fetch` itself only says that it failed. */
const innermost = (error: Error): string =>
  error.cause instanceof Error ? innermost(error.cause) : describeError(error)
