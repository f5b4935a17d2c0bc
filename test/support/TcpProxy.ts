/**
 * A TCP proxy on the loopback that can go silent: connections stay open and nothing passes any more, as when a cable is
 * cut or a firewall forgets them. New connections are then accepted and never answered.
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

export interface TcpProxy {
  readonly port: number
  /** Lets nothing through, in either direction, until `heal`; the connections of before stay dead. */
  readonly silence: Effect.Effect<void>
  /** Lets new connections through. */
  readonly heal: Effect.Effect<void>
  /** Ends all connections of this moment; new ones go through. */
  readonly cut: Effect.Effect<void>
  /** How many connections are open on the client's side. */
  readonly connections: Effect.Effect<number>
}

/** Forwards a free port to a port of this machine until the scope closes. */
export const makeTcpProxy = (target: number): Effect.Effect<TcpProxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    let silent = false
    const clients = new Set<Net.Socket>()
    const servers = new Set<Net.Socket>()

    const server = Net.createServer((client) => {
      clients.add(client)
      client.once("close", () => clients.delete(client))
      client.on("error", () => {})
      if (silent) return
      const upstream = Net.connect({ host: "127.0.0.1", port: target })
      servers.add(upstream)
      upstream.on("error", () => {})
      upstream.once("close", () => {
        servers.delete(upstream)
        if (!silent) client.destroy()
      })
      client.once("close", () => upstream.destroy())
      client.pipe(upstream, { end: false }).pipe(client, { end: false })
    })

    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of [...clients, ...servers]) socket.destroy()
        })
    )
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0

    return {
      port,
      silence: Effect.sync(() => {
        silent = true
        for (const socket of [...clients, ...servers]) {
          socket.unpipe()
          socket.pause()
        }
      }),
      heal: Effect.sync(() => {
        silent = false
      }),
      cut: Effect.sync(() => {
        for (const socket of [...clients, ...servers]) socket.destroy()
      }),
      connections: Effect.sync(() => clients.size)
    }
  })
