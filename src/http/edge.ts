/**
 * The outermost layer of every request: counts and times it, bounds its body, and makes every error a problem.
 *
 * What the API's definitions do not cover arrives here as a cause or a bare status: unknown routes, wrong methods,
 * bodies that are too large or of another type, and defects, of which the client learns nothing but that they happened.
 */
import { ByteSize, Cause, Clock, Effect, Metric } from "effect"
import {
  HttpIncomingMessage,
  HttpRouter,
  HttpServerError,
  HttpServerRequest,
  HttpServerResponse,
  ProblemDetails
} from "effect/http"
import * as Metrics from "../observability/Metrics.ts"
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
  415: ["Unsupported Media Type", "The body must be application/json"],
  500: ["Internal Server Error", "Something went wrong here; it has been logged"],
  503: ["Service Unavailable", "The service is shutting down; try again"]
}

const toProblem = (status: number): HttpServerResponse.HttpServerResponse => {
  const [title, detail] = phrases[status] ?? ["Error", "The request failed"]
  return ProblemDetails.toResponse({ type: ProblemDetails.blankType, title, status, detail })
}

const isProblem = (response: HttpServerResponse.HttpServerResponse): boolean =>
  response.headers["content-type"] === ProblemDetails.contentType

/** Keeps headers that belong to the error, like `Allow` and `Connection`. */
const rewrite = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse => {
  if (response.status < 400) return response
  const problem = isProblem(response)
    ? response
    : response.headers["connection"] === undefined
      ? toProblem(response.status)
      : HttpServerResponse.setHeader(toProblem(response.status), "connection", response.headers["connection"])
  const headers = headersOf[problem.status]
  return headers === undefined ? problem : HttpServerResponse.setHeaders(problem, headers)
}

/** The edge for these routes, as a middleware of the whole router. */
export const layer = (matchPath: MatchPath) =>
  HttpRouter.middleware(
    Effect.succeed((app: Effect.Effect<HttpServerResponse.HttpServerResponse, unknown>) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const routes = matchPath(request.url)
        const started = yield* Clock.monotonicTimeNanos
        const response = yield* app.pipe(
          Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize),
          Effect.catchCause((cause) => answerCause(cause, request, methodsOf(routes))),
          Effect.map(rewrite)
        )
        const seconds = Number((yield* Clock.monotonicTimeNanos) - started) / 1e9
        const route = routes[0]?.template ?? "unknown"
        const method = methods.has(request.method) ? request.method : "other"
        yield* Metric.update(
          Metric.withAttributes(Metrics.httpRequests, { method, route, status: String(response.status) }),
          1
        )
        yield* Metric.update(Metric.withAttributes(Metrics.httpSeconds, { method, route }), seconds)
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
