/**
 * Who may do what through the HTTP API, tried by those who may not.
 *
 * Every route of the definitions is tried, so a new one cannot be forgotten.
 */
import { assert, describe, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { HttpApi } from "effect/http-api"
import { SqlClient } from "effect/sql"
import { type ApiKey, digestOf, makeKey, type Scope, scopes, toHash } from "../../src/access/apiKey.ts"
import { Api } from "../../src/http/api/Api.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { Database } from "../../src/postgres/Database.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { type Answer, request, sendRaw, serverLayer, validGame } from "../http/apiServer.ts"
import { parkEvent, parkReminder } from "../support/deadLetters.ts"
import { eventually, getGame } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const everything: ReadonlyArray<Scope> = scopes

const makeClient = (name: string, scopes: ReadonlyArray<Scope>, guilds?: ReadonlyArray<string>) => {
  const key = makeKey()
  const entry: ApiKey = { name, hash: toHash(digestOf(key)), scopes, ...(guilds === undefined ? {} : { guilds }) }
  return { key, entry }
}

const clients = {
  admin: makeClient("admin", everything),
  other: makeClient("other", everything),
  red: makeClient("red", everything, ["red"]),
  blue: makeClient("blue", everything, ["blue"]),
  both: makeClient("both", everything, ["red", "blue"]),
  read: makeClient("reader", ["read"]),
  write: makeClient("writer", ["write"]),
  operate: makeClient("operator", ["operate"])
}
type Client = keyof typeof clients

const entries = Object.values(clients).map(({ entry }) => entry)

const server = Layer.mergeAll(
  serverLayer({ rateLimit: 1_000_000 }, { keys: entries }),
  StatusTransitionRepository.layer,
  NotificationRepository.layer,
  OutboxRepository.layer
).pipe(Layer.provideMerge(TestDatabase.layer))

/** A request of a client, with its key. */
const as = (
  client: Client,
  method: string,
  path: string,
  options: { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> } = {}
) =>
  request(method, path, {
    ...options,
    headers: { authorization: `Bearer ${clients[client].key}`, ...options.headers }
  })

const assertProblem = (answer: Answer, status: number) => {
  assert.strictEqual(answer.status, status, answer.text)
  assert.strictEqual(answer.headers.get("content-type"), "application/problem+json")
  assert.strictEqual(answer.body["status"], status)
  for (const member of ["type", "title", "detail"]) assert.isString(answer.body[member], member)
}

const unknownId = "0195fa10-1c1f-7d5e-8a4e-0123456789ab"

interface Route {
  readonly method: string
  readonly path: string
}

/** Every route of the API's definitions; ids are those of nobody. */
const routes: ReadonlyArray<Route> = (() => {
  const found: Array<Route> = []
  HttpApi.reflect(Api, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint }) =>
      found.push({
        method: endpoint.method,
        path: endpoint.path.replace(":kind", "notification").replaceAll(/:[a-z_]+/g, unknownId)
      })
  })
  return found
})()
const guarded = routes.filter(({ path }) => path.startsWith("/v1/"))
const open = [
  ...routes.filter(({ path }) => !path.startsWith("/v1/")),
  ...["/docs", "/openapi.json"].map((path) => ({ method: "GET", path }))
]

/** A good body for a route that takes one. */
const bodyOf = ({ method, path }: Route) =>
  method === "PATCH"
    ? { title: "new" }
    : method === "PUT"
      ? {}
      : method === "POST" && path === "/v1/games"
        ? validGame
        : undefined

const send = (route: Route, headers: Readonly<Record<string, string>>) => {
  const body = bodyOf(route)
  return request(route.method, route.path, { headers, ...(body === undefined ? {} : { body }) })
}

const countGames = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly count: number }>`SELECT count(*)::int AS count FROM game_sessions`
  return row?.count
})

/** Plans a game in a guild and returns its id. */
const planIn = (guild_id: string) =>
  Effect.map(as("admin", "POST", "/v1/games", { body: { ...validGame, reminder_minutes: [], guild_id } }), ({ body }) =>
    String(body["id"])
  )

const idsOf = (answer: Answer, member: "games" | "dead_letters"): ReadonlyArray<string> => {
  assert.strictEqual(answer.status, 200, answer.text)
  const items = answer.body[member]
  assert.isArray(items)
  return (items as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id)
}

layer(server, { excludeTestServices: true })("The HTTP API with keys", (it) => {
  describe("without a good key", () => {
    const { admin } = clients
    const credentials: ReadonlyArray<readonly [what: string, headers: Readonly<Record<string, string>>]> = [
      ["no header", {}],
      ["an empty one", { authorization: "" }],
      ["no key", { authorization: "Bearer" }],
      ["a key of nobody", { authorization: `Bearer ${makeKey()}` }],
      ["no scheme", { authorization: admin.key }],
      ["another scheme", { authorization: `Basic ${Buffer.from(`admin:${admin.key}`).toString("base64")}` }],
      ["a part of a key", { authorization: `Bearer ${admin.key.slice(0, -1)}` }],
      ["more than a key", { authorization: `Bearer ${admin.key}a` }],
      ["a key in capitals", { authorization: `Bearer ${admin.key.toUpperCase()}` }],
      ["the hash of a key", { authorization: `Bearer ${admin.entry.hash}` }],
      [
        "the digest of a key in its form",
        { authorization: `Bearer kickoff_${Buffer.from(admin.entry.hash.slice(7), "hex").toString("base64url")}` }
      ],
      ["two keys in one", { authorization: `Bearer ${admin.key}, Bearer ${admin.key}` }],
      ["a key and a parameter", { authorization: `Bearer ${admin.key}; scope=read` }],
      ["a key in a cookie", { cookie: `api_key=${admin.key}; authorization=Bearer ${admin.key}` }],
      ["a key in a header of others", { "x-api-key": admin.key, "proxy-authorization": `Bearer ${admin.key}` }],
      ["a very long key", { authorization: `Bearer kickoff_${"a".repeat(8000)}` }]
    ]
    it.effect.each(credentials)("%s opens nothing, and changes nothing", ([, headers]) =>
      Effect.gen(function* () {
        const before = yield* countGames
        for (const route of guarded) {
          const answer = yield* send(route, headers)
          assertProblem(answer, 401)
          assert.strictEqual(answer.headers.get("www-authenticate"), 'Bearer realm="kickoff"')
          assert.strictEqual(answer.body["type"], "urn:kickoff:problem:unauthorized")
          assert.notInclude(answer.text, admin.key)
        }
        assert.strictEqual(yield* countGames, before)
      })
    )

    it.effect("a key in the query or in the body opens nothing", () =>
      Effect.gen(function* () {
        for (const name of ["access_token", "api_key", "key", "authorization", "token"]) {
          assertProblem(yield* request("GET", `/v1/games?${name}=${admin.key}`), 401)
          assertProblem(yield* request("GET", `/v1/games?${name}=Bearer%20${admin.key}`), 401)
          assertProblem(yield* request("POST", "/v1/games", { body: { ...validGame, [name]: admin.key } }), 401)
        }
      })
    )

    it.effect("the header Authorization twice opens nothing, because two readers might take different ones", () =>
      Effect.gen(function* () {
        const [good, bad] = [`authorization: Bearer ${admin.key}`, `authorization: Bearer ${makeKey()}`]
        for (const headers of [
          [good, bad],
          [bad, good],
          [good, good],
          [good, "authorization:"],
          [good, "Authorization: Basic eDp5"]
        ]) {
          const text = `GET /v1/games HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${headers.join("\r\n")}\r\n\r\n`
          assert.match(yield* sendRaw(text), /^HTTP\/1\.1 401 /, headers.join(" "))
        }
        const once = `GET /v1/games HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${good}\r\n\r\n`
        assert.match(yield* sendRaw(once), /^HTTP\/1\.1 200 /)
      })
    )

    it.effect("nothing of a body is waited for or judged", () =>
      Effect.gen(function* () {
        const head = "POST /v1/games HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        const announced = `${head}content-type: application/json\r\ncontent-length: 60000\r\n\r\n`
        assert.match(yield* sendRaw(announced), /^HTTP\/1\.1 401 /)
        assertProblem(yield* request("POST", "/v1/games", { body: "{" }), 401)
        assertProblem(yield* request("POST", "/v1/games", { body: "x".repeat(100_000) }), 401)
        assertProblem(yield* request("GET", "/v1/games/1"), 401)
      })
    )

    it.effect("health, metrics and documentation are open, whatever key comes with the request", () =>
      Effect.gen(function* () {
        assert.includeMembers(
          open.map(({ path }) => path),
          ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"]
        )
        for (const { method, path } of open) {
          for (const headers of [{}, { authorization: `Bearer ${makeKey()}` }]) {
            assert.strictEqual((yield* request(method, path, { headers })).status, 200, path)
          }
        }
      })
    )

    it.effect("no way of writing a path leads around the key", () =>
      Effect.gen(function* () {
        const id = yield* planIn("red")
        const paths = [
          "/v1/games",
          "//v1/games",
          "/v1//games",
          "/v1/games/",
          "/v1/games//",
          "/V1/games",
          "/v1/GAMES",
          "/v1/%67ames",
          "/%76%31/games",
          "/v1%2fgames",
          "/v1%2Fgames%2F",
          "/v1/games%00",
          "/v1/games/%00",
          "/v1/games%20",
          "/v1/games;a=b",
          "/v1/games.json",
          "/v1/./games",
          "/v1/x/../games",
          "/v1/x/%2e%2e/games",
          "/v1/%2e/games",
          "/health/live/../../v1/games",
          "/health/%2e%2e/v1/games",
          "/docs/..%2fv1/games",
          "/docs%2f..%2fv1%2fgames",
          "/metrics/..;/v1/games",
          "\\v1\\games",
          "/v1\\games",
          "http://localhost/v1/games",
          "http://evil.example/v1/games",
          "/v1/games?/health/live",
          "/v1/games#/health/live",
          `/v1/games/${id}`,
          `/v1/games/${id}/`,
          `/v1/games//${id}`,
          `/v1/games/${id.toUpperCase()}`,
          `/v1/games/%${id.charCodeAt(0).toString(16)}${id.slice(1)}`,
          `/v1/games/${id}%2fschedule`,
          `/v1/games/${id}/../${id}`,
          `/v1/dead-letters`,
          `/v1/%64ead-letters`
        ]
        for (const path of paths) {
          const answer = yield* sendRaw(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
          assert.match(answer, /^HTTP\/1\.1 (400|401|404) /, path)
          assert.notInclude(answer, id, path)
        }
      })
    )
  })

  describe("a key's scopes", () => {
    it.effect.each(scopes)("%s alone open the routes that need it, and no others", (scope) =>
      Effect.gen(function* () {
        let opened = 0
        for (const route of guarded) {
          const needed = /^\/v1\/(dead-letters|pauses)/.test(route.path)
            ? "operate"
            : route.method === "GET"
              ? "read"
              : "write"
          const answer = yield* send(route, { authorization: `Bearer ${clients[scope].key}` })
          if (scope === needed) {
            opened++
            assert.include([200, 201, 204, 404], answer.status, `${route.method} ${route.path}`)
          } else {
            assertProblem(answer, 403)
            assert.strictEqual(answer.body["type"], "urn:kickoff:problem:forbidden")
            assert.include(answer.body["detail"], `scope ${needed}`)
          }
        }
        assert.isAbove(opened, 0)
      })
    )

    it.effect("are judged by the method of the request, whatever else names another one", () =>
      Effect.gen(function* () {
        const id = yield* planIn("red")
        for (const name of ["x-http-method-override", "x-http-method", "x-method-override"]) {
          assertProblem(yield* as("read", "POST", `/v1/games/${id}/cancel`, { headers: { [name]: "GET" } }), 403)
          assertProblem(yield* as("read", "DELETE", `/v1/games/${id}`, { headers: { [name]: "GET" } }), 403)
          const read = yield* as("read", "GET", `/v1/games/${id}?_method=DELETE`, { headers: { [name]: "DELETE" } })
          assert.strictEqual(read.status, 200)
        }
        assert.strictEqual((yield* getGame(id)).version, 1)
      })
    )

    it.effect("to read are enough for HEAD, which tells nobody else anything", () =>
      Effect.gen(function* () {
        const id = yield* planIn("red")
        assert.strictEqual((yield* as("read", "HEAD", `/v1/games/${id}`)).status, 200)
        assert.strictEqual((yield* as("write", "HEAD", `/v1/games/${id}`)).status, 403)
        assert.strictEqual((yield* as("blue", "HEAD", `/v1/games/${id}`)).status, 404)
      })
    )
  })

  describe("a key's guilds", () => {
    const touches: ReadonlyArray<readonly [method: string, path: string, body?: unknown]> = [
      ["GET", ""],
      ["GET", "/schedule"],
      ["PATCH", "", { title: "stolen" }],
      ["PATCH", "", { guild_id: "blue" }],
      ["PATCH", "", { guild_id: "green" }],
      ["PATCH", "", {}],
      ["POST", "/cancel"],
      ["DELETE", ""]
    ]
    it.effect("hide the games of others: every answer is that for a game that there is not", () =>
      Effect.gen(function* () {
        const id = yield* planIn("red")
        for (const [method, path, body] of touches) {
          for (const headers of [{}, { "if-match": '"1"' }, { "if-match": '"7"' }]) {
            const options = { headers, ...(body === undefined ? {} : { body }) }
            const answer = yield* as("blue", method, `/v1/games/${id}${path}`, options)
            const nothing = yield* as("blue", method, `/v1/games/${unknownId}${path}`, options)
            assertProblem(answer, 404)
            assert.strictEqual(answer.text.replaceAll(id, unknownId), nothing.text)
          }
        }
        for (const spelling of [
          `/V1/Games/${id}`,
          `//v1//games//${id}/`,
          `/v1/games/${id.toUpperCase()}`,
          `/v1/games/%${id.charCodeAt(0).toString(16)}${id.slice(1)}`,
          `/v1/games/${id};guild_id=blue`
        ]) {
          assertProblem(yield* as("blue", "DELETE", spelling), 404)
          // It leads to the game for whoever may see it.
          assert.strictEqual((yield* as("red", "GET", spelling)).status, 200, spelling)
        }
        assert.deepInclude(yield* getGame(id), { guild_id: "red", title: "a game", version: 1, status: "SCHEDULED" })
        assert.strictEqual((yield* as("red", "GET", `/v1/games/${id}`)).status, 200)
        assert.strictEqual((yield* as("both", "GET", `/v1/games/${id}`)).status, 200)
      })
    )

    it.effect("keep a list to their games, whatever is asked for", () =>
      Effect.gen(function* () {
        const [red, blue, green] = [yield* planIn("red"), yield* planIn("blue"), yield* planIn("green")]
        const list = (client: Client, query = "") =>
          Effect.map(as(client, "GET", `/v1/games?limit=200${query}`), (answer) => idsOf(answer, "games"))
        const isOf = (guild: string) => (id: string) =>
          Effect.map(getGame(id), (game) => assert.deepInclude(game, { guild_id: guild }))
        const seen = yield* list("blue")
        assert.include(seen, blue)
        yield* Effect.forEach(seen, isOf("blue"))
        assert.includeMembers([...(yield* list("both"))], [red, blue])
        assert.notInclude(yield* list("both"), green)
        assert.includeMembers([...(yield* list("admin"))], [red, blue, green])
        for (const query of [
          "&guild_id=red",
          "&guild_id=red&status=SCHEDULED",
          "&guild_id=%25",
          "&guild_id=red,blue",
          "&guild_id=*"
        ]) {
          assert.deepStrictEqual(yield* list("blue", query), [], query)
        }
        assert.deepStrictEqual(yield* list("both", "&guild_id=green"), [])
        assert.include(yield* list("both", "&guild_id=blue"), blue)
        assert.deepStrictEqual(yield* list("blue", "&guild_id=blue"), seen)
        assertProblem(yield* as("blue", "GET", "/v1/games?guild_id=blue&guild_id=red"), 400)
        // A cursor of somebody else's list says where to go on, and not with what.
        const page = yield* as("admin", "GET", "/v1/games?limit=1")
        yield* Effect.forEach(yield* list("blue", `&cursor=${String(page.body["next_cursor"])}`), isOf("blue"))
      })
    )

    it.effect("keep new games to them", () =>
      Effect.gen(function* () {
        const before = yield* countGames
        for (const guild_id of ["red", "Blue", "blue ", "*", "bl%75e"]) {
          const answer = yield* as("blue", "POST", "/v1/games", { body: { ...validGame, guild_id } })
          assertProblem(answer, 403)
          const repeated = yield* as("blue", "POST", "/v1/games", {
            body: { ...validGame, guild_id },
            headers: { "idempotency-key": "foreign" }
          })
          assertProblem(repeated, 403)
        }
        assert.strictEqual(yield* countGames, before)
        const own = yield* as("blue", "POST", "/v1/games", { body: { ...validGame, guild_id: "blue" } })
        assert.strictEqual(own.status, 201)
      })
    )

    it.effect("keep a game where it is, unless it goes to another of them", () =>
      Effect.gen(function* () {
        const id = yield* planIn("red")
        for (const body of [{ guild_id: "green" }, { guild_id: "green", title: "new" }, { guild_id: "blue" }]) {
          assertProblem(yield* as("red", "PATCH", `/v1/games/${id}`, { body }), 403)
        }
        assert.deepInclude(yield* getGame(id), { guild_id: "red", title: "a game", version: 1 })
        assert.strictEqual((yield* as("red", "PATCH", `/v1/games/${id}`, { body: { guild_id: "red" } })).status, 200)
        const moved = yield* as("both", "PATCH", `/v1/games/${id}`, { body: { guild_id: "blue" } })
        assert.strictEqual(moved.status, 200)
        assertProblem(yield* as("red", "GET", `/v1/games/${id}`), 404)
      })
    )

    it.effect("are judged when the game is held, not before", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const database = yield* Database
        const id = yield* planIn("red")
        const held = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const moving = yield* Effect.forkChild(
          database.transaction(
            Effect.gen(function* () {
              yield* sql`UPDATE game_sessions SET guild_id = 'blue' WHERE id = ${id}`
              yield* Deferred.succeed(held, undefined)
              yield* Deferred.await(release)
            })
          )
        )
        yield* Deferred.await(held)
        const editing = yield* Effect.forkChild(as("red", "PATCH", `/v1/games/${id}`, { body: { title: "late" } }))
        yield* eventually(
          sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          (waiting) => waiting.length > 0
        )
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(moving)
        assertProblem(yield* Fiber.join(editing), 404)
        assert.deepInclude(yield* getGame(id), { title: "a game", version: 1 })
      })
    )
  })

  describe("an Idempotency-Key", () => {
    const headers = { "idempotency-key": "friday" }

    it.effect("is a client's own: another one's repeat is a game of its own", () =>
      Effect.gen(function* () {
        const plan = (client: Client) => as(client, "POST", "/v1/games", { body: validGame, headers })
        const [first, second] = [yield* plan("admin"), yield* plan("other")]
        assert.deepStrictEqual([first.status, second.status], [201, 201])
        assert.notStrictEqual(first.body["id"], second.body["id"])
        assert.deepStrictEqual((yield* plan("admin")).body, first.body)
        // What keeps a client's name and its key apart is no character of a header.
        const forged = `POST /v1/games HTTP/1.1\r\nhost: localhost\r\nidempotency-key: admin\u001ffriday\r\n\r\n`
        assert.match(yield* sendRaw(forged), /^HTTP\/1\.1 400 /)
      })
    )

    it.effect("does not show a game that has gone to another guild", () =>
      Effect.gen(function* () {
        const body = { ...validGame, guild_id: "red" }
        const planned = yield* as("red", "POST", "/v1/games", { body, headers })
        const id = String(planned.body["id"])
        assert.strictEqual((yield* as("red", "POST", "/v1/games", { body, headers })).body["id"], id)
        yield* as("admin", "PATCH", `/v1/games/${id}`, { body: { guild_id: "blue" } })
        const repeat = yield* as("red", "POST", "/v1/games", { body, headers })
        assertProblem(repeat, 409)
        assert.notInclude(repeat.text, id)
      })
    )
  })

  describe("dead letters", () => {
    it.effect("of other guilds are not there, neither to be seen nor to be settled", () =>
      Effect.gen(function* () {
        const [red, blue] = [yield* planIn("red"), yield* planIn("blue")]
        const letters = { red: (yield* parkReminder(red)).letter, blue: (yield* parkReminder(blue)).letter }
        const event = (yield* parkEvent(red)).letter
        const list = (client: Client, query = "") =>
          Effect.map(as(client, "GET", `/v1/dead-letters?limit=200${query}`), (answer) => idsOf(answer, "dead_letters"))
        assert.deepStrictEqual(yield* list("blue"), [letters.blue])
        assert.sameMembers([...(yield* list("red"))], [letters.red, event])
        assert.sameMembers([...(yield* list("both"))], [letters.red, letters.blue, event])
        for (const query of ["&guild_id=red", `&game_id=${red}`, "&state=all&guild_id=red", "&kind=event"]) {
          assert.deepStrictEqual(yield* list("blue", query), [], query)
        }
        for (const letter of [letters.red, event]) {
          for (const [method, path] of [
            ["GET", ""],
            ["POST", "/replay"],
            ["POST", "/discard"]
          ] as const) {
            const answer = yield* as("blue", method, `/v1/dead-letters/${letter}${path}`)
            assertProblem(answer, 404)
            const nothing = yield* as("blue", method, `/v1/dead-letters/${unknownId}${path}`)
            assert.strictEqual(answer.text.replaceAll(letter, unknownId), nothing.text)
          }
        }
        assert.sameMembers([...(yield* list("red"))], [letters.red, event])

        // The event outlives its game, and belongs to the same guild; the row of the game goes with it.
        yield* as("red", "DELETE", `/v1/games/${red}`)
        assert.include(yield* list("red"), event)
        assert.notInclude(yield* list("blue"), event)
        assertProblem(yield* as("blue", "POST", `/v1/dead-letters/${event}/replay`), 404)
        const replayed = yield* as("red", "POST", `/v1/dead-letters/${event}/replay`)
        assert.deepInclude(replayed.body, { resolution: "replayed", resolved_by: "red" })
        const discarded = yield* as("blue", "POST", `/v1/dead-letters/${letters.blue}/discard`)
        assert.deepInclude(discarded.body, { resolution: "discarded", resolved_by: "blue" })
      })
    )

    it.effect("name the key that settled them, also where a change of the game did", () =>
      Effect.gen(function* () {
        const game = yield* planIn("red")
        const { letter } = yield* parkReminder(game)
        yield* as("both", "PATCH", `/v1/games/${game}`, { body: { scheduled_at: "2041-01-01T20:00:00Z" } })
        const answer = yield* as("red", "GET", `/v1/dead-letters/${letter}`)
        assert.deepInclude(answer.body, { resolution: "superseded", resolved_by: "both" })
      })
    )
  })

  describe("pauses", () => {
    it.effect("are nobody's who deals with some guilds only, because they hold for all", () =>
      Effect.gen(function* () {
        const admin = yield* as("admin", "PUT", "/v1/pauses/notification", { body: { reason: "a secret plan" } })
        assert.deepInclude(admin.body, { paused_by: "admin", reason: "a secret plan" })
        for (const [method, path, body] of [
          ["GET", ""],
          ["PUT", "/status-transition", {}],
          ["PUT", "/notification", { reason: "mine" }],
          ["DELETE", "/notification"]
        ] as const) {
          const answer = yield* as("blue", method, `/v1/pauses${path}`, body === undefined ? {} : { body })
          assertProblem(answer, 403)
          assert.notInclude(answer.text, "secret")
        }
        const listed = yield* as("operate", "GET", "/v1/pauses")
        assert.deepStrictEqual(listed.body, { pauses: [admin.body] })
        assert.strictEqual((yield* as("operate", "DELETE", "/v1/pauses/notification")).status, 204)
        assert.deepStrictEqual((yield* as("operate", "GET", "/v1/pauses")).body, { pauses: [] })
      })
    )
  })
})

layer(serverLayer({ rateLimit: 1 }, { keys: entries }).pipe(Layer.provideMerge(TestDatabase.layer)), {
  excludeTestServices: true
})("The rate limit", (it) => {
  it.effect("is a key's own, says when to come back, and lets it", () =>
    Effect.gen(function* () {
      const answers = yield* Effect.replicateEffect(as("admin", "GET", "/v1/games"), 20, { concurrency: "unbounded" })
      const refused = answers.filter(({ status }) => status !== 200)
      assert.isNotEmpty(refused)
      assert.isBelow(refused.length, 20)
      for (const answer of refused) {
        assertProblem(answer, 429)
        assert.strictEqual(answer.headers.get("retry-after"), "1")
      }
      assert.strictEqual((yield* as("read", "GET", "/v1/games")).status, 200)
      yield* eventually(as("admin", "GET", "/v1/games"), ({ status }) => status === 200)
      // Probes and scrapes are not counted.
      const probes = yield* Effect.replicateEffect(request("GET", "/health/live"), 20, { concurrency: "unbounded" })
      for (const { status } of probes) assert.strictEqual(status, 200)
    })
  )
})

layer(serverLayer().pipe(Layer.provideMerge(TestDatabase.layer)), { excludeTestServices: true })(
  "The HTTP API without keys",
  (it) => {
    it.effect("serves this machine, with and without a key", () =>
      Effect.gen(function* () {
        for (const headers of [{}, { authorization: `Bearer ${makeKey()}` }, { "sec-fetch-site": "none" }]) {
          assert.strictEqual((yield* request("GET", "/v1/games", { headers })).status, 200)
        }
      })
    )

    it.effect("serves no page that a browser has from somebody else, by whichever way it comes", () =>
      Effect.gen(function* () {
        const planned = yield* request("POST", "/v1/games", { body: validGame })
        const path = `/v1/games/${String(planned.body["id"])}`
        // A form of another site.
        for (const site of ["cross-site", "same-site", "whatever"]) {
          const answer = yield* request("POST", `${path}/cancel`, { headers: { "sec-fetch-site": site } })
          assertProblem(answer, 403)
        }
        // A name of another site that was pointed to this machine.
        for (const host of ["evil.example", "evil.example:3000", "127.0.0.1.evil.example"]) {
          const answer = yield* sendRaw(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
          assert.match(answer, /^HTTP\/1\.1 403 /, host)
        }
        for (const host of ["localhost:3000", "127.0.0.1", "[::1]:3000"]) {
          const answer = yield* sendRaw(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
          assert.match(answer, /^HTTP\/1\.1 200 /, host)
        }
        assert.strictEqual((yield* request("GET", path)).body["status"], "SCHEDULED")
      })
    )
  }
)
