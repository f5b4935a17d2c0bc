/**
 * Answers what Node refuses before there is a request for us: broken syntax, endless headers, silent clients, unknown
 * expectations, tunnels.
 *
 * Node's own answers have no body, or there are none; ours are problems like every other error.
 */
import type { Server } from "node:http"
import type { Duplex } from "node:stream"
import { guardHeaders } from "./guards.ts"

type Refusal = readonly [status: number, title: string, detail: string]

const refusals: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: [431, "Request Header Fields Too Large", "The headers are larger than 16 KiB"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "Request Timeout", "The request did not arrive in time"]
}

const unreadable: Refusal = [400, "Bad Request", "This is not an HTTP request that can be read"]
const unexpected: Refusal = [417, "Expectation Failed", "The header Expect can only say 100-continue"]
const noTunnels: Refusal = [405, "Method Not Allowed", "This is no proxy"]

/** A whole answer, after which the connection ends. */
const toMessage = ([status, title, detail]: Refusal): string => {
  const body = JSON.stringify({ type: "about:blank", title, status, detail })
  const headers = {
    ...guardHeaders,
    "content-type": "application/problem+json",
    "content-length": String(Buffer.byteLength(body)),
    connection: "close"
  }
  return [
    `HTTP/1.1 ${status} ${title}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "",
    body
  ].join("\r\n")
}

/** Makes the server answer refused requests with problems. */
export const answerClientErrors = (server: Server): Server =>
  server
    .on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
      if (error.code === "ECONNRESET" || !socket.writable) socket.destroy()
      else socket.end(toMessage(refusals[error.code ?? ""] ?? unreadable))
    })
    .on("checkExpectation", ({ socket }) => socket.end(toMessage(unexpected)))
    .on("connect", (_, socket) => socket.end(toMessage(noTunnels)))
