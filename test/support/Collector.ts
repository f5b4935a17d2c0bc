/** A collector of traces on a port of its own, which reads OTLP over HTTP in JSON and keeps every span that it is sent. */
import { Effect, Queue, Schema } from "effect"
import { once } from "node:events"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { gunzipSync } from "node:zlib"

const Value = Schema.Struct({
  stringValue: Schema.optionalKey(Schema.String),
  intValue: Schema.optionalKey(Schema.Union([Schema.String, Schema.Number])),
  doubleValue: Schema.optionalKey(Schema.Number),
  boolValue: Schema.optionalKey(Schema.Boolean)
})
const Attributes = Schema.Array(Schema.Struct({ key: Schema.String, value: Value }))

const Span = Schema.Struct({
  traceId: Schema.String,
  spanId: Schema.String,
  parentSpanId: Schema.optionalKey(Schema.String),
  name: Schema.String,
  kind: Schema.Int,
  startTimeUnixNano: Schema.String,
  endTimeUnixNano: Schema.String,
  attributes: Attributes,
  links: Schema.Array(Schema.Struct({ traceId: Schema.String, spanId: Schema.String })),
  status: Schema.Struct({ code: Schema.Int, message: Schema.optionalKey(Schema.String) })
})

const Export = Schema.fromJsonString(
  Schema.Struct({
    resourceSpans: Schema.Array(
      Schema.Struct({
        resource: Schema.Struct({ attributes: Attributes }),
        scopeSpans: Schema.Array(Schema.Struct({ spans: Schema.Array(Span) }))
      })
    )
  })
)

const decode = Schema.decodeUnknownSync(Export)

const valuesOf = (attributes: typeof Attributes.Type) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

export interface ReceivedSpan extends Omit<typeof Span.Type, "attributes"> {
  readonly attributes: Readonly<Record<string, unknown>>
  /** What is said of the process that it comes from. */
  readonly resource: Readonly<Record<string, unknown>>
}

const read = (text: string): ReadonlyArray<ReceivedSpan> =>
  decode(text).resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        ...span,
        attributes: valuesOf(span.attributes),
        resource: valuesOf(resource.attributes)
      }))
    )
  )

const bodyOf = async (request: IncomingMessage): Promise<string> => {
  const body = Buffer.concat(await request.toArray())
  return (request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body).toString("utf8")
}

/** How the collector answers a request whose spans it has read. */
export type Answer = (response: ServerResponse) => void

export interface Collector {
  readonly url: string
  readonly spans: Array<ReceivedSpan>
  readonly requests: Queue.Dequeue<IncomingMessage>
  /** Replaces the answer, which is 200 at first. */
  answer: Answer
  /** Waits for the first span that satisfies the condition. */
  readonly spanOf: (condition: (span: ReceivedSpan) => boolean) => Effect.Effect<ReceivedSpan>
}

/** Listens until the scope closes. */
export const makeCollector = Effect.gen(function* () {
  const requests = yield* Queue.unbounded<IncomingMessage>()
  const waiting = new Set<() => void>()
  const spans: Array<ReceivedSpan> = []
  const take = async (request: IncomingMessage, response: ServerResponse) => {
    const body = await bodyOf(request)
    if (request.headers["content-type"] === "application/json") spans.push(...read(body))
    Queue.offerUnsafe(requests, request)
    collector.answer(response)
    for (const look of waiting) look()
  }
  const server = createServer((request, response) => void take(request, response))
  yield* Effect.acquireRelease(
    Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening")),
    () =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const address = server.address()
  if (address === null || typeof address === "string") return yield* Effect.die(new Error("no address"))
  const collector: Collector = {
    url: `http://127.0.0.1:${address.port}`,
    spans,
    requests,
    answer: (response) => response.writeHead(200, { "content-type": "application/json" }).end("{}"),
    spanOf: (condition) =>
      Effect.callback((resume) => {
        const look = () => {
          const span = spans.find(condition)
          if (span === undefined) return
          waiting.delete(look)
          resume(Effect.succeed(span))
        }
        waiting.add(look)
        look()
        return Effect.sync(() => waiting.delete(look))
      })
  }
  return collector
})
