/**
 * A TCP proxy on the loopback that can go silent, as when a cable is cut or a firewall forgets its connections, or slow, as
 * over a bad line. It can also lead to another server, as an address does whose server was replaced.
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"

export interface TcpProxy {
  readonly port: number
  /**
   * Lets nothing through, in either direction, until `heal`; the connections of before stay open and dead. New ones are
   * accepted and never answered.
   */
  readonly silence: Effect.Effect<void>
  /** Holds everything that arrives back for so many milliseconds, in its order, until `heal`. */
  readonly slow: (delay: () => number) => Effect.Effect<void>
  /** Lets new connections through, and everything at once; those that went silent stay open and dead. */
  readonly heal: Effect.Effect<void>
  /** Lets either end of a dead connection learn that the other has closed it, as from packets that are sent again. */
  readonly tellOfClosed: Effect.Effect<void>
  /** Ends all connections of this moment; new ones go through. */
  readonly cut: Effect.Effect<void>
  /** Leads new connections to another port, and ends those of this moment. */
  readonly redirect: (target: number) => Effect.Effect<void>
  /** How many connections are open on the client's side. */
  readonly connections: Effect.Effect<number>
}

/** Forwards a free port to a port of this machine until the scope closes. */
export const makeTcpProxy = (firstTarget: number): Effect.Effect<TcpProxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    let target = firstTarget
    let silent = false
    let delay: (() => number) | undefined
    const clients = new Set<Net.Socket>()
    const servers = new Set<Net.Socket>()
    /** Those that were open when it went silent. */
    const dead = new WeakSet<Net.Socket>()

    /** Passes on what arrives; returns how to do something when all of it has left. */
    const forward = (from: Net.Socket, to: Net.Socket) => {
      const held: Array<() => void> = []
      let lastLeaves = 0
      const pass = (act: () => void) => {
        const now = performance.now()
        if (delay === undefined && held.length === 0) return act()
        lastLeaves = Math.max(lastLeaves, now + (delay?.() ?? 0))
        held.push(act)
        // Whichever timer is first, the first of them leaves.
        setTimeout(() => held.shift()?.(), lastLeaves - now)
      }
      const write = (chunk: Buffer) => {
        if (dead.has(from) || to.write(chunk) || from.isPaused()) return
        from.pause()
        to.once("drain", () => {
          if (!dead.has(from)) from.resume()
        })
      }
      from.on("data", (chunk: Buffer) => pass(() => write(chunk)))
      return pass
    }

    const server = Net.createServer((client) => {
      clients.add(client)
      client.once("close", () => clients.delete(client))
      client.on("error", () => {})
      if (silent) return
      const upstream = Net.connect({ host: "127.0.0.1", port: target })
      servers.add(upstream)
      upstream.on("error", () => {})
      const passToClient = forward(upstream, client)
      const passToServer = forward(client, upstream)
      upstream.once("close", () => {
        servers.delete(upstream)
        if (!silent) passToClient(() => client.destroy())
      })
      client.once("close", () => passToServer(() => upstream.destroy()))
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

    const destroyAll = () => {
      for (const socket of [...clients, ...servers]) socket.destroy()
    }

    return {
      port,
      silence: Effect.sync(() => {
        silent = true
        for (const socket of [...clients, ...servers]) {
          dead.add(socket)
          socket.pause()
        }
      }),
      slow: (milliseconds) =>
        Effect.sync(() => {
          delay = milliseconds
        }),
      heal: Effect.sync(() => {
        silent = false
        delay = undefined
      }),
      // What they read is thrown away.
      tellOfClosed: Effect.sync(() => {
        for (const socket of [...clients, ...servers]) if (dead.has(socket)) socket.resume()
      }),
      cut: Effect.sync(destroyAll),
      redirect: (to) =>
        Effect.sync(() => {
          target = to
          destroyAll()
        }),
      connections: Effect.sync(() => clients.size)
    }
  })
