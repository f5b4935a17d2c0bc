/**
 * Encrypted connections, on a PostgreSQL and a RabbitMQ of this file's own with certificates of a CA that nobody knows.
 *
 * The servers' certificate is for `localhost` alone, so `127.0.0.1` is the wrong host.
 */
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Queue, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { once } from "node:events"
import * as Net from "node:net"
import { inject } from "vitest"
import { openLink } from "../../src/messaging/link.ts"
import { Health } from "../../src/observability/Health.ts"
import { Database, describeSqlError } from "../../src/postgres/Database.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import { channels } from "../../src/postgres/channels.ts"
import { consumeExchange, readEvent } from "../messaging/consumer.ts"
import { type Certificates, makeCertificates } from "../support/certificates.ts"
import { eventually } from "../support/games.ts"
import { embeddedBinaries, startPostgres } from "../support/postgres.ts"
import { makeBroker } from "../support/rabbitmq.ts"
import { runProgram, startService } from "../support/service.ts"
import { makeTcpProxy } from "../support/TcpProxy.ts"

interface Servers {
  readonly certificates: Certificates
  /** On `localhost`, with a query of its own. */
  readonly database: (query: string, at?: { readonly host?: string; readonly port?: number }) => Redacted.Redacted
  readonly broker: (query: string, at?: { readonly host?: string; readonly port?: number }) => Redacted.Redacted
  /** The broker in clear, for what tests do behind Kickoff's back. */
  readonly brokerInClear: string
}

class TlsServers extends Context.Service<TlsServers, Servers>()("kickoff/test/integration/TlsServers") {
  static readonly layer = Layer.effect(
    TlsServers,
    Effect.gen(function* () {
      const certificates = yield* makeCertificates
      const { ca, server } = certificates
      const acquire = <S extends { readonly stop: () => Promise<void> }>(start: () => Promise<S>) =>
        Effect.acquireRelease(Effect.promise(start), ({ stop }) => Effect.promise(stop))
      const [postgres, rabbitmq] = yield* Effect.all(
        [
          acquire(async () =>
            startPostgres(await embeddedBinaries(), {
              ssl: "on",
              ssl_cert_file: server.cert,
              ssl_key_file: server.key,
              ssl_ca_file: ca
            })
          ),
          acquire(() => makeBroker({ tls: { ca, server } }))
        ],
        { concurrency: "unbounded" }
      )
      const at = (text: string, query: string, { host = "localhost", port }: { host?: string; port?: number } = {}) => {
        const url = new URL(text)
        url.hostname = host
        url.search = query
        if (port !== undefined) url.port = String(port)
        return Redacted.make(url.href)
      }
      const encrypted = new URL(rabbitmq.url)
      encrypted.port = String(rabbitmq.tlsPort)
      return {
        certificates,
        database: (query, where) => at(postgres.url, query, where),
        broker: (query, where) => at(encrypted.href.replace("amqp://", "amqps://"), query, where),
        brokerInClear: rabbitmq.url
      }
    })
  )
}

/** Whether the session of this very query is encrypted. */
const isEncrypted = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ readonly ssl: boolean }>`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`
    return row?.ssl
  }).pipe(Effect.provide(Database.layer({ url, connections: 1, name: "test" })))

/** The sessions of other clients whose name is like this, and whether all of that name are encrypted. */
const sessionsOf = (pattern: string) =>
  Effect.gen(function* () {
    const { database } = yield* TlsServers
    return yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      return yield* sql<{ readonly name: string; readonly ssl: boolean }>`
        SELECT split_part(application_name, '@', 1) AS name, bool_and(ssl) AS ssl
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name LIKE ${pattern} AND pid <> pg_backend_pid()
        GROUP BY 1 ORDER BY 1`
    }).pipe(Effect.provide(Database.layer({ url: database(""), connections: 1, name: "test" })))
  })

/** Why no connection to the database came about. */
const refusal = (url: Redacted.Redacted) => Effect.map(Effect.flip(isEncrypted(url)), describeSqlError)

/** Opens a link to the broker and closes it again. */
const link = (url: Redacted.Redacted) =>
  openLink({ url, exchange: "test.tls", window: 1, onRoom: () => {}, onStatus: () => {} }).pipe(
    Effect.tap(({ close }) => close)
  )

/** A server that gives one answer to whatever it hears; what it heard, and when the first connection is over. */
const makeMute = (answer: string) =>
  Effect.gen(function* () {
    const chunks: Array<Buffer> = []
    const closed = yield* Deferred.make<void>()
    const server = Net.createServer((socket) => {
      socket.on("error", () => {})
      socket.on("close", () => Deferred.doneUnsafe(closed, Exit.void))
      socket.on("data", (chunk) => {
        chunks.push(chunk)
        socket.write(answer)
      })
    })
    yield* Effect.acquireRelease(
      Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening")),
      () => Effect.sync(() => server.close())
    )
    const address = server.address()
    return {
      port: typeof address === "object" && address !== null ? address.port : 0,
      heard: () => Buffer.concat(chunks),
      closed: Deferred.await(closed)
    }
  })

/** The eight bytes that ask for encryption: https://www.postgresql.org/docs/current/protocol-message-formats.html */
const sslRequest = Buffer.from("0000000804d2162f", "hex")

layer(TlsServers.layer, { excludeTestServices: true, timeout: 120_000 })("Encryption", (it) => {
  it.effect("of the database is what sslmode says, with the CA of sslrootcert", () =>
    Effect.gen(function* () {
      const { certificates, database } = yield* TlsServers
      const ip = { host: "127.0.0.1" }
      assert.isFalse(yield* isEncrypted(database("")))
      assert.isFalse(yield* isEncrypted(database("sslmode=disable")))
      for (const url of [
        database("sslmode=require"),
        database("sslmode=require", ip),
        database("ssl=true"),
        database(`sslmode=require&sslrootcert=${certificates.ca}`, ip),
        database(`sslmode=verify-ca&sslrootcert=${certificates.ca}`, ip),
        database(`sslmode=verify-full&sslrootcert=${certificates.ca}`)
      ]) {
        assert.isTrue(yield* isEncrypted(url), Redacted.value(url))
      }
    })
  )

  it.effect("of the database is refused, with the reason, to a server of an unknown CA or of another name", () =>
    Effect.gen(function* () {
      const { certificates, database } = yield* TlsServers
      const unknownCa = /^the server's certificate is not signed by a CA that is trusted here; .*sslrootcert/
      for (const url of [
        database("sslmode=verify-full"),
        database("sslmode=verify-full&sslrootcert=system"),
        database(`sslmode=verify-full&sslrootcert=${certificates.otherCa}`),
        database(`sslmode=verify-ca&sslrootcert=${certificates.otherCa}`),
        database(`sslmode=require&sslrootcert=${certificates.otherCa}`)
      ]) {
        assert.match(yield* refusal(url), unknownCa)
      }
      assert.match(
        yield* refusal(database(`sslmode=verify-full&sslrootcert=${certificates.ca}`, { host: "127.0.0.1" })),
        /^the server's certificate is for another host \(.*127\.0\.0\.1/
      )
    })
  )

  it.effect("of the database is never given up for a server that says it cannot: not a byte is sent in clear", () =>
    Effect.gen(function* () {
      const { certificates } = yield* TlsServers
      const { heard, port } = yield* makeMute("N")
      const modes = [
        "sslmode=require",
        "ssl=true",
        "sslmode=verify-full",
        `sslmode=verify-ca&sslrootcert=${certificates.ca}`
      ]
      for (const [n, query] of modes.entries()) {
        const url = Redacted.make(`postgres://kickoff:s3cret@localhost:${port}/kickoff?${query}`)
        assert.include(yield* refusal(url), "does not support TLS")
        assert.deepStrictEqual(heard(), Buffer.concat(Array.from({ length: n + 1 }, () => sslRequest)), query)
      }
      // A server that really cannot is told of likewise.
      const plain = new URL(inject("postgresUrl"))
      plain.search = "sslmode=require"
      assert.include(yield* refusal(Redacted.make(plain.href)), "does not support TLS")
    }).pipe(Effect.scoped)
  )

  it.effect("of the session that listens is lost with a network that goes silent, and found again", () =>
    Effect.gen(function* () {
      const { certificates, database } = yield* TlsServers
      const query = `sslmode=verify-full&sslrootcert=${certificates.ca}`
      const direct = new URL(Redacted.value(database(query)))
      const proxy = yield* makeTcpProxy(Number(direct.port))
      const context = yield* Layer.build(
        Listener.layer(database(query, { port: proxy.port })).pipe(
          Layer.provideMerge(Health.layer),
          Layer.provideMerge(Logger.layer([]))
        )
      )
      const listener = Context.get(context, Listener)
      const hints = yield* listener.subscribe(channels.outbox)
      yield* Effect.forkScoped(Effect.provide(listener.run, context))
      assert.strictEqual((yield* Queue.take(hints)).cause, "reconnect")
      assert.deepStrictEqual(yield* sessionsOf("kickoff:listener@%"), [{ name: "kickoff:listener", ssl: true }])
      yield* proxy.silence
      assert.strictEqual((yield* Queue.take(hints)).cause, "lost")
      yield* proxy.heal
      assert.strictEqual((yield* Queue.take(hints)).cause, "reconnect")
    }).pipe(Effect.scoped)
  )

  it.effect("of a query that the network has swallowed ends with its deadline", () =>
    Effect.gen(function* () {
      const { database } = yield* TlsServers
      const proxy = yield* makeTcpProxy(Number(new URL(Redacted.value(database(""))).port))
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { within } = yield* Database
        yield* within(Duration.seconds(5))(sql`SELECT 1`)
        yield* proxy.silence
        const lost = yield* Effect.flip(within(Duration.millis(100))(sql`SELECT 1`))
        assert.strictEqual(describeSqlError(lost), "the server does not answer")
      }).pipe(
        Effect.provide(
          Database.layer({ url: database("sslmode=require", { port: proxy.port }), connections: 1, name: "test" })
        )
      )
    }).pipe(Effect.scoped)
  )

  it.effect(
    "of the broker takes its CA from cacertfile, and shows a certificate of its own to a broker that asks",
    () =>
      Effect.gen(function* () {
        const { broker, certificates } = yield* TlsServers
        const { ca, client } = certificates
        yield* link(broker(`cacertfile=${ca}`))
        yield* link(broker(`cacertfile=${ca}&certfile=${client.cert}&keyfile=${client.key}`))
      })
  )

  it.effect("of the broker is refused, with the reason and for good, to one of an unknown CA or of another name", () =>
    Effect.gen(function* () {
      const { broker, certificates } = yield* TlsServers
      for (const query of ["", `cacertfile=${certificates.otherCa}`]) {
        const failed = yield* Effect.flip(link(broker(query)))
        assert.isTrue(failed.permanent)
        assert.match(
          failed.message,
          /^the server's certificate is not signed by a CA that is trusted here; .*cacertfile/
        )
      }
      const failed = yield* Effect.flip(link(broker(`cacertfile=${certificates.ca}`, { host: "127.0.0.1" })))
      assert.isTrue(failed.permanent)
      assert.match(failed.message, /^the server's certificate is for another host/)
    })
  )

  it.effect("of a link to a broker that says nothing is given up with its socket", () =>
    Effect.gen(function* () {
      const { broker } = yield* TlsServers
      const { closed, heard, port } = yield* makeMute("")
      const opening = yield* Effect.forkChild(link(broker("", { port })))
      yield* eventually(Effect.sync(heard), ({ length }) => length > 0)
      yield* Fiber.interrupt(opening)
      yield* closed
    }).pipe(Effect.scoped)
  )

  it.effect(
    "holds for every session of the service, from the plan of a game to the event that tells of its start",
    () =>
      Effect.gen(function* () {
        const { broker, brokerInClear, certificates, database } = yield* TlsServers
        const query = `sslmode=verify-full&sslrootcert=${certificates.ca}`
        const env = {
          DATABASE_URL: Redacted.value(database(query)),
          RABBITMQ_URL: Redacted.value(broker(`cacertfile=${certificates.ca}`)),
          RABBITMQ_EXCHANGE: "test.tls.service"
        }
        const service = yield* startService({ env })
        assert.match(service.stdout(), /Database: localhost:\d+\/postgres, encrypted, the server is verified/)
        const messages = yield* consumeExchange(brokerInClear, "test.tls.service")
        const scheduled_at = new Date(Date.now() + 1000).toISOString()
        const planned = yield* service.post("/v1/games", { guild_id: "g", title: "encrypted", scheduled_at })
        assert.strictEqual(planned.status, 201)
        for (const type of ["game.created", "game.started"]) {
          assert.strictEqual(readEvent(yield* Queue.take(messages)).type, type)
        }
        const sessions = yield* sessionsOf("kickoff:%")
        assert.isAtLeast(sessions.length, 5, JSON.stringify(sessions))
        assert.isTrue(
          sessions.every(({ ssl }) => ssl),
          JSON.stringify(sessions)
        )
        const doctor = yield* runProgram({ args: ["doctor"], env })
        assert.match(doctor.stdout, /^ok {6}LISTEN: notifications come back$/m)
        assert.match(doctor.stdout, /^ok {6}broker: reachable/m)
        assert.deepStrictEqual(yield* service.stop, { code: 0, signal: null })
      }).pipe(Effect.scoped),
    60_000
  )

  it.effect(
    "that cannot be had ends the start in one line: exit code 2 for a bad file, 1 for a bad certificate",
    () =>
      Effect.gen(function* () {
        const { broker, certificates, database } = yield* TlsServers
        const DATABASE_URL = Redacted.value(database(""))
        const files = yield* Effect.forEach(
          [
            { DATABASE_URL: Redacted.value(database("sslmode=verify-full&sslrootcert=/no/ca.pem")) },
            { DATABASE_URL, DATABASE_LISTEN_URL: Redacted.value(database("sslmode=verify-ca&sslrootcert=/no/ca.pem")) },
            { DATABASE_URL, RABBITMQ_URL: Redacted.value(broker("cacertfile=/no/ca.pem")) }
          ],
          (env) =>
            Effect.map(runProgram({ env }), ({ code, stderr }) => ({
              code,
              stderr,
              variable: Object.keys(env).at(-1)
            })),
          { concurrency: "unbounded" }
        )
        for (const { code, stderr, variable } of files) {
          assert.deepStrictEqual(
            { code, stderr },
            { code: 2, stderr: `kickoff: ${variable}: /no/ca.pem: cannot be read (ENOENT)\n` }
          )
        }
        const untrusted = yield* Effect.forEach(
          [
            { DATABASE_URL: Redacted.value(database(`sslmode=verify-full&sslrootcert=${certificates.otherCa}`)) },
            { DATABASE_URL, RABBITMQ_URL: Redacted.value(broker(`cacertfile=${certificates.otherCa}`)) }
          ],
          (env) => runProgram({ env: { ...env, LOG_FORMAT: "pretty", HTTP_PORT: "0" } }),
          { concurrency: "unbounded" }
        )
        for (const { code, stderr } of untrusted) {
          assert.strictEqual(code, 1, stderr)
          assert.match(
            stderr,
            /^\S+ fatal (DATABASE|RABBITMQ)_URL: .*certificate is not signed by a CA that is trusted.*\n$/
          )
        }
      }),
    60_000
  )
})
