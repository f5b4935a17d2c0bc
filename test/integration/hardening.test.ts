/** The HTTP server against clients that mean no good: slow ones, endless ones, and those that speak with two tongues. */
import { assert, describe, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Tracer } from "effect"
import { SqlClient } from "effect/sql"
import { hash } from "node:crypto"
import { once } from "node:events"
import * as Net from "node:net"
import { gzipSync } from "node:zlib"
import { digestOf, makeKey, toHash } from "../../src/access/apiKey.ts"
import { HttpServer } from "../../src/http/HttpServer.ts"
import { formatJson } from "../../src/observability/logging.ts"
import { Database } from "../../src/postgres/Database.ts"
import { type Answer, apiLayer, createGame, request, sendRaw, serverLayer, validGame } from "../http/apiServer.ts"
import { eventually, getGame, insertGame } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** A whole request without a body, after which the connection ends. */
const get = (path: string, ...headers: ReadonlyArray<string>) =>
  `GET ${path} HTTP/1.1\r\n${["connection: close", ...headers].join("\r\n")}\r\n\r\n`

const onHost = "host: localhost"

/** An answer as it came: what is in it is as in any other. */
const assertRawProblem = (text: string, status: number) => {
  const [head = "", body = ""] = text.split("\r\n\r\n")
  assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `), text)
  assert.match(head, /^content-type: application\/problem\+json$/im)
  const problem: Readonly<Record<string, unknown>> = JSON.parse(body)
  assert.strictEqual(problem["status"], status)
  for (const member of ["type", "title", "detail"]) assert.isString(problem[member], member)
  return { head, problem }
}

const assertProblem = (answer: Answer, status: number) => {
  assert.strictEqual(answer.status, status, answer.text)
  assert.strictEqual(answer.headers.get("content-type"), "application/problem+json")
}

layer(apiLayer, { excludeTestServices: true })("The HTTP server", (it) => {
  describe("refuses, with a problem,", () => {
    it.effect("a request of HTTP/1.1 that does not say once which host it means", () =>
      Effect.gen(function* () {
        assertRawProblem(yield* sendRaw(get("/health/live")), 400)
        assertRawProblem(yield* sendRaw(get("/health/live", onHost, "host: evil.example")), 400)
        assert.match(yield* sendRaw(get("/health/live", onHost)), /^HTTP\/1\.1 200 /)
        assert.match(yield* sendRaw("GET /health/live HTTP/1.0\r\n\r\n"), /^HTTP\/1\.1 200 /)
      })
    )

    it.effect("an expectation that it does not know, and meets the one that it does", () =>
      Effect.gen(function* () {
        assertRawProblem(yield* sendRaw(get("/health/live", onHost, "expect: miracles")), 417)
        const body = JSON.stringify(validGame)
        const head = `POST /v1/games HTTP/1.1\r\n${onHost}\r\nconnection: close\r\ncontent-type: application/json\r\n`
        const answer = yield* sendRaw(`${head}expect: 100-continue\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
        assert.match(answer, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 201 /)
      })
    )

    it.effect("a tunnel, and goes on in HTTP when asked for another protocol", () =>
      Effect.gen(function* () {
        assertRawProblem(yield* sendRaw("CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n"), 405)
        for (const protocol of ["websocket", "h2c"]) {
          const upgrade = [
            onHost,
            `upgrade: ${protocol}`,
            "sec-websocket-version: 13",
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="
          ]
          const text = `GET /health/live HTTP/1.1\r\nconnection: upgrade, close\r\n${upgrade.join("\r\n")}\r\n\r\n`
          assert.match(yield* sendRaw(text), /^HTTP\/1\.1 200 /, protocol)
        }
      })
    )

    it.effect("a request that two readers could read differently", () =>
      Effect.gen(function* () {
        const post = `POST /v1/games HTTP/1.1\r\n${onHost}\r\ncontent-type: application/json\r\n`
        const smuggled = "GET /v1/games HTTP/1.1\r\nhost: localhost\r\n\r\n"
        for (const text of [
          `${post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
          `${post}content-length: 5\r\ncontent-length: 6\r\n\r\n{}   ${smuggled}`,
          `${post}content-length: -1\r\n\r\n${smuggled}`,
          `${post}content-length: 0x5\r\n\r\n{}   ${smuggled}`,
          `${post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
          `${post}transfer-encoding: chunked\r\n\r\nZ\r\n\r\n${smuggled}`,
          `${post}x: a\n\nb\r\n\r\n${smuggled}`,
          get("/health/live", onHost, "x: a\rset-cookie: b=c"),
          get("/health/live", onHost, "x: a\0b"),
          get("/health/live", onHost, "x : a"),
          get("/health/live", onHost, " folded: a"),
          get("/health/live", onHost, "no colon"),
          get("/health/live\0", onHost),
          get("/health/live a", onHost),
          get("/é", onHost)
        ]) {
          const answer = yield* sendRaw(text)
          assertRawProblem(answer, 400)
          assert.lengthOf(answer.match(/HTTP\/1\.1 /g) ?? [], 1, text)
        }
      })
    )

    it.effect("a body that is packed, without unpacking it", () =>
      Effect.gen(function* () {
        const packed = gzipSync(JSON.stringify({ ...validGame, description: "x".repeat(10_000_000) }))
        assert.isBelow(packed.length, 20_000)
        const head = `POST /v1/games HTTP/1.1\r\n${onHost}\r\nconnection: close\r\ncontent-type: application/json\r\n`
        const length = `content-encoding: gzip\r\ncontent-length: ${packed.length}\r\n\r\n`
        assertRawProblem(yield* sendRaw(Buffer.concat([Buffer.from(head + length), packed])), 415)
      })
    )

    it.effect("a body in which everything is wrong, of which it names a part", () =>
      Effect.gen(function* () {
        const body = Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`member${n}`, n]))
        const answer = yield* request("POST", "/v1/games", { body })
        assertProblem(answer, 400)
        assert.lengthOf(answer.body["errors"] as ReadonlyArray<unknown>, 50)
        assert.isBelow(answer.text.length, 10_000)
      })
    )

    it.effect("a path or headers without end, and takes long ones", () =>
      Effect.gen(function* () {
        assertRawProblem(yield* sendRaw(get(`/${"a".repeat(20_000)}`, onHost)), 431)
        assertRawProblem(yield* sendRaw(get("/health/live", onHost, `x: ${"a".repeat(20_000)}`)), 431)
        const many = Array.from({ length: 3000 }, (_, n) => `x${n}: a`)
        assertRawProblem(yield* sendRaw(get("/health/live", onHost, ...many)), 431)
        assertRawProblem(yield* sendRaw(get(`/${"a".repeat(8000)}`, onHost)), 404)
        assertRawProblem(yield* sendRaw(get(`/v1/games/${"%00".repeat(2000)}`, onHost)), 404)
        assertRawProblem(yield* sendRaw(get(`/v1/games?${"limit=1&".repeat(1000)}`, onHost)), 400)
      })
    )
  })

  describe("every answer", () => {
    it.effect("tells browsers to keep it, frame it and guess at it nowhere, and tells no more of us than it must", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        const removed = yield* createGame()
        const answers = [
          yield* request("GET", `/v1/games/${id}`),
          yield* request("GET", "/v1/games"),
          yield* request("POST", "/v1/games", { body: validGame }),
          yield* request("DELETE", `/v1/games/${removed}`),
          yield* request("POST", "/v1/games", { body: "{" }),
          yield* request("POST", "/v1/games", { body: "x".repeat(100_000) }),
          yield* request("POST", "/v1/games", { body: "x", headers: { "content-type": "text/plain" } }),
          yield* request("GET", "/nothing"),
          yield* request("PUT", "/v1/games", { body: {} }),
          yield* request("GET", "/health/live"),
          yield* request("GET", "/health/ready"),
          yield* request("GET", "/metrics"),
          yield* request("GET", "/openapi.json"),
          yield* request("HEAD", "/openapi.json")
        ]
        assert.sameMembers([...new Set(answers.map(({ status }) => status))], [200, 201, 204, 400, 413, 415, 404, 405])
        const heads = [
          ...answers.map(({ headers }) => [...headers].map(([name, value]) => `${name}: ${value}`).join("\n")),
          yield* sendRaw(get("/")),
          yield* sendRaw("no HTTP\r\n\r\n"),
          yield* sendRaw(get("/", onHost, "expect: miracles"))
        ]
        for (const head of heads) {
          assert.match(head, /^x-content-type-options: nosniff\r?$/m)
          assert.match(head, /^referrer-policy: no-referrer\r?$/m)
          assert.match(head, /^cross-origin-resource-policy: same-origin\r?$/m)
          assert.match(head, /^content-security-policy: default-src 'none'; frame-ancestors 'none'\r?$/m)
          assert.match(head, /^cache-control: no-store\r?$/m)
          assert.notMatch(head, /^(server|x-powered-by|set-cookie|access-control)/im)
        }
      })
    )

    it.effect("of the documentation lets its own style through, and nothing else", () =>
      Effect.gen(function* () {
        const { headers, text } = yield* request("GET", "/docs")
        const style = /<style>([^]*?)<\/style>/.exec(text)?.[1] ?? ""
        const policy = headers.get("content-security-policy") ?? ""
        assert.deepStrictEqual(policy.split("; ").toSorted(), [
          "base-uri 'none'",
          "default-src 'none'",
          "form-action 'none'",
          "frame-ancestors 'none'",
          `style-src 'sha256-${hash("sha256", style, "base64")}'`
        ])
        assert.isAbove(style.length, 100)
        assert.notMatch(text, /<script|<link|<img|<iframe|\sstyle=|\son\w+=|javascript:/i)
        assert.strictEqual(headers.get("x-content-type-options"), "nosniff")
      })
    )

    it.effect("to a page of another origin stays unreadable for it", () =>
      Effect.gen(function* () {
        const origin = { origin: "https://evil.example" }
        const asked = yield* request("OPTIONS", "/v1/games", {
          headers: {
            ...origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type"
          }
        })
        assertProblem(asked, 405)
        for (const answer of [asked, yield* request("GET", "/v1/games", { headers: origin })]) {
          for (const [name] of answer.headers) assert.notMatch(name, /^access-control/)
        }
      })
    )

    it.effect("carries nothing that a request says in its headers", () =>
      Effect.gen(function* () {
        const id = yield* createGame({ title: "a\r\nset-cookie: b=c" })
        const path = `/v1/games/${id}%0d%0aset-cookie:%20b=c`
        for (const text of [
          get(path, onHost),
          get(`/v1/games/${id}`, onHost),
          get(`/%0d%0aset-cookie:%20b=c`, onHost)
        ]) {
          assert.notMatch(yield* sendRaw(text), /^set-cookie/im)
        }
      })
    )
  })
})

/** A connection, what came back on it, and its end. */
const connect = Effect.gen(function* () {
  const { url } = yield* HttpServer
  const ended = yield* Deferred.make<void>()
  const chunks: Array<Buffer> = []
  const socket = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
      socket.on("data", (chunk) => chunks.push(chunk))
      socket.on("error", () => {})
      socket.on("close", () => Deferred.doneUnsafe(ended, Exit.void))
      await once(socket, "connect")
      return socket
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  return {
    send: (text: string) => Effect.sync(() => socket.write(text)),
    ended: Deferred.await(ended),
    received: () => Buffer.concat(chunks).toString(),
    socket
  }
})

const limited = (limits: Parameters<typeof HttpServer.layerWith>[0]) =>
  serverLayer({}, { limits }).pipe(Layer.provideMerge(TestDatabase.layer))

/** Bytes that come one by one, for ever. */
const drip = (send: (text: string) => Effect.Effect<unknown>, text: string) =>
  Effect.forever(Effect.andThen(send(text), Effect.sleep("20 millis")))

layer(limited({ head: 400, request: 800, idle: 1000 }), { excludeTestServices: true })("A slow client", (it) => {
  it.effect("that says nothing is sent away", () =>
    Effect.gen(function* () {
      const { ended, received } = yield* connect
      yield* ended
      assertRawProblem(received(), 408)
    }).pipe(Effect.scoped)
  )

  it.effect("that never comes to the end of its headers is sent away", () =>
    Effect.gen(function* () {
      const { ended, received, send } = yield* connect
      yield* send(`GET /health/live HTTP/1.1\r\n${onHost}\r\nx: `)
      yield* Effect.raceFirst(ended, drip(send, "a"))
      assertRawProblem(received(), 408)
    }).pipe(Effect.scoped)
  )

  it.effect("that never comes to the end of its body is sent away, while others are served", () =>
    Effect.gen(function* () {
      const { ended, received, send } = yield* connect
      yield* send(
        `POST /v1/games HTTP/1.1\r\n${onHost}\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{`
      )
      const dripping = yield* Effect.forkChild(Effect.raceFirst(ended, drip(send, " ")))
      assert.strictEqual((yield* request("POST", "/v1/games", { body: validGame })).status, 201)
      yield* Fiber.join(dripping)
      assertRawProblem(received(), 408)
    }).pipe(Effect.scoped)
  )

  it.effect("that does not take its answers is sent away", () =>
    Effect.gen(function* () {
      const { ended, send, socket } = yield* connect
      socket.pause()
      // More than what the sockets in between hold; writing shows the end, since nothing is read.
      const asking = Effect.forever(
        Effect.andThen(send(`GET /openapi.json HTTP/1.1\r\n${onHost}\r\n\r\n`.repeat(20)), Effect.sleep("50 millis"))
      )
      yield* Effect.raceFirst(ended, asking)
    }).pipe(Effect.scoped)
  )
})

layer(limited({ connections: 3 }), { excludeTestServices: true })("More clients than there is room for", (it) => {
  it.effect("are sent away as they come, and those that are there are served", () =>
    Effect.gen(function* () {
      const first = yield* connect
      yield* connect
      yield* connect
      const late = yield* connect
      yield* late.ended
      yield* first.send(get("/health/live", onHost))
      yield* first.ended
      assert.match(first.received(), /^HTTP\/1\.1 200 /)
      // Its place is free again.
      yield* eventually(
        Effect.catchDefect(request("GET", "/health/live"), () => Effect.succeed({ status: 0 })),
        ({ status }) => status === 200
      )
    }).pipe(Effect.scoped)
  )
})

layer(limited({ answer: 300 }), { excludeTestServices: true })("An answer that takes too long", (it) => {
  it.effect("is 503 with Retry-After, and what was begun is undone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* Database
      const id = yield* createGame()
      const held = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const holding = yield* Effect.forkChild(
        database.transaction(
          Effect.gen(function* () {
            yield* sql`SELECT FROM game_sessions WHERE id = ${id} FOR UPDATE`
            yield* Deferred.succeed(held, undefined)
            yield* Deferred.await(release)
          })
        )
      )
      yield* Deferred.await(held)
      const answer = yield* request("PATCH", `/v1/games/${id}`, { body: { title: "late" } })
      assertProblem(answer, 503)
      assert.strictEqual(answer.headers.get("retry-after"), "2")
      assert.include(answer.text, "took too long")
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holding)
      assert.deepInclude(yield* getGame(id), { title: "a game", version: 1 })
      assert.strictEqual((yield* request("PATCH", `/v1/games/${id}`, { body: { title: "new" } })).status, 200)
    })
  )
})

describe("An API key", () => {
  const [good, bad] = [makeKey(), makeKey()]
  const lines: Array<string> = []
  const spans: Array<string> = []

  /** Notes everything that is said of a span. */
  class NotingSpan extends Tracer.NativeSpan {
    override attribute(key: string, value: unknown): void {
      spans.push(`${this.name} ${key}=${String(value)}`)
      super.attribute(key, value)
    }
    override event(...args: Parameters<Tracer.NativeSpan["event"]>): void {
      spans.push(`${this.name} ${JSON.stringify(args[2])}`)
      super.event(...args)
    }
    override end(...args: Parameters<Tracer.NativeSpan["end"]>): void {
      spans.push(`${this.name} ${String(args[1])} ${JSON.stringify(args[1])}`)
      super.end(...args)
    }
  }

  const noting = Layer.merge(
    Logger.layer([Logger.make((options) => void lines.push(formatJson(options)))]),
    Layer.succeed(Tracer.Tracer, Tracer.make({ span: (options) => new NotingSpan(options) }))
  )

  const keys = [{ name: "bot", hash: toHash(digestOf(good)), scopes: ["read", "write", "operate"] as const }]
  layer(serverLayer({}, { keys }).pipe(Layer.provideMerge(TestDatabase.layer), Layer.provideMerge(noting)), {
    excludeTestServices: true
  })("wherever a client puts it", (it) => {
    it.effect("comes back in no answer, log line, trace or metric", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const texts: Array<string> = []
        const tryKey = Effect.fnUntraced(function* (key: string) {
          const authorization = `Bearer ${key}`
          for (const path of [
            "/v1/games",
            `/v1/games?access_token=${key}`,
            `/v1/games?${key}=1`,
            `/v1/games?cursor=${key}&guild_id=${key}&from=${key}&limit=${key}`,
            `/v1/games/${key}`,
            `/${key}`,
            `/v1/dead-letters/${key}/replay`
          ]) {
            for (const headers of [{}, { authorization }]) {
              const answer = yield* request("GET", path, { headers })
              texts.push(`${answer.text}${JSON.stringify([...answer.headers])}`)
            }
          }
          for (const body of [
            `{"${key}": 1}`,
            { ...validGame, status: key },
            { ...validGame, scheduled_at: key },
            key
          ]) {
            const answer = yield* request("POST", "/v1/games", { body, headers: { authorization } })
            texts.push(`${answer.text}${JSON.stringify([...answer.headers])}`)
          }
          for (const name of ["if-match", "idempotency-key"]) {
            const options = { body: validGame, headers: { authorization, [name]: `${key}${"x".repeat(300)}` } }
            texts.push((yield* request("POST", "/v1/games", options)).text)
          }
          texts.push(yield* sendRaw(get("/v1/games", onHost, `authorization: ${authorization}\0`)))
        })
        yield* tryKey(good)
        yield* tryKey(bad)
        // A fault of ours is told of with everything that helps to find it.
        const id = yield* insertGame(0)
        yield* sql`ALTER TABLE game_sessions RENAME COLUMN title TO name`
        const failed = yield* request("GET", `/v1/games/${id}?key=${good}`, {
          headers: { authorization: `Bearer ${good}` }
        })
        assertProblem(failed, 500)
        assert.isTrue(lines.some((line) => line.includes(`GET /v1/games/${id}?key=kickoff_…`)))
        assert.isNotEmpty(spans)
        texts.push(failed.text, (yield* request("GET", "/metrics")).text)
        for (const text of [...texts, ...lines, ...spans]) {
          for (const key of [good, bad]) {
            assert.notInclude(text, key)
            assert.notInclude(text, key.slice("kickoff_".length))
            assert.notInclude(text, toHash(digestOf(key)).slice("sha256:".length))
          }
        }
      })
    )
  })
})
