/**
 * A program that sends requests and times the answers, when it is told to: as many at once as there are connections, or
 * at a steady rate whatever the answers take.
 *
 * It speaks HTTP on bare sockets, because a client library would take more of the machine than what is measured.
 */
import { Effect, Schema } from "effect"
import { randomInt } from "node:crypto"
import { connect, type Socket } from "node:net"
import { fileURLToPath } from "node:url"
import { startProgram } from "../childProcess.ts"
import { now } from "../clock.ts"
import { quantiles } from "../statistics.ts"

export type RequestKind = "create" | "edit" | "read"

export interface Order {
  /** Where the API listens. */
  readonly url: string
  readonly kind: RequestKind
  readonly connections: number
  readonly seconds: number
  /** Requests per second; as many as possible unless given. */
  readonly rate?: number
  /** Games that are there to be edited and read. */
  readonly ids: ReadonlyArray<string>
}

const Result = Schema.Struct({
  answers: Schema.Int,
  perSecond: Schema.Finite,
  /** How long answers took, ms; at a steady rate since the request should have been sent. See {@link quantiles}. */
  millis: Schema.Array(Schema.Finite),
  /** What came instead of success, the first few. */
  errors: Schema.Array(Schema.String)
})
export type Answered = typeof Result.Type

const isResult = Schema.is(Result)

/** Starts the program; what it returns carries out an order and waits for all answers. */
export const startHttpLoad = Effect.fnUntraced(function* () {
  const program = yield* startProgram({ name: "the load generator", args: [fileURLToPath(import.meta.url)] })
  return (order: Order) =>
    Effect.andThen(
      program.send({ ...order }),
      program.next((output) => (output._tag === "message" && isResult(output.message) ? output.message : undefined))
    )
})

const requestText = ({ ids, kind, url }: Order, n: number): string => {
  const head = (method: string, path: string) => `${method} ${path} HTTP/1.1\r\nhost: ${new URL(url).host}\r\n`
  const withBody = (start: string, body: unknown) => {
    const text = JSON.stringify(body)
    return `${start}content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
  }
  const id = ids.length === 0 ? "" : ids[randomInt(ids.length)]
  if (kind === "read") return `${head("GET", `/v1/games/${id}`)}\r\n`
  if (kind === "edit") return withBody(head("PATCH", `/v1/games/${id}`), { title: `Renamed ${n}` })
  const scheduled_at = new Date(Date.now() + 86_400_000).toISOString()
  return withBody(head("POST", "/v1/games"), { guild_id: "bench-api", title: `Game ${n}`, scheduled_at })
}

interface Connection {
  /** Sends a request; one at a time. */
  readonly send: (text: string, onAnswer: (status: number, text: string) => void) => void
  readonly close: () => void
}

const headEnd = Buffer.from("\r\n\r\n")

const open = async (url: string): Promise<Connection> => {
  const { hostname, port } = new URL(url)
  const socket: Socket = connect({ host: hostname, port: Number(port), noDelay: true })
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve)
    socket.once("error", reject)
  })
  let buffered: Buffer = Buffer.alloc(0)
  let answer: ((status: number, text: string) => void) | undefined
  socket.on("error", (error) => answer?.(0, String(error)))
  socket.on("close", () => answer?.(0, "the connection was closed"))
  socket.on("data", (chunk: Buffer) => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk])
    const end = buffered.indexOf(headEnd)
    if (end === -1) return
    const head = buffered.toString("latin1", 0, end)
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0)
    const total = end + headEnd.length + length
    if (buffered.length < total) return
    const text = buffered.toString("utf8", end + headEnd.length, total)
    buffered = buffered.subarray(total)
    answer?.(Number(head.slice(9, 12)), text)
  })
  return {
    send: (text, onAnswer) => {
      answer = (status, body) => {
        answer = undefined
        onAnswer(status, body)
      }
      socket.write(text)
    },
    close: () => socket.destroy()
  }
}

const carryOut = async (order: Order): Promise<Answered> => {
  const connections = await Promise.all(Array.from({ length: order.connections }, () => open(order.url)))
  const millis: Array<number> = []
  const errors: Array<string> = []
  const began = now()
  const end = began + order.seconds * 1000
  let sent = 0

  /** Sends a request and waits for its answer; `since` is when it should have been sent. */
  const ask = (connection: Connection, since: number) =>
    new Promise<void>((resolve) => {
      connection.send(requestText(order, sent++), (status, text) => {
        millis.push(now() - since)
        if (status !== 200 && status !== 201 && errors.length < 5) errors.push(`${status} ${text}`)
        resolve()
      })
    })

  const asFastAsPossible = async (connection: Connection) => {
    while (now() < end && errors.length === 0) await ask(connection, now())
  }

  const atRate = async (rate: number) => {
    const idle = [...connections]
    const waiting: Array<number> = []
    const carryOutOne = async (connection: Connection, since: number) => {
      await ask(connection, since)
      idle.push(connection)
      dispatch()
    }
    const dispatch = () => {
      for (;;) {
        const [since] = waiting
        const connection = since === undefined ? undefined : idle.pop()
        if (since === undefined || connection === undefined) return
        waiting.shift()
        void carryOutOne(connection, since)
      }
    }
    for (let due = began; due < end; due += 1000 / rate) {
      const wait = due - now()
      if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait))
      waiting.push(due)
      dispatch()
    }
    while (waiting.length > 0 || idle.length < connections.length) {
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  await (order.rate === undefined ? Promise.all(connections.map(asFastAsPossible)) : atRate(order.rate))
  const seconds = (now() - began) / 1000
  for (const connection of connections) connection.close()
  return { answers: millis.length, perSecond: millis.length / seconds, millis: quantiles(millis), errors }
}

if (import.meta.main) {
  process.on("message", (order: Order) => {
    void carryOut(order).then((answered) => process.send?.(answered))
  })
}
