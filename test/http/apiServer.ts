/** A real server on a free port with a fresh database behind it, and requests to it as a client would send them. */
import { Context, Effect, Layer, Queue, Ref } from "effect"
import { once } from "node:events"
import * as Net from "node:net"
import type { ApiKey } from "../../src/access/apiKey.ts"
import { ApiKeys } from "../../src/access/ApiKeys.ts"
import { DeadLetters } from "../../src/deadLetters/DeadLetters.ts"
import { Games } from "../../src/games/Games.ts"
import type { ConnectionLimits } from "../../src/http/guards.ts"
import { HttpServer } from "../../src/http/HttpServer.ts"
import { Readiness } from "../../src/http/Readiness.ts"
import { type BrokerState, Publisher } from "../../src/messaging/Publisher.ts"
import { Health } from "../../src/observability/Health.ts"
import { ProcessMetrics } from "../../src/observability/ProcessMetrics.ts"
import { DatabaseMetrics } from "../../src/operations/DatabaseMetrics.ts"
import { DatabaseMetricsRepository } from "../../src/operations/DatabaseMetricsRepository.ts"
import { Pauses } from "../../src/operations/Pauses.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import { Settings } from "../../src/Settings.ts"
import { anybody } from "../support/callers.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** How often the relay was told of events. */
export class Signals extends Context.Service<Signals, Ref.Ref<number>>()("kickoff/test/Signals") {}

/** Records that events were committed, and does nothing else. */
export const signalLayer = Layer.effectContext(
  Effect.gen(function* () {
    const signals = yield* Ref.make(0)
    const wakeUps = yield* Queue.unbounded<"notify" | "backstop">()
    return Context.make(Signals, signals).pipe(
      Context.add(
        OutboxSignal,
        OutboxSignal.of({
          committed: Ref.update(signals, (count) => count + 1),
          found: Effect.void,
          wakeUps,
          setRelaying: () => Effect.void,
          setBehind: () => Effect.void,
          caughtUp: Effect.void,
          run: Effect.never
        })
      )
    )
  })
)

/** What the rest of the process says of itself, for the probes. */
export class Surroundings extends Context.Service<
  Surroundings,
  { readonly listenerUp: Ref.Ref<boolean>; readonly broker: Ref.Ref<BrokerState> }
>()("kickoff/test/Surroundings") {}

export const surroundingsLayer = Layer.effectContext(
  Effect.gen(function* () {
    const listenerUp = yield* Ref.make(true)
    const broker = yield* Ref.make<BrokerState>("connected")
    return Context.make(Surroundings, { listenerUp, broker }).pipe(
      Context.add(
        Listener,
        Listener.of({
          subscribe: () => Queue.unbounded(),
          isUp: Ref.get(listenerUp),
          run: Effect.never
        })
      ),
      Context.add(
        Publisher,
        Publisher.of({
          publish: () => Effect.succeed([]),
          ready: Effect.void,
          state: Ref.get(broker),
          run: Effect.never
        })
      )
    )
  })
)

const databaseMetrics = DatabaseMetrics.layer.pipe(Layer.provide(DatabaseMetricsRepository.layer))

/** The server and the services that it alone needs. */
export const httpLayer = ({
  keys,
  limits = {}
}: { readonly keys?: ReadonlyArray<ApiKey>; readonly limits?: Partial<ConnectionLimits> } = {}) =>
  HttpServer.layerWith(limits).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Games.layer,
        DeadLetters.layer,
        Pauses.layer,
        Readiness.layer,
        ProcessMetrics.layer,
        databaseMetrics
      )
    ),
    Layer.provide(keys === undefined ? ApiKeys.layerNone : ApiKeys.layerOf(keys))
  )

/** The server with everything it needs but a database, and the caller that tests are when they go round it. */
export const serverLayer = (
  settings: Parameters<typeof Settings.layerWith>[0] = {},
  options: Parameters<typeof httpLayer>[0] = {}
) =>
  httpLayer(options).pipe(
    Layer.provideMerge(Layer.mergeAll(Health.layer, signalLayer, surroundingsLayer, anybody)),
    Layer.provideMerge(Settings.layerWith({ httpPort: 0, ...settings }))
  )

/** A server that serves everything, on a database of its own. */
export const apiLayer = serverLayer().pipe(Layer.provideMerge(TestDatabase.layer))

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body as JSON; an empty object if it is none. */
  readonly body: Readonly<Record<string, unknown>>
}

/** Sends a request; what is not a string is sent as JSON. */
export const request = Effect.fnUntraced(function* (
  method: string,
  path: string,
  options: { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> } = {}
) {
  const { url } = yield* HttpServer
  const { body, headers } = options
  return yield* Effect.promise(async (): Promise<Answer> => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
    })
    const text = await response.text()
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: /json/.test(response.headers.get("content-type") ?? "") && text !== "" ? JSON.parse(text) : {}
    }
  })
})

/** Sends bytes as they are and returns what comes back until the server closes the connection. */
export const sendRaw = Effect.fnUntraced(function* (bytes: string | Uint8Array) {
  const { url } = yield* HttpServer
  return yield* Effect.promise(async () => {
    const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
    const chunks: Array<Buffer> = []
    socket.on("data", (chunk) => chunks.push(chunk))
    socket.write(bytes)
    await once(socket, "close")
    return Buffer.concat(chunks).toString()
  })
})

/** What a client says at least to plan a game. */
export const validGame = { guild_id: "guild", title: "a game", scheduled_at: "2040-01-01T20:00:00Z" }

/** Creates a game over HTTP and returns its id. */
export const createGame = Effect.fnUntraced(function* (fields: Readonly<Record<string, unknown>> = {}) {
  const answer = yield* request("POST", "/v1/games", { body: { ...validGame, ...fields } })
  return String(answer.body["id"])
})
