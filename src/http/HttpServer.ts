/**
 * The HTTP server: health and metrics for every process, the API and its documentation with the role `api`.
 *
 * It stops in order: no new connections, running requests to their end within half the grace time, then whatever is
 * still open is cut, because a client that keeps its connection busy must not hold up the end of the process.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Duration, Effect, Layer, Schema } from "effect"
import { HttpMiddleware, HttpRouter, HttpServer as EffectHttpServer, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { createServer, type Server } from "node:http"
import { hideKeys } from "../observability/secrets.ts"
import { Settings } from "../Settings.ts"
import { Api, ProcessApi } from "./api/Api.ts"
import { answerClientErrors } from "./clientErrors.ts"
import { policyOf, renderDocs } from "./docs.ts"
import * as Edge from "./edge.ts"
import { type ConnectionLimits, connectionLimits } from "./guards.ts"
import * as DeadLettersHandlers from "./handlers/deadLetters.ts"
import * as GamesHandlers from "./handlers/games.ts"
import * as OperationsHandlers from "./handlers/operations.ts"
import * as PausesHandlers from "./handlers/pauses.ts"
import { makeMatchPath } from "./routes.ts"

/** The address cannot be listened on. */
export class AddressUnavailable extends Schema.TaggedError<AddressUnavailable>()("AddressUnavailable", {
  variable: Schema.Literals(["HTTP_HOST", "HTTP_PORT"]),
  detail: Schema.String
}) {
  override get message() {
    return `${this.variable}: ${this.detail}`
  }
}

export class HttpServer extends Context.Service<
  HttpServer,
  {
    /** Where the server listens, like `http://127.0.0.1:3000`; the port is the real one, also if 0 was asked for. */
    readonly url: string
    /** Dies when the server stops listening by itself; a daemon that its owner runs. */
    readonly run: Effect.Effect<never>
  }
>()("kickoff/http/HttpServer") {
  /** Listens on `HTTP_HOST` and `HTTP_PORT` until its scope closes, with these limits; for tests. */
  static readonly layerWith = (overrides: Partial<ConnectionLimits>) =>
    Layer.unwrap(
      Effect.map(Settings, ({ httpHost, httpPort, roles, shutdownGrace }) => {
        const limits = { ...connectionLimits, ...overrides }
        const server = makeServer(limits)
        // Stopping closes the connections that are idle then; those that become idle later are closed as they do.
        server.on("request", (_, response) =>
          response.once("finish", () => {
            if (!server.listening) setImmediate(() => server.closeIdleConnections())
          })
        )
        const routes = (roles.includes("api") ? apiRoutes : processRoutes)(Duration.millis(limits.answer))
        const cutConnections = Layer.effectDiscard(
          Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
        )
        return HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
          Layer.provideMerge(bound(server)),
          Layer.provide(cutConnections),
          Layer.provide(spansOfRequests),
          Layer.provide(
            NodeHttpServer.layer(() => server, {
              host: httpHost,
              port: httpPort,
              gracefulShutdownTimeout: Duration.times(shutdownGrace, 0.5)
            }).pipe(
              Layer.catchTag("ServeError", ({ cause }) =>
                Layer.effectContext(Effect.fail(toAddressUnavailable(cause, httpHost, httpPort)))
              )
            )
          )
        )
      })
    )

  /** The same with the limits of production. */
  static readonly layer = HttpServer.layerWith({})
}

const makeServer = (limits: ConnectionLimits): Server => {
  const server = createServer({
    headersTimeout: limits.head,
    requestTimeout: limits.request,
    connectionsCheckingInterval: Math.min(2000, limits.head / 4),
    keepAliveTimeout: limits.keepAlive,
    // Node would take the first of two; a proxy in front may have judged by the second.
    joinDuplicateHeaders: true,
    // Its answer to a missing one has no body; the edge gives one.
    requireHostHeader: false,
    // There is nothing to change to: a request for it is one like any other.
    shouldUpgradeCallback: () => false
  })
  server.maxConnections = limits.connections
  server.setTimeout(limits.idle)
  // First of all who see a request: a key in a URL gets no further, neither into logs nor into traces.
  server.on("request", (request) => {
    if (request.url !== undefined) request.url = hideKeys(request.url)
    const { "user-agent": agent } = request.headers
    if (agent !== undefined) request.headers["user-agent"] = hideKeys(agent)
  })
  return answerClientErrors(server)
}

const bound = (server: Server) =>
  Layer.effect(
    HttpServer,
    Effect.map(EffectHttpServer.HttpServer, ({ address }) =>
      HttpServer.of({
        url: EffectHttpServer.formatAddress(address),
        run: Effect.callback((resume) => {
          const onError = (error: Error) => resume(Effect.die(error))
          const onClose = () => resume(Effect.die(new Error("it has stopped listening")))
          server.once("error", onError).once("close", onClose)
          return Effect.sync(() => server.off("error", onError).off("close", onClose))
        })
      })
    )
  )

const descriptionPath = "/openapi.json"
const docsPath = "/docs"

const docs = HttpRouter.use((router) => {
  const page = renderDocs(Api, descriptionPath)
  return router.add(
    "GET",
    docsPath,
    HttpServerResponse.html(page).pipe(
      HttpServerResponse.setHeaders({ "cache-control": "max-age=300", "content-security-policy": policyOf(page) })
    )
  )
})

const matchApi = makeMatchPath(Api, [descriptionPath, docsPath])

const apiRoutes = (deadline: Duration.Duration) =>
  Layer.mergeAll(HttpApiBuilder.layer(Api, { openapiPath: descriptionPath }), docs).pipe(
    Layer.provide([GamesHandlers.layer, DeadLettersHandlers.layer, PausesHandlers.layer, OperationsHandlers.layer]),
    Layer.provide(Edge.layer({ matchPath: matchApi, deadline }))
  )

/** Which requests have spans, and their names: those of the API alone, since probes and scrapes come without end. */
const spansOfRequests = Layer.mergeAll(
  Layer.succeed(HttpMiddleware.TracerDisabledWhen, ({ url }) => !url.startsWith("/v1/")),
  Layer.succeed(HttpMiddleware.SpanNameGenerator, ({ method, url }) => {
    const [route] = matchApi(url)
    return route === undefined ? method : `${method} ${route.template}`
  })
)

const processRoutes = (deadline: Duration.Duration) =>
  HttpApiBuilder.layer(ProcessApi).pipe(
    Layer.provide(OperationsHandlers.layer),
    Layer.provide(Edge.layer({ matchPath: makeMatchPath(ProcessApi, []), deadline }))
  )

const toAddressUnavailable = (cause: unknown, host: string, port: number): AddressUnavailable => {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined
  switch (code) {
    case "EADDRINUSE":
      return new AddressUnavailable({ variable: "HTTP_PORT", detail: `port ${port} on ${host} is in use` })
    case "EACCES":
      return new AddressUnavailable({ variable: "HTTP_PORT", detail: `port ${port} needs more privileges` })
    default:
      return new AddressUnavailable({
        variable: "HTTP_HOST",
        detail: `cannot listen on ${host}: ${cause instanceof Error ? cause.message : String(cause)}`
      })
  }
}
