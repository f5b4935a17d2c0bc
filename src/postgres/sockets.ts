/**
 * Sockets to PostgreSQL that are ours to destroy.
 *
 * On a half-open connection a query is never answered and never fails, and interrupting it or closing its session
 * politely waits for the dead server. Destroying the socket fails whatever waits on it, at once.
 */
import { Option, Redacted } from "effect"
import * as Net from "node:net"

/** Host and port, or the socket file, of a libpq URL. */
const address = (url: Redacted.Redacted): Net.NetConnectOpts => {
  const parsed = new URL(Redacted.value(url))
  const host =
    parsed.searchParams.get("host") ?? (decodeURIComponent(parsed.hostname).replace(/^\[(.*)\]$/, "$1") || "localhost")
  const port = Number(parsed.searchParams.get("port") ?? (parsed.port || 5432))
  return host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port}` } : { host, port, noDelay: true }
}

/** How long a socket may take to show that it is alive after {@link Sockets.destroySilent} was called, ms. */
const lastChance = 250

export interface Sockets {
  /** Opens one, for `PgClientConfig.stream`. */
  readonly open: () => Net.Socket
  /** Destroys those that receive nothing within the next 250 ms; idle ones among them are opened again on demand. */
  readonly destroySilent: () => void
  /** Destroys all of them at once. */
  readonly destroyAll: () => void
}

/** The sockets of one client. */
export const makeSockets = (url: Redacted.Redacted): Sockets => {
  const sockets = new Set<Net.Socket>()
  return {
    open: () => {
      const socket = Net.connect({ ...address(url), keepAlive: true, keepAliveInitialDelay: 10_000 })
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
      return socket
    },
    destroySilent: () => {
      const received = new Map([...sockets].map((socket) => [socket, socket.bytesRead]))
      setTimeout(() => {
        for (const [socket, bytes] of received) {
          if (socket.bytesRead === bytes) socket.destroy(new Error("the server does not answer"))
        }
      }, lastChance)
    },
    destroyAll: () => {
      for (const socket of sockets) socket.destroy(new Error("the server does not answer"))
    }
  }
}

/** The host and port of a URL as a person may read it: no user, no password. */
export const describeAddress = (url: Redacted.Redacted): string =>
  Option.match(Option.liftThrowable(() => new URL(Redacted.value(url)))(), {
    onNone: () => "an unreadable URL",
    onSome: (parsed) =>
      `${parsed.hostname || parsed.searchParams.get("host") || "localhost"}${parsed.port === "" ? "" : `:${parsed.port}`}${parsed.pathname}`
  })
