import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import { toLocalUrl } from "../../src/cli/health.ts"
import { freePort, runProgram } from "../support/service.ts"

/** A server on this machine that answers everything alike; returns its port. */
const answering = (answer: (response: ServerResponse, path: string) => void) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer((request, response) => answer(response, request.url ?? "")).listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      return { server, port: typeof address === "object" && address !== null ? address.port : 0 }
    }),
    ({ server }) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )

const components = (broker: string, database = "ok") => ({ database: { state: database }, broker: { state: broker } })

const health = (port: number, env: Readonly<Record<string, string>> = {}, ...args: ReadonlyArray<string>) =>
  runProgram({ args: ["health", ...args], env: { HTTP_PORT: String(port), ...env } })

describe.concurrent("kickoff health", { timeout: 30_000 }, () => {
  it.live.each([
    { status: "ok", broker: "ok" },
    { status: "degraded", broker: "away" }
  ])("exits 0 and says so while the service is $status", ({ broker, status }) =>
    Effect.gen(function* () {
      const { port } = yield* answering((response, path) =>
        response
          .writeHead(path === "/health/ready" ? 200 : 404)
          .end(JSON.stringify({ status, components: components(broker) }))
      )
      const { code, stdout, stderr } = yield* health(port)
      assert.deepStrictEqual(
        { code, stdout, stderr },
        {
          code: 0,
          stderr: "",
          stdout: `${status} (database ok, broker ${broker}): http://127.0.0.1:${port}/health/ready\n`
        }
      )
    })
  )

  it.live("exits 0 and says so while a kind is paused", () =>
    Effect.gen(function* () {
      const { port } = yield* answering((response) =>
        response.end(
          JSON.stringify({
            status: "ok",
            components: components("ok"),
            paused: [{ kind: "notification", since: "2026-12-31T20:00:00.000Z" }]
          })
        )
      )
      const { code, stdout } = yield* health(port)
      assert.strictEqual(code, 0)
      assert.match(stdout, /^ok \(database ok, broker ok, notification paused\): /)
    })
  )

  it.live("exits 1 and names the component while the service cannot work", () =>
    Effect.gen(function* () {
      const { port } = yield* answering((response) =>
        response
          .writeHead(503)
          .end(JSON.stringify({ title: "Not ready", status: 503, components: components("ok", "away") }))
      )
      const { code, stdout, stderr } = yield* health(port)
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(stderr, /^kickoff: not ready: .*database away.*\n$/)
    })
  )

  it.live("exits 1 where something else answers", () =>
    Effect.gen(function* () {
      for (const [status, detail] of [
        [404, "HTTP 404"],
        [200, "the answer is not that of Kickoff"]
      ] as const) {
        const { port } = yield* answering((response) => response.writeHead(status).end("{}"))
        const { code, stderr, stdout } = yield* health(port)
        assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
        assert.match(stderr, new RegExp(`^kickoff: not ready: .*: ${detail}\\n$`))
      }
    })
  )

  it.live("prints JSON on request, ready or not", () =>
    Effect.gen(function* () {
      const { port } = yield* answering((response) =>
        response.end(
          JSON.stringify({
            status: "degraded",
            components: components("away"),
            paused: [{ kind: "notification", since: "2026-12-31T20:00:00.000Z" }]
          })
        )
      )
      const url = `http://127.0.0.1:${port}/health/ready`
      const ready = yield* health(port, {}, "--json")
      assert.deepStrictEqual([ready.code, ready.stderr], [0, ""])
      assert.deepStrictEqual(JSON.parse(ready.stdout), {
        ready: true,
        url,
        detail: "degraded (database ok, broker away, notification paused)",
        components: components("away"),
        paused: ["notification"]
      })
      const nobody = yield* freePort
      const away = yield* health(nobody, {}, "--json")
      assert.strictEqual(away.code, 1)
      const { detail, ...rest } = JSON.parse(away.stdout) as Readonly<Record<string, unknown>>
      assert.match(String(detail), /ECONNREFUSED/)
      const asked = `http://127.0.0.1:${nobody}/health/ready`
      assert.deepStrictEqual(rest, { ready: false, url: asked, components: {}, paused: [] })
    })
  )

  it.live("exits 1 where nothing listens", () =>
    Effect.gen(function* () {
      const { code, stdout, stderr } = yield* health(yield* freePort)
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(stderr, /^kickoff: not ready: .*ECONNREFUSED.*\n$/)
    })
  )

  it.live("exits 1 after three seconds without an answer", () =>
    Effect.gen(function* () {
      const { port } = yield* answering(() => {})
      const { code, stderr } = yield* health(port)
      assert.strictEqual(code, 1)
      assert.match(stderr, /no answer within 3s\n$/)
    })
  )

  it.live("asks this machine where the service listens on every address", () =>
    Effect.gen(function* () {
      const { port } = yield* answering((response) =>
        response.end(JSON.stringify({ status: "ok", components: components("ok") }))
      )
      const { code } = yield* health(port, { HTTP_HOST: "0.0.0.0" })
      assert.strictEqual(code, 0)
    })
  )

  it.each([
    ["0.0.0.0", "http://127.0.0.1:3000/health/ready"],
    ["::", "http://[::1]:3000/health/ready"],
    ["[::]", "http://[::1]:3000/health/ready"],
    ["::1", "http://[::1]:3000/health/ready"],
    ["10.1.2.3", "http://10.1.2.3:3000/health/ready"],
    ["kickoff.internal", "http://kickoff.internal:3000/health/ready"]
  ])("asks for %s at %s", (host, url) => {
    assert.strictEqual(toLocalUrl(host, 3000), url)
  })
})
