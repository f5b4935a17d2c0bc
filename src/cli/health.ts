/**
 * `kickoff health`: asks the service on this machine whether it is ready. What a container's health check runs.
 *
 * It loads neither the database nor the broker client, so it may run every second. A degraded service is ready: it does
 * its work while the broker or the notifications are away.
 */
import { Config, Duration, Effect, Option, Schema } from "effect"
import { Command } from "effect/cli"
import * as Http from "node:http"
import { settings } from "../Settings.ts"

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
    const request = Http.get(url, { agent: false }, (response) => {
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
    paused: Schema.optionalKey(Schema.Array(Schema.Struct({ kind: Schema.String })))
  })
)

/** `ok (database ok, broker ok)`, from the body of `/health/ready`. */
const describe = (body: string): string =>
  Option.match(Schema.decodeUnknownOption(Readiness)(body), {
    onNone: () => "the answer is not that of Kickoff",
    onSome: ({ components, paused = [], status }) => {
      const parts = [
        ...Object.entries(components).map(([name, { state }]) => `${name} ${state}`),
        ...paused.map(({ kind }) => `${kind} paused`)
      ]
      return `${typeof status === "string" ? status : `HTTP ${status}`} (${parts.join(", ")})`
    }
  })

/** The state in one line; fails with {@link NotReady} unless the service is ready. */
export const readiness = (url: string): Effect.Effect<string, NotReady> =>
  Effect.flatMap(get(url), ({ body, status }) =>
    status === 200
      ? Effect.succeed(`${describe(body)}: ${url}`)
      : Effect.fail(new NotReady({ url, detail: status === 503 ? describe(body) : `HTTP ${status}` }))
  )

export const health = Command.make(
  "health",
  {},
  Effect.fnUntraced(function* () {
    const { host, port } = yield* Config.all({ host: settings.httpHost.config, port: settings.httpPort.config })
    const line = yield* readiness(toLocalUrl(host, port))
    yield* Effect.sync(() => process.stdout.write(`${line}\n`))
  })
).pipe(Command.withDescription("Ask the service on this machine whether it is ready: exit 0 if so, else 1"))
