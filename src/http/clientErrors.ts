/**
 * Answers what Node's HTTP parser refuses before there is a request: broken syntax, endless headers, silent clients.
 *
 * Node's own answer has no body; ours is a problem like every other error.
 */
import type { Server } from "node:http"
import type { Duplex } from "node:stream"

const refusals: Readonly<Record<string, readonly [status: number, title: string, detail: string]>> = {
  HPE_HEADER_OVERFLOW: [431, "Request Header Fields Too Large", "The headers are larger than 16 KiB"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "Request Timeout", "The request did not arrive in time"]
}

const unreadable: readonly [status: number, title: string, detail: string] = [
  400,
  "Bad Request",
  "This is not an HTTP request that can be read"
]

/** Makes the server answer refused requests with problems. */
export const answerClientErrors = (server: Server): Server =>
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy()
      return
    }
    const [status, title, detail] = refusals[error.code ?? ""] ?? unreadable
    const body = JSON.stringify({ type: "about:blank", title, status, detail })
    socket.end(
      `HTTP/1.1 ${status} ${title}\r\nContent-Type: application/problem+json\r\n` +
        `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
    )
  })
