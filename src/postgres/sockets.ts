/**
 * Sockets to PostgreSQL that are ours to destroy.
 *
 * On a half-open connection a query is never answered and never fails, and interrupting it or closing its session
 * politely waits for the dead server. Destroying the socket fails whatever waits on it, at once.
 */
import { Effect, Option, Redacted, Result } from "effect"
import * as Net from "node:net"
import { type CertificateUnusable, toTlsOptions, type TlsOptions } from "../tls/certificates.ts"
import { type Encryption, ofDatabaseUrl } from "../tls/encryption.ts"

/** Host and port, or the socket file, of a libpq URL. */
const address = (url: Redacted.Redacted): Net.NetConnectOpts => {
  const parsed = new URL(Redacted.value(url))
  const host =
    parsed.searchParams.get("host") ?? (decodeURIComponent(parsed.hostname).replace(/^\[(.*)\]$/, "$1") || "localhost")
  const port = Number(parsed.searchParams.get("port") ?? (parsed.port || 5432))
  return host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port}` } : { host, port, noDelay: true }
}

/** The encryption that the settings' URL asks for; they have found it to be readable. */
const encryption = (url: Redacted.Redacted): Option.Option<Encryption> =>
  Result.getOrThrow(ofDatabaseUrl(new URL(Redacted.value(url))))

/**
 * How to encrypt, for the client's `ssl`: always given to it, because the client reads `sslmode` as it likes and no
 * certificate's file at all. Fails when a file cannot be used.
 */
export const readTls = (url: Redacted.Redacted): Effect.Effect<false | TlsOptions, CertificateUnusable> =>
  Option.match(encryption(url), { onNone: () => Effect.succeed(false as const), onSome: toTlsOptions })

/**
 * Startup parameters that let the server notice within ten seconds that our host is gone, and end the session with what it
 * locks. By its defaults it takes two hours, and each vanished process takes its connections away from the others.
 */
export const serverKeepalives = {
  tcp_keepalives_idle: "3",
  tcp_keepalives_interval: "1",
  tcp_keepalives_count: "3",
  tcp_user_timeout: "6000"
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

const verified: Readonly<Record<Encryption["verify"], string>> = {
  nothing: "encrypted, the server is not verified",
  chain: "encrypted, the server's CA is verified",
  host: "encrypted, the server is verified"
}

/** How the connection to a URL is encrypted, as a person may read it; none in clear. */
export const describeEncryption = (url: Redacted.Redacted): Option.Option<string> =>
  Option.map(encryption(url), ({ verify }) => verified[verify])

/** The host and port of a URL as a person may read it: no user, no password. */
export const describeAddress = (url: Redacted.Redacted): string =>
  Option.match(Option.liftThrowable(() => new URL(Redacted.value(url)))(), {
    onNone: () => "an unreadable URL",
    onSome: (parsed) =>
      `${parsed.hostname || parsed.searchParams.get("host") || "localhost"}${parsed.port === "" ? "" : `:${parsed.port}`}${parsed.pathname}`
  })
