/** Sends requests as they are: any method, any path, any header, also where `fetch` knows better. */
import { Effect } from "effect"
import { Agent, request as send } from "node:http"
import type { GivenAnswer } from "./description.ts"

export interface WrittenRequest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string | Array<string>>>
  /** Its bytes, one character each. */
  readonly body: string | undefined
}

/** Connections are kept and used again, until the scope closes. */
export const makeClient = Effect.fnUntraced(function* (url: string, connections: number) {
  const { hostname, port } = new URL(url)
  const agent = yield* Effect.acquireRelease(
    Effect.sync(() => new Agent({ keepAlive: true, maxSockets: connections })),
    (agent) => Effect.sync(() => agent.destroy())
  )
  return ({ body, headers, method, path }: WrittenRequest): Effect.Effect<GivenAnswer> =>
    Effect.callback((resume) => {
      const fail = (cause: Error) =>
        resume(Effect.die(new Error(`No answer to ${method} ${path} ${JSON.stringify({ headers, body })}`, { cause })))
      const bytes = body === undefined ? undefined : Buffer.from(body, "latin1")
      const length = bytes === undefined ? {} : { "content-length": bytes.length }
      const options = { agent, hostname, port, method, path, headers: { ...headers, ...length } }
      const sent = send(options, (answer) => {
        let text = ""
        answer.setEncoding("utf8")
        answer.on("data", (chunk: string) => {
          text += chunk
        })
        answer.once("end", () =>
          resume(Effect.succeed({ status: answer.statusCode ?? 0, headers: answer.headers, text }))
        )
        answer.once("error", fail)
      })
      sent.once("error", fail)
      sent.end(bytes)
      return Effect.sync(() => sent.destroy())
    })
})
