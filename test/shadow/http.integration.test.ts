/** The HTTP API in shadow: whoever may read may read, and nobody may change anything. Every route of the definitions is tried. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpApi } from "effect/http-api"
import { digestOf, makeKey, scopes, toHash } from "../../src/access/apiKey.ts"
import { Api } from "../../src/http/api/Api.ts"
import { request, serverLayer, validGame } from "../http/apiServer.ts"
import { insertGame } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const key = makeKey()
const server = serverLayer({ shadow: true }, { keys: [{ name: "client", hash: toHash(digestOf(key)), scopes }] }).pipe(
  Layer.provideMerge(TestDatabase.layer)
)

const uuid = "00000000-0000-4000-8000-000000000000"

const routes: Array<{ readonly method: string; readonly path: string }> = []
HttpApi.reflect(Api, {
  onGroup: () => undefined,
  onEndpoint: ({ endpoint }) => {
    if (endpoint.path.startsWith("/v1/")) {
      routes.push({
        method: endpoint.method,
        path: endpoint.path.replace(":id", uuid).replace(":kind", "notification")
      })
    }
  }
})

layer(server, { excludeTestServices: true })("the API in shadow", (it) => {
  it.effect("refuses every write of whoever may write, by a problem of its own", () =>
    Effect.gen(function* () {
      const writes = routes.filter(({ method }) => method !== "GET")
      assert.isAtLeast(writes.length, 8)
      for (const { method, path } of writes) {
        const body = method === "POST" && path === "/v1/games" ? validGame : method === "DELETE" ? undefined : {}
        const headers = { authorization: `Bearer ${key}` }
        const answer = yield* request(method, path, { headers, ...(body === undefined ? {} : { body }) })
        assert.strictEqual(answer.status, 409, `${method} ${path}: ${answer.text}`)
        assert.strictEqual(answer.body["type"], "urn:kickoff:problem:in-shadow", `${method} ${path}`)
      }
    })
  )

  it.effect("asks for a key first", () =>
    Effect.gen(function* () {
      for (const { method, path } of routes) {
        assert.strictEqual((yield* request(method, path)).status, 401, `${method} ${path}`)
      }
    })
  )

  it.effect("answers what is asked", () =>
    Effect.gen(function* () {
      const game = yield* insertGame(60_000)
      const headers = { authorization: `Bearer ${key}` }
      for (const path of [
        `/v1/games/${game}`,
        `/v1/games/${game}/schedule`,
        "/v1/games",
        "/v1/dead-letters",
        "/v1/pauses"
      ]) {
        assert.strictEqual((yield* request("GET", path, { headers })).status, 200, path)
      }
    })
  )
})
