/**
 * `kickoff health`: asks the service on this machine whether it is ready. What a container's health check runs.
 *
 * It loads neither the database nor the broker client, so it may run every second. A degraded service is ready: it does
 * its work while the broker or the notifications are away.
 */
import { Config, Duration, Effect, Option, Schema } from "effect"
import { Command } from "effect/cli"
import { settings } from "../Settings.ts"
import { json, printJson } from "./json.ts"
import { print } from "./terminal.ts"

const patience = Duration.seconds(3)

/** Nothing ready answered on this machine. */
export class NotReady extends Schema.TaggedError<NotReady>()("NotReady", {
  url: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `not ready: ${this.url}: ${this.detail}`
  }
}

interface Answer {
  readonly status: number
  readonly body: string
}

/** A host that stands for every address is asked on this machine's own. */
export const toLocalUrl = (host: string, port: number): string => {
  const bare = host.replace(/^\[(.*)\]$/, "$1")
  const local = bare === "0.0.0.0" ? "127.0.0.1" : /^[0:]+$/.test(bare) ? "::1" : bare
  return `http://${local.includes(":") ? `[${local}]` : local}:${port}/health/ready`
}

const get = (url: string): Effect.Effect<Answer, NotReady> =>
  Effect.callback<Answer, NotReady>((resume) => {
    const fail = (error: Error) => resume(Effect.fail(new NotReady({ url, detail: error.message })))
    // An import would also load Node's fetch, for names that nobody uses: longer than all the rest of this command.
    const request = process.getBuiltinModule("node:http").get(url, { agent: false }, (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("error", fail)
      response.on("end", () =>
        resume(Effect.succeed({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }))
      )
    })
    request.on("error", fail)
    return Effect.sync(() => request.destroy())
  }).pipe(
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.fail(new NotReady({ url, detail: `no answer within ${Duration.format(patience)}` }))
    })
  )

/** The body of `/health/ready`: a status when it is ready, a problem when it is not, the components in both. */
const Readiness = Schema.fromJsonString(
  Schema.Struct({
    status: Schema.Union([Schema.String, Schema.Finite]),
    components: Schema.Record(Schema.String, Schema.Struct({ state: Schema.String })),
    paused: Schema.optionalKey(Schema.Array(Schema.Struct({ kind: Schema.String }))),
    shadow: Schema.optionalKey(Schema.Boolean)
  })
)
type Readiness = typeof Readiness.Type

/** `ok (database ok, broker ok)` */
const describe = ({ components, paused = [], shadow = false, status }: Readiness): string => {
  const parts = [
    ...Object.entries(components).map(([name, { state }]) => `${name} ${state}`),
    ...paused.map(({ kind }) => `${kind} paused`),
    ...(shadow ? ["in shadow"] : [])
  ]
  return `${typeof status === "string" ? status : `HTTP ${status}`} (${parts.join(", ")})`
}

/** What came back from the service, as far as it was from one. */
interface Asked {
  readonly ready: boolean
  readonly detail: string
  readonly said: Option.Option<Readiness>
}

const ask = (url: string): Effect.Effect<Asked> =>
  Effect.match(get(url), {
    onFailure: ({ detail }): Asked => ({ ready: false, detail, said: Option.none() }),
    onSuccess: ({ body, status }): Asked => {
      const said = status === 200 || status === 503 ? Schema.decodeUnknownOption(Readiness)(body) : Option.none()
      const other = status === 200 ? "the answer is not that of Kickoff" : `HTTP ${status}`
      const detail = Option.match(said, { onNone: () => other, onSome: describe })
      return { ready: status === 200 && Option.isSome(said), detail, said }
    }
  })

export const health = Command.make(
  "health",
  { json },
  Effect.fnUntraced(function* ({ json }) {
    const { host, port } = yield* Config.all({ host: settings.httpHost.config, port: settings.httpPort.config })
    const url = toLocalUrl(host, port)
    const { detail, ready, said } = yield* ask(url)
    if (json) {
      const { components, paused = [] } = Option.getOrElse(said, () => ({ components: {}, paused: [] }))
      yield* printJson({ ready, url, detail, components, paused: paused.map(({ kind }) => kind) })
    } else if (ready) yield* print(`${detail}: ${url}`)
    if (!ready) yield* new NotReady({ url, detail })
  })
).pipe(Command.withDescription("Ask the service on this machine whether it is ready: exit 0 if so, else 1"))
