/**
 * The outermost layer of every request: counts and times it, bounds its body and its time, and makes every error a
 * problem.
 *
 * What the API's definitions do not cover arrives here as a cause or a bare status: unknown routes, wrong methods,
 * bodies that are too large or of another type, and defects, of which the client learns nothing but that they happened.
 */
import { ByteSize, Cause, Clock, Context, type Duration, Effect, Metric, Option, Tracer } from "effect"
import {
  HttpIncomingMessage,
  HttpRouter,
  HttpServerError,
  HttpServerRequest,
  HttpServerResponse,
  HttpTraceContext,
  ProblemDetails
} from "effect/http"
import { IncomingMessage } from "node:http"
import * as Metrics from "../observability/Metrics.ts"
import { guardHeaders } from "./guards.ts"
import { type MatchPath, methodsOf } from "./routes.ts"

/** Largest body that is read. */
export const maxBodySize = ByteSize.kibibytes(64)

/** Headers that belong to a status, whatever its reason. `Retry-After` is in seconds. */
const headersOf: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: { "www-authenticate": 'Bearer realm="kickoff"' },
  429: { "retry-after": "1" },
  503: { "retry-after": "2" }
}

const phrases: Readonly<Record<number, readonly [title: string, detail: string]>> = {
  400: ["Bad Request", "The request cannot be read"],
  404: ["Not Found", "There is nothing at this path"],
  405: ["Method Not Allowed", "This path does not know the method; the header Allow names those it does"],
  413: ["Content Too Large", "The body is larger than 64 KiB"],
  415: ["Unsupported Media Type", "The body must be application/json in UTF-8, without a Content-Encoding"],
  500: ["Internal Server Error", "Something went wrong here; it has been logged"],
  503: ["Service Unavailable", "The service is shutting down; try again"]
}

const toProblem = (status: number, reason?: string): HttpServerResponse.HttpServerResponse => {
  const [title, phrase] = phrases[status] ?? ["Error", "The request failed"]
  const detail = reason ?? phrase
  return ProblemDetails.toResponse({ type: ProblemDetails.blankType, title, status, detail })
}

const isProblem = (response: HttpServerResponse.HttpServerResponse): boolean =>
  response.headers["content-type"] === ProblemDetails.contentType

/** Keeps headers that belong to the error, like `Allow` and `Connection`. */
const rewrite = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse => {
  if (response.status < 400) return guarded(response)
  const problem = isProblem(response)
    ? response
    : response.headers["connection"] === undefined
      ? toProblem(response.status)
      : HttpServerResponse.setHeader(toProblem(response.status), "connection", response.headers["connection"])
  return guarded(HttpServerResponse.setHeaders(problem, headersOf[problem.status] ?? {}))
}

/** The headers of every answer, except where it has its own. */
const guarded = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.setHeaders(response, { ...guardHeaders, ...response.headers })

/** A request of HTTP/1.1 says which host it means, once; a proxy may have chosen us by another one of two. */
const hasGoodHost = ({ headers, source }: HttpServerRequest.HttpServerRequest): boolean =>
  headers["host"] === undefined
    ? source instanceof IncomingMessage && source.httpVersion === "1.0"
    : !headers["host"].includes(",")

/** Runs in the trace that the client says it is in. A request that has a span of its own is in that trace already. */
const inClientsTrace =
  ({ headers }: HttpServerRequest.HttpServerRequest) =>
  <A, E, R>(app: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.contextWith((context: Context.Context<R>) =>
      Context.getOrUndefined(context, Tracer.ParentSpan) !== undefined
        ? app
        : Option.match(HttpTraceContext.fromHeaders(headers), {
            onNone: () => app,
            onSome: (span) => Effect.provideService(app, Tracer.ParentSpan, span)
          })
    )

/** Counts and times requests. Series are made once: attributes make a key that is costly for every request. */
const makeMeasure = Effect.map(Effect.context(), (context) => {
  const series = new Map<string, (seconds: number) => void>()
  const make = (method: string, route: string, status: string) => {
    const requests = Metric.withAttributes(Metrics.httpRequests, { method, route, status })
    const durations = Metric.withAttributes(Metrics.httpSeconds, { method, route })
    return (seconds: number) => {
      requests.updateUnsafe(1, context)
      durations.updateUnsafe(seconds, context)
    }
  }
  return (method: string, route: string, status: string, seconds: number) => {
    const name = `${method} ${status} ${route}`
    const one = series.get(name) ?? make(method, route, status)
    series.set(name, one)
    one(seconds)
  }
})

/** The edge for these routes, as a middleware of the whole router. */
export const layer = ({
  deadline,
  matchPath
}: {
  readonly matchPath: MatchPath
  /** Longest time for an answer. */
  readonly deadline: Duration.Duration
}) =>
  HttpRouter.middleware(
    Effect.map(
      makeMeasure,
      (measure) => (app: Effect.Effect<HttpServerResponse.HttpServerResponse, unknown>) =>
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          const routes = matchPath(request.url)
          const started = yield* Clock.monotonicTimeNanos
          const response = yield* (
            hasGoodHost(request) ? app : Effect.succeed(toProblem(400, "Expected the header Host, once"))
          ).pipe(
            Effect.timeoutOrElse({
              duration: deadline,
              orElse: () => Effect.succeed(toProblem(503, "The answer took too long; try again"))
            }),
            // Or a stop would wait for the deadline: what runs is in another fiber now, and only the innermost is interruptible.
            Effect.interruptible,
            Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize),
            Effect.catchCause((cause) => answerCause(cause, request, methodsOf(routes))),
            Effect.map(rewrite),
            inClientsTrace(request)
          )
          const seconds = Number((yield* Clock.monotonicTimeNanos) - started) / 1e9
          const route = routes[0]?.template ?? "unknown"
          const method = methods.has(request.method) ? request.method : "other"
          measure(method, route, String(response.status), seconds)
          return response
        })
    ),
    { global: true }
  )

/** Methods that become labels; a client may send any word. */
const methods: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])

const answerCause = (
  cause: Cause.Cause<unknown>,
  request: HttpServerRequest.HttpServerRequest,
  allowed: ReadonlyArray<string>
): Effect.Effect<HttpServerResponse.HttpServerResponse, unknown> => {
  // The client has gone, or the server is going: nobody is there to read an answer of ours.
  if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
  const error = Cause.squash(cause)
  const notFound = HttpServerError.isHttpServerError(error) && error.reason._tag === "RouteNotFound"
  if (notFound && allowed.length > 0 && !allowed.includes(request.method)) {
    return Effect.succeed(HttpServerResponse.setHeader(toProblem(405), "allow", allowed.join(", ")))
  }
  return Effect.flatMap(HttpServerError.causeResponse(cause), ([response]) =>
    response.status < 500
      ? Effect.succeed(response)
      : Effect.as(
          Effect.logError(`A request failed by a fault of this program: ${request.method} ${request.url}`, cause),
          response
        )
  )
}
