import { assert, describe, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Redacted, Ref, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { once } from "node:events"
import * as Net from "node:net"
import { HttpServer } from "../../src/http/HttpServer.ts"
import { Health } from "../../src/observability/Health.ts"
import { Database } from "../../src/postgres/Database.ts"
import {
  apiLayer,
  type Answer,
  createGame,
  request,
  sendRaw,
  serverLayer,
  Surroundings,
  validGame
} from "../http/apiServer.ts"
import { listEvents } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const unknownId = "0195fa10-1c1f-7d5e-8a4e-0123456789ab"

/** Every error, whatever its cause, is a problem that tells no secrets. */
const assertProblem = (answer: Answer, status: number) => {
  assert.strictEqual(answer.status, status, answer.text)
  assert.strictEqual(answer.headers.get("content-type"), "application/problem+json")
  assert.strictEqual(answer.body["status"], status)
  for (const member of ["type", "title", "detail"]) assert.isString(answer.body[member], member)
  assert.notMatch(answer.text, /\bat .*\.(ts|js):\d+|node_modules|SELECT|INSERT/)
}

/** The paths of the bad fields that a problem names. */
const pathsOf = (answer: Answer): ReadonlyArray<string> => {
  const errors = answer.body["errors"]
  assert.isArray(errors)
  return (errors as ReadonlyArray<{ readonly path: string; readonly message: string }>).map(({ message, path }) => {
    assert.isNotEmpty(message)
    return path
  })
}

const without = (field: keyof typeof validGame) =>
  Object.fromEntries(Object.entries(validGame).filter(([name]) => name !== field))

layer(apiLayer, { excludeTestServices: true })("The HTTP API", (it) => {
  describe("bad input", () => {
    const bodies: ReadonlyArray<readonly [what: string, body: unknown, paths: ReadonlyArray<string>]> = [
      ["no title", without("title"), ["title"]],
      ["no guild", without("guild_id"), ["guild_id"]],
      ["no start", without("scheduled_at"), ["scheduled_at"]],
      ["nothing", {}, ["guild_id", "title", "scheduled_at"]],
      ["an empty title", { ...validGame, title: "" }, ["title"]],
      ["a title that is too long", { ...validGame, title: "x".repeat(201) }, ["title"]],
      ["a title of another type", { ...validGame, title: 5 }, ["title"]],
      ["a title that is null", { ...validGame, title: null }, ["title"]],
      ["NUL in a text", { ...validGame, description: "a\0b" }, ["description"]],
      ["a lone surrogate", { ...validGame, location: "\ud800" }, ["location"]],
      ["a time without offset", { ...validGame, scheduled_at: "2040-01-01T20:00:00" }, ["scheduled_at"]],
      ["a date", { ...validGame, scheduled_at: "2040-01-01" }, ["scheduled_at"]],
      ["a number as time", { ...validGame, scheduled_at: 2208988800 }, ["scheduled_at"]],
      ["30 February", { ...validGame, scheduled_at: "2040-02-30T20:00:00Z" }, ["scheduled_at"]],
      ["hour 25", { ...validGame, scheduled_at: "2040-01-01T25:00:00Z" }, ["scheduled_at"]],
      ["a year before 1970", { ...validGame, scheduled_at: "1969-12-31T23:59:59Z" }, ["scheduled_at"]],
      ["a year after 9999", { ...validGame, scheduled_at: "+010000-01-01T00:00:00Z" }, ["scheduled_at"]],
      ["infinity", { ...validGame, scheduled_at: "infinity" }, ["scheduled_at"]],
      ["a negative duration", { ...validGame, expected_duration_minutes: -1 }, ["expected_duration_minutes"]],
      ["half a minute", { ...validGame, expected_duration_minutes: 1.5 }, ["expected_duration_minutes"]],
      ["a duration as text", { ...validGame, expected_duration_minutes: "60" }, ["expected_duration_minutes"]],
      ["a duration of null", { ...validGame, expected_duration_minutes: null }, ["expected_duration_minutes"]],
      ["a duration beyond a year", { ...validGame, expected_duration_minutes: 525_601 }, ["expected_duration_minutes"]],
      ["101 players", { ...validGame, max_players: 101 }, ["max_players"]],
      ["no player", { ...validGame, max_players: 0 }, ["max_players"]],
      [
        "bad reminders",
        { ...validGame, reminder_minutes: [60, 0, 1.5, "5"] },
        [1, 2, 3].map((n) => `reminder_minutes.${n}`)
      ],
      [
        "too many reminders",
        { ...validGame, reminder_minutes: Array.from({ length: 21 }, (_, n) => n + 1) },
        ["reminder_minutes"]
      ],
      ["reminders that are no list", { ...validGame, reminder_minutes: { "0": 5 } }, ["reminder_minutes"]],
      ["an unknown member", { ...validGame, colour: "red" }, ["colour"]],
      [
        "members that the server sets",
        { ...validGame, id: unknownId, status: "COMPLETED", version: 7 },
        ["id", "status", "version"]
      ],
      [
        "__proto__",
        `{"guild_id":"g","title":"t","scheduled_at":"2040-01-01T20:00:00Z","__proto__":{"a":1}}`,
        ["__proto__"]
      ],
      [
        "a number as long as the sea",
        `{"guild_id":"g","title":"t","scheduled_at":"2040-01-01T20:00:00Z","max_players":1e999}`,
        ["max_players"]
      ],
      ["a list", [], [""]],
      ["null", "null", [""]],
      ["a string", '"game"', [""]],
      ["no JSON", "{", [""]],
      ["an empty body", "", [""]],
      ["a very deep body", "[".repeat(30_000), [""]],
      [
        "a very deep member",
        `{"title":${"[".repeat(20_000)}${"]".repeat(20_000)}}`,
        ["title", "guild_id", "scheduled_at"]
      ]
    ]

    it.effect.each(bodies)("%s is refused with 400 and its path, when creating", ([, body, paths]) =>
      Effect.gen(function* () {
        const answer = yield* request("POST", "/v1/games", { body })
        assertProblem(answer, 400)
        assert.sameMembers([...new Set(pathsOf(answer))], [...paths])
      })
    )

    it.effect("that is no object, or missing, is told what to send instead", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        for (const [method, path] of [
          ["POST", "/v1/games"],
          ["PATCH", `/v1/games/${id}`],
          ["PUT", "/v1/pauses/notification"]
        ] as const) {
          for (const body of [undefined, "", "null", "[]", '"game"']) {
            const answer = yield* request(method, path, { body })
            assertProblem(answer, 400)
            assert.strictEqual(answer.body["detail"], "Expected a JSON object as the body, at least {}")
          }
        }
        assert.deepStrictEqual((yield* request("GET", "/v1/pauses")).body, { pauses: [] })
      })
    )

    it.effect("is refused alike when editing, and changes nothing", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        for (const [what, body, paths] of bodies) {
          // Nothing is required of a PATCH.
          if (/^(no (title|guild|start)|nothing)$/.test(what)) continue
          const answer = yield* request("PATCH", `/v1/games/${id}`, { body })
          assertProblem(answer, 400)
          assert.isNotEmpty(pathsOf(answer), what)
          for (const path of pathsOf(answer)) assert.include(paths, path, what)
        }
        assert.strictEqual((yield* request("GET", `/v1/games/${id}`)).headers.get("etag"), '"1"')
      })
    )

    const queries: ReadonlyArray<readonly [query: string, path: string]> = [
      ["limit=0", "limit"],
      ["limit=201", "limit"],
      ["limit=1.5", "limit"],
      ["limit=1e2", "limit"],
      ["limit=+5", "limit"],
      ["limit=", "limit"],
      ["limit=1&limit=2", "limit"],
      ["status=scheduled", "status"],
      ["from=2040-01-01", "from"],
      ["to=2040-01-01T00:00:00", "to"],
      ["cursor=abc", "cursor"],
      ["cursor=", "cursor"],
      ["guild_id=%00", "guild_id"],
      ["guild_id=", "guild_id"],
      ["guildid=1", "guildid"]
    ]
    it.effect.each(queries)("a list with %s is refused with 400", ([query, path]) =>
      Effect.gen(function* () {
        const answer = yield* request("GET", `/v1/games?${query}`)
        assertProblem(answer, 400)
        assert.deepStrictEqual(pathsOf(answer), [path])
      })
    )

    it.effect("an id that is no UUID is 400, also for every other route of a game", () =>
      Effect.gen(function* () {
        for (const [method, path] of [
          ["GET", "/v1/games/1"],
          ["GET", "/v1/games/1/schedule"],
          ["POST", "/v1/games/1/cancel"],
          ["DELETE", "/v1/games/1"],
          ["GET", "/v1/games/%27%20OR%201=1"],
          ["GET", "/v1/games/%00"]
        ] as const) {
          const answer = yield* request(method, path)
          assertProblem(answer, 400)
          assert.deepStrictEqual(pathsOf(answer), ["id"])
        }
        assertProblem(yield* request("PATCH", "/v1/games/1", { body: { title: "x" } }), 400)
      })
    )

    it.effect("a malformed If-Match or Idempotency-Key is 400", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        const edit = yield* request("PATCH", `/v1/games/${id}`, {
          body: { title: "x" },
          headers: { "if-match": "1" }
        })
        assertProblem(edit, 400)
        assert.deepStrictEqual(pathsOf(edit), ["if-match"])
        for (const key of ["", "k".repeat(256), "clé"]) {
          const answer = yield* request("POST", "/v1/games", { body: validGame, headers: { "idempotency-key": key } })
          assertProblem(answer, 400)
          assert.deepStrictEqual(pathsOf(answer), ["idempotency-key"])
        }
      })
    )

    it.effect("two Idempotency-Keys are 400, and one may look like two", () =>
      Effect.gen(function* () {
        const body = JSON.stringify(validGame)
        const plan = (...keys: ReadonlyArray<string>) => {
          const headers = ["host: localhost", "connection: close", "content-type: application/json"]
          const all = [...headers, ...keys.map((key) => `Idempotency-Key: ${key}`), `content-length: ${body.length}`]
          return sendRaw(`POST /v1/games HTTP/1.1\r\n${all.join("\r\n")}\r\n\r\n${body}`)
        }
        for (const keys of [
          ["one", "two"],
          ["one", "one"]
        ]) {
          assert.match(yield* plan(...keys), /^HTTP\/1\.1 400 [^]*idempotency-key: Expected this header once/)
        }
        assert.match(yield* plan("one, two"), /^HTTP\/1\.1 201 /)
      })
    )

    it.effect("what is no HTTP is 400, and endless headers are 431", () =>
      Effect.gen(function* () {
        assert.match(
          yield* sendRaw("BREW /v1/games HTTP/1.1\r\n\r\n"),
          /^HTTP\/1\.1 400 [^]*application\/problem\+json/
        )
        const huge = `GET / HTTP/1.1\r\nhost: a\r\nx: ${"a".repeat(20_000)}\r\n\r\n`
        assert.match(yield* sendRaw(huge), /^HTTP\/1\.1 431 [^]*application\/problem\+json/)
      })
    )
  })

  describe("errors of the route", () => {
    it.effect("an unknown game is 404 everywhere", () =>
      Effect.gen(function* () {
        for (const [method, path] of [
          ["GET", ""],
          ["GET", "/schedule"],
          ["POST", "/cancel"],
          ["DELETE", ""]
        ] as const) {
          assertProblem(yield* request(method, `/v1/games/${unknownId}${path}`), 404)
        }
        assertProblem(yield* request("PATCH", `/v1/games/${unknownId}`, { body: { title: "x" } }), 404)
      })
    )

    it.effect("an unknown route is 404, a wrong method 405 with Allow", () =>
      Effect.gen(function* () {
        for (const path of ["/", "/v1", "/v1/game", "/v1/games/a/b", "/v1/games/%zz", "//", "/v1/games/../../etc"]) {
          assertProblem(yield* request("GET", path), 404)
        }
        const put = yield* request("PUT", "/v1/games", { body: validGame })
        assertProblem(put, 405)
        assert.strictEqual(put.headers.get("allow"), "GET, HEAD, POST")
        const patch = yield* request("PATCH", "/health/ready", { body: {} })
        assertProblem(patch, 405)
      })
    )

    it.effect("a body of another type is 415", () =>
      Effect.gen(function* () {
        for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense"]) {
          const answer = yield* request("POST", "/v1/games", { body: validGame, headers: { "content-type": type } })
          assertProblem(answer, 415)
        }
        const charset = { "content-type": "application/json; charset=utf-8" }
        assert.strictEqual((yield* request("POST", "/v1/games", { body: validGame, headers: charset })).status, 201)
      })
    )

    it.effect(
      "a body that is packed or in another charset is 415, and one that only says that it is neither is read",
      () =>
        Effect.gen(function* () {
          const plan = (headers: Readonly<Record<string, string>>) =>
            request("POST", "/v1/games", { body: validGame, headers })
          for (const encoding of ["gzip", "br", "identity, gzip", "nonsense"]) {
            assertProblem(yield* plan({ "content-encoding": encoding }), 415)
          }
          for (const charset of ["latin1", '"utf-16"', "utf-80", "", "utf-8; charset=latin1"]) {
            assertProblem(yield* plan({ "content-type": `application/json; charset=${charset}` }), 415)
          }
          for (const headers of [
            { "content-encoding": "Identity" },
            { "content-type": 'Application/JSON;Charset="UTF-8"' },
            { "content-type": "application/json; profile=charsets; charset=utf8 ; q=1" }
          ]) {
            assert.strictEqual((yield* plan(headers)).status, 201, JSON.stringify(headers))
          }
        })
    )

    it.effect("a body that is not UTF-8 is 400 and changes nothing", () =>
      Effect.gen(function* () {
        const id = yield* createGame({ guild_id: "bytes" })
        const head = (method: string, path: string, length: number) =>
          `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`
        const game = (title: string) => JSON.stringify({ ...validGame, guild_id: "bytes", title })
        // A letter of Latin-1, a sequence that is cut off, one that is too long, a surrogate, what is beyond Unicode.
        for (const bytes of ["e9", "e282", "c0af", "eda080", "f4908080"]) {
          for (const [method, path, [before = "", after = ""]] of [
            ["POST", "/v1/games", game("|").split("|")],
            ["PATCH", `/v1/games/${id}`, ['{"title":"', '"}']]
          ] as const) {
            const body = Buffer.concat([Buffer.from(before), Buffer.from(bytes, "hex"), Buffer.from(after)])
            const answer = yield* sendRaw(Buffer.concat([Buffer.from(head(method, path, body.length)), body]))
            assert.match(answer, /^HTTP\/1\.1 400 [^]*application\/problem\+json[^]*Expected a body in UTF-8/, bytes)
          }
        }
        const games = (yield* request("GET", "/v1/games?guild_id=bytes")).body["games"]
        assert.deepStrictEqual(games, [(yield* request("GET", `/v1/games/${id}`)).body])
        assert.deepStrictEqual(
          (yield* listEvents(id)).map(({ type }) => type),
          ["game.created"]
        )
      })
    )

    it.effect("a body beyond 64 KiB is 413, whatever it says of its length", () =>
      Effect.gen(function* () {
        const large = JSON.stringify({ ...validGame, description: "x".repeat(66_000) })
        assertProblem(yield* request("POST", "/v1/games", { body: large }), 413)
        const head = "POST /v1/games HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n"
        const chunk = `${large.length.toString(16)}\r\n${large}\r\n0\r\n\r\n`
        assert.match(
          yield* sendRaw(`${head}transfer-encoding: chunked\r\n\r\n${chunk}`),
          /^HTTP\/1\.1 413 [^]*application\/problem\+json/
        )
      })
    )
  })

  describe("a game", () => {
    it.effect("is created with 201, Location and ETag, and read back the same", () =>
      Effect.gen(function* () {
        const created = yield* request("POST", "/v1/games", {
          body: { ...validGame, scheduled_at: "2040-01-01T21:00:00.5+01:00", description: null, max_players: 5 }
        })
        assert.strictEqual(created.status, 201)
        assert.strictEqual(created.headers.get("etag"), '"1"')
        assert.strictEqual(created.headers.get("location"), `/v1/games/${String(created.body["id"])}`)
        assert.strictEqual(created.body["scheduled_at"], "2040-01-01T20:00:00.500Z")
        const members =
          "id guild_id channel_id host_id title description location status scheduled_at " +
          "expected_duration_minutes max_players reminder_minutes version created_at updated_at"
        assert.hasAllKeys(created.body, members.split(" "))
        const read = yield* request("GET", created.headers.get("location") ?? "")
        assert.deepStrictEqual(read.body, created.body)
        assert.strictEqual(read.headers.get("etag"), '"1"')
      })
    )

    it.effect("keeps text of the largest size and of every script", () =>
      Effect.gen(function* () {
        const title = "🎲".repeat(200)
        const created = yield* request("POST", "/v1/games", { body: { ...validGame, title } })
        assert.strictEqual(created.body["title"], title)
      })
    )

    it.effect("answers HEAD like GET, without a body", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        const head = yield* request("HEAD", `/v1/games/${id}`)
        assert.deepStrictEqual([head.status, head.text, head.headers.get("etag")], [200, "", '"1"'])
      })
    )

    it.effect("is edited, cancelled and deleted, each with the right status and tag", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        const edited = yield* request("PATCH", `/v1/games/${id}`, { body: { title: "new", channel_id: "c" } })
        assert.deepStrictEqual([edited.status, edited.headers.get("etag")], [200, '"2"'])
        assert.strictEqual(edited.body["title"], "new")
        const cancelled = yield* request("POST", `/v1/games/${id}/cancel`)
        assert.deepStrictEqual([cancelled.status, cancelled.headers.get("etag")], [200, '"3"'])
        assert.strictEqual(cancelled.body["status"], "CANCELLED")
        const again = yield* request("POST", `/v1/games/${id}/cancel`)
        assert.deepStrictEqual([again.status, again.headers.get("etag")], [200, '"3"'])
        assertProblem(yield* request("PATCH", `/v1/games/${id}`, { body: { status: "SCHEDULED" } }), 409)
        assertProblem(yield* request("PATCH", `/v1/games/${id}`, { body: { reminder_minutes: [1] } }), 409)
        const removed = yield* request("DELETE", `/v1/games/${id}`)
        assert.deepStrictEqual([removed.status, removed.text], [204, ""])
        assertProblem(yield* request("GET", `/v1/games/${id}`), 404)
      })
    )

    it.effect("shows its schedule", () =>
      Effect.gen(function* () {
        const id = yield* createGame({ reminder_minutes: [15] })
        const { body } = yield* request("GET", `/v1/games/${id}/schedule`)
        const rows = (name: string) => body[name] as ReadonlyArray<Readonly<Record<string, unknown>>>
        assert.deepStrictEqual(
          rows("status_transitions").map((row) => [row["target_status"], row["transition_time"], row["executed"]]),
          [
            ["IN_PROGRESS", "2040-01-01T20:00:00.000Z", false],
            ["COMPLETED", "2040-01-01T21:00:00.000Z", false]
          ]
        )
        assert.deepStrictEqual(
          rows("notifications").map((row) => [row["reminder_minutes"], row["notification_time"], row["sent"]]),
          [[15, "2040-01-01T19:45:00.000Z", false]]
        )
      })
    )

    it.effect("ends before the year 10000, or is refused and changes nothing", () =>
      Effect.gen(function* () {
        const last = { guild_id: "last", scheduled_at: "9999-12-31T23:00:00Z" }
        const late = "scheduled_at: Expected a start and a duration that end before the year 10000"
        const assertTooLate = (answer: Answer) => {
          assertProblem(answer, 400)
          assert.deepStrictEqual([pathsOf(answer), answer.body["detail"]], [["scheduled_at"], late])
        }
        for (const headers of [{}, { "idempotency-key": "last" }]) {
          for (const fields of [last, { ...last, expected_duration_minutes: 60 }]) {
            assertTooLate(yield* request("POST", "/v1/games", { body: { ...validGame, ...fields }, headers }))
          }
        }
        const id = yield* createGame({ ...last, expected_duration_minutes: 59 })
        for (const body of [
          { expected_duration_minutes: 60 },
          { scheduled_at: "9999-12-31T23:01:00Z", title: "later" },
          { scheduled_at: "9999-12-31T23:59:00Z", expected_duration_minutes: 1 }
        ]) {
          assertTooLate(yield* request("PATCH", `/v1/games/${id}`, { body }))
        }
        const moved = { scheduled_at: "9999-12-31T23:59:00Z", expected_duration_minutes: 0 }
        const edited = yield* request("PATCH", `/v1/games/${id}`, { body: moved })
        assert.deepStrictEqual([edited.status, edited.body["version"]], [200, 2])
        assert.lengthOf((yield* request("GET", "/v1/games?guild_id=last")).body["games"] as ReadonlyArray<unknown>, 1)
      })
    )

    it.effect("that another application wrote with absurd values can be read, not only guessed", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql<{ readonly id: string }>`
          INSERT INTO game_sessions (guild_id, title, scheduled_at, expected_duration_minutes, created_at, updated_at)
          VALUES ('absurd', 't', '0044-03-15T00:00:00Z BC', 9999999, '0001-01-01T00:00:00Z', 'infinity') RETURNING id`
        const id = row?.id ?? ""
        yield* sql`
          INSERT INTO game_status_schedule (game_id, target_status, transition_time)
          VALUES (${id}::uuid, 'IN_PROGRESS', '10000-01-01T00:00:00Z'),
                 (${id}::uuid, 'COMPLETED', '290000-01-01T00:00:00Z')`
        const answer = yield* request("GET", `/v1/games/${id}`)
        assert.strictEqual(answer.status, 200)
        // RFC 3339 has the years 0 to 9999.
        assert.deepInclude(answer.body, {
          expected_duration_minutes: 9_999_999,
          scheduled_at: "0000-01-01T00:00:00.000Z",
          created_at: "0001-01-01T00:00:00.000Z",
          updated_at: "9999-12-31T23:59:59.999Z"
        })
        assert.deepStrictEqual((yield* request("GET", "/v1/games?guild_id=absurd")).body["games"], [answer.body])
        const schedule = yield* request("GET", `/v1/games/${id}/schedule`)
        assert.strictEqual(schedule.status, 200)
        assert.deepStrictEqual(
          (schedule.body["status_transitions"] as ReadonlyArray<Readonly<Record<string, unknown>>>).map(
            ({ target_status, transition_time }) => [target_status, transition_time]
          ),
          ["IN_PROGRESS", "COMPLETED"].map((status) => [status, "9999-12-31T23:59:59.999Z"])
        )
      })
    )

    it.effect("that another application gave an id of no version of UUID is served like any other", () =>
      Effect.gen(function* () {
        const id = "11111111-2222-3333-4444-555555555555"
        const sql = yield* SqlClient.SqlClient
        yield* sql`INSERT INTO game_sessions (id, guild_id, title, scheduled_at) VALUES (${id}, 'odd', 't', '2040-01-01T20:00:00Z')`
        assert.strictEqual((yield* request("GET", `/v1/games/${id}`)).body["id"], id)
        const list = yield* request("GET", "/v1/games?guild_id=odd")
        assert.deepStrictEqual([list.status, JSON.parse(list.text).games.length], [200, 1], list.text)
        assert.strictEqual((yield* request("PATCH", `/v1/games/${id}`, { body: { title: "u" } })).status, 200)
        assert.strictEqual((yield* request("GET", `/v1/games/${id}/schedule`)).status, 200)
        assert.strictEqual((yield* request("POST", `/v1/games/${id.toUpperCase()}/cancel`)).status, 200)
        assert.strictEqual((yield* request("DELETE", `/v1/games/${id}`)).status, 204)
      })
    )
  })

  describe("If-Match", () => {
    it.effect("lets a change through at that version only, as a list and as *", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        const edit = (tag: string, title: string) =>
          request("PATCH", `/v1/games/${id}`, { body: { title }, headers: { "if-match": tag } })
        assert.strictEqual((yield* edit('"1"', "two")).status, 200)
        assertProblem(yield* edit('"1"', "three"), 412)
        assertProblem(yield* edit('W/"2"', "three"), 412)
        assert.strictEqual((yield* edit('"1", "2"', "three")).status, 200)
        assert.strictEqual((yield* edit("*", "four")).headers.get("etag"), '"4"')
        for (const [method, path] of [
          ["POST", `/v1/games/${id}/cancel`],
          ["DELETE", `/v1/games/${id}`]
        ] as const) {
          assertProblem(yield* request(method, path, { headers: { "if-match": '"1"' } }), 412)
        }
      })
    )

    it.effect("of two edits at once lets one through", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        const answers = yield* Effect.forEach(
          ["left", "right"],
          (title) => request("PATCH", `/v1/games/${id}`, { body: { title }, headers: { "if-match": '"1"' } }),
          { concurrency: "unbounded" }
        )
        assert.sameMembers(
          answers.map(({ status }) => status),
          [200, 412]
        )
      })
    )

    it.effect("is not needed: then two edits at once both apply, at versions of their own", () =>
      Effect.gen(function* () {
        const id = yield* createGame()
        const answers = yield* Effect.forEach(
          [{ title: "left" }, { location: "right" }],
          (body) => request("PATCH", `/v1/games/${id}`, { body }),
          { concurrency: "unbounded" }
        )
        assert.sameMembers(
          answers.map(({ headers }) => headers.get("etag")),
          ['"2"', '"3"']
        )
      })
    )
  })

  describe("Idempotency-Key", () => {
    it.effect("answers a repeat with the same game, however it is spelled and when it comes at once", () =>
      Effect.gen(function* () {
        const headers = { "idempotency-key": "repeat" }
        const spelled = [
          JSON.stringify({ ...validGame, max_players: 4 }),
          `{ "max_players": 4.0, "title": "a game",\n"scheduled_at":"2040-01-01T21:00:00+01:00", "guild_id":"guild"}`
        ]
        const answers = yield* Effect.forEach(
          [...spelled, ...spelled],
          (body) => request("POST", "/v1/games", { body, headers }),
          { concurrency: "unbounded" }
        )
        for (const answer of answers) {
          assert.strictEqual(answer.status, 201)
          assert.deepStrictEqual(answer.body, answers[0]?.body)
        }
        assert.lengthOf(yield* listEvents(String(answers[0]?.body["id"])), 1)
        assertProblem(yield* request("POST", "/v1/games", { body: validGame, headers }), 409)
      })
    )
  })

  describe("the list", () => {
    it.effect("is paged by an opaque cursor that ends in null", () =>
      Effect.gen(function* () {
        const guild_id = "pages"
        const ids = yield* Effect.replicateEffect(createGame({ guild_id }), 5)
        const seen: Array<string> = []
        let cursor: unknown = undefined
        do {
          const next = typeof cursor === "string" ? `&cursor=${encodeURIComponent(cursor)}` : ""
          const { body, status } = yield* request("GET", `/v1/games?guild_id=${guild_id}&limit=2${next}`)
          assert.strictEqual(status, 200)
          seen.push(...(body["games"] as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id))
          cursor = body["next_cursor"]
        } while (cursor !== null)
        assert.deepStrictEqual(seen, ids.toSorted())
      })
    )

    it.effect("has 50 games unless told otherwise", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`INSERT INTO game_sessions (guild_id, title, scheduled_at)
          SELECT 'many', 'g', now() FROM generate_series(1, 60)`
        const { body } = yield* request("GET", "/v1/games?guild_id=many")
        assert.lengthOf(body["games"] as ReadonlyArray<unknown>, 50)
      })
    )
  })

  describe("a foreign transaction that holds the game", () => {
    it.effect("holds up a request for five seconds at most, which then gets 503 and may try again", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const database = yield* Database
        const id = yield* createGame()
        const held = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const foreign = yield* database
          .transaction(
            Effect.gen(function* () {
              // A session of ours would be ended for doing nothing so long.
              yield* sql`SET LOCAL idle_in_transaction_session_timeout = 0`
              yield* sql`SELECT FROM game_sessions WHERE id = ${id} FOR UPDATE`
              yield* Deferred.succeed(held, undefined)
              yield* Deferred.await(release)
            })
          )
          .pipe(Effect.forkChild)
        yield* Deferred.await(held)
        const edit = request("PATCH", `/v1/games/${id}`, { body: { title: "later" } })
        const [lasted, refused] = yield* Effect.timed(edit)
        assertProblem(refused, 503)
        assert.match(refused.headers.get("retry-after") ?? "", /^\d+$/)
        assert.isBelow(Duration.toMillis(lasted), 8000)
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(foreign)
        assert.strictEqual((yield* edit).status, 200)
      })
    )
  })

  describe("health", () => {
    it.effect("is ready with every component by name", () =>
      Effect.gen(function* () {
        const { body, status } = yield* request("GET", "/health/ready")
        assert.strictEqual(status, 200)
        assert.deepStrictEqual(body, {
          status: "ok",
          components: {
            database: { state: "ok" },
            migrations: { state: "ok" },
            listener: { state: "ok" },
            broker: { state: "ok" }
          },
          paused: []
        })
      })
    )

    it.effect("names what is paused, and is ready and live all the same", () =>
      Effect.gen(function* () {
        const { body } = yield* request("PUT", "/v1/pauses/notification", { body: { reason: "a secret" } })
        const ready = yield* request("GET", "/health/ready")
        assert.deepStrictEqual([ready.status, ready.body["status"]], [200, "ok"])
        assert.deepStrictEqual(ready.body["paused"], [{ kind: "notification", since: body["paused_at"] }])
        assert.strictEqual((yield* request("GET", "/health/live")).status, 200)
        yield* request("DELETE", "/v1/pauses/notification")
        assert.deepStrictEqual((yield* request("GET", "/health/ready")).body["paused"], [])
      })
    )

    it.effect("is degraded, and still 200, while the listener or the broker is away", () =>
      Effect.gen(function* () {
        const { broker, listenerUp } = yield* Surroundings
        for (const [away, back] of [
          [Ref.set(listenerUp, false), Ref.set(listenerUp, true)],
          [Ref.set(broker, "disconnected"), Ref.set(broker, "connected")],
          [Ref.set(broker, "blocked"), Ref.set(broker, "connected")]
        ] as const) {
          yield* away
          const answer = yield* request("GET", "/health/ready")
          yield* back
          assert.deepStrictEqual([answer.status, answer.body["status"]], [200, "degraded"])
        }
      })
    )

    it.effect("is ok in a process that uses no broker, and says so", () =>
      Effect.gen(function* () {
        const { broker } = yield* Surroundings
        yield* Ref.set(broker, "unused")
        const { body } = yield* request("GET", "/health/ready")
        yield* Ref.set(broker, "connected")
        assert.deepNestedInclude(body, { status: "ok", "components.broker.state": "not used" })
      })
    )

    it.effect("is not live while a loop makes no progress", () =>
      Effect.gen(function* () {
        const health = yield* Health
        assert.strictEqual((yield* request("GET", "/health/live")).status, 200)
        yield* health.beat("outbox", Duration.millis(-1))
        const dead = yield* request("GET", "/health/live")
        yield* health.beat("outbox", Duration.hours(1))
        assertProblem(dead, 503)
        assert.match(String(dead.body["detail"]), /outbox/)
        assert.strictEqual((yield* request("GET", "/health/live")).status, 200)
      })
    )
  })

  it.effect("metrics count requests by route, without ids", () =>
    Effect.gen(function* () {
      const id = yield* createGame()
      yield* request("GET", `/v1/games/${id}`)
      yield* request("GET", "/no/such/route")
      const { headers, text } = yield* request("GET", "/metrics")
      assert.match(headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/)
      assert.match(text, /kickoff_http_requests_total\{[^}]*route="\/v1\/games\/:id"[^}]*\} [1-9]/)
      assert.match(text, /kickoff_http_requests_total\{[^}]*route="unknown"[^}]*\} [1-9]/)
      assert.match(text, /kickoff_http_request_seconds_bucket/)
      assert.notInclude(text, id)
    })
  )

  it.effect("the OpenAPI description names every route and the page shows it", () =>
    Effect.gen(function* () {
      const { body } = yield* request("GET", "/openapi.json")
      assert.sameMembers(Object.keys(body["paths"] ?? {}), [
        "/v1/games",
        "/v1/games/{id}",
        "/v1/games/{id}/cancel",
        "/v1/games/{id}/schedule",
        "/v1/dead-letters",
        "/v1/dead-letters/{id}",
        "/v1/dead-letters/{id}/replay",
        "/v1/dead-letters/{id}/discard",
        "/v1/pauses",
        "/v1/pauses/{kind}",
        "/health/live",
        "/health/ready",
        "/metrics"
      ])
      const page = yield* request("GET", "/docs")
      assert.match(page.headers.get("content-type") ?? "", /^text\/html/)
      assert.include(page.text, "/v1/games/{id}/cancel")
    })
  )
})

layer(serverLayer({ roles: ["outbox"] }).pipe(Layer.provideMerge(TestDatabase.layer)), { excludeTestServices: true })(
  "A process without the role api",
  (it) => {
    it.effect("serves health and metrics, and nothing of the API", () =>
      Effect.gen(function* () {
        assert.strictEqual((yield* request("GET", "/health/live")).status, 200)
        assert.strictEqual((yield* request("GET", "/health/ready")).status, 200)
        assert.strictEqual((yield* request("GET", "/metrics")).status, 200)
        for (const path of ["/v1/games", "/openapi.json", "/docs"]) assertProblem(yield* request("GET", path), 404)
      })
    )
  }
)

const unmigrated = TestDatabase.layerWith({ migrated: false })

layer(serverLayer().pipe(Layer.provideMerge(unmigrated)), { excludeTestServices: true })(
  "A database that is not migrated",
  (it) => {
    it.effect("makes the process not ready", () =>
      Effect.gen(function* () {
        const answer = yield* request("GET", "/health/ready")
        assertProblem(answer, 503)
        const components = answer.body["components"] as Readonly<Record<string, { readonly state: string }>>
        assert.deepStrictEqual([components["database"]?.state, components["migrations"]?.state], ["ok", "away"])
      })
    )
  }
)

/** Stands between the service and the database: passes everything on, swallows everything, or cuts all connections. */
const makeProxy = Effect.fnUntraced(function* (target: URL) {
  const sockets = new Set<Net.Socket>()
  let frozen = false
  const server = Net.createServer((client) => {
    const upstream = Net.connect(Number(target.port), target.hostname)
    for (const [from, to] of [
      [client, upstream],
      [upstream, client]
    ] as const) {
      sockets.add(from)
      from.on("data", (data) => {
        if (!frozen) to.write(data)
      })
      from.on("error", () => to.destroy())
      from.on("close", () => to.destroy())
    }
  })
  const close = Effect.sync(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  yield* Effect.acquireRelease(
    Effect.promise(async () => {
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
    }),
    () => close
  )
  const address = server.address()
  const port = address !== null && typeof address === "object" ? address.port : 0
  return { port, freeze: Effect.sync(() => (frozen = true)), close }
})

layer(TestDatabase.layer, { excludeTestServices: true })("A database that goes away", (it) => {
  const serverBehindProxy = Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const proxy = yield* makeProxy(new URL(Redacted.value(url)))
    const proxied = new URL(Redacted.value(url))
    proxied.port = String(proxy.port)
    const database = Database.layer({ url: Redacted.make(proxied.href), connections: 3, name: "proxied" })
    const server = yield* Layer.build(serverLayer().pipe(Layer.provideMerge(Layer.fresh(database))))
    return { proxy, server }
  })

  it.effect("makes requests 503 with Retry-After and the process not ready but live", () =>
    Effect.gen(function* () {
      const { proxy, server } = yield* serverBehindProxy
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* request("GET", "/health/ready")).status, 200)
        yield* proxy.close
        const list = yield* request("GET", "/v1/games")
        assertProblem(list, 503)
        assert.isNotNull(list.headers.get("retry-after"))
        assertProblem(yield* request("POST", "/v1/games", { body: validGame }), 503)
        const ready = yield* request("GET", "/health/ready")
        assertProblem(ready, 503)
        assert.isNotNull(ready.headers.get("retry-after"))
        assert.strictEqual((yield* request("GET", "/health/live")).status, 200)
      }).pipe(Effect.provide(server))
    }).pipe(Effect.scoped)
  )

  it.effect("without a word makes no probe wait for longer than it may, however many ask", () =>
    Effect.gen(function* () {
      const { proxy, server } = yield* serverBehindProxy
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* request("GET", "/health/ready")).status, 200)
        yield* proxy.freeze
        const [lasted, answers] = yield* Effect.timed(
          Effect.replicateEffect(request("GET", "/health/ready"), 10, { concurrency: "unbounded" })
        )
        for (const answer of answers) assertProblem(answer, 503)
        assert.isBelow(Duration.toMillis(lasted), 3000)
        const [scraped, metrics] = yield* Effect.timed(request("GET", "/metrics"))
        assert.isBelow(Duration.toMillis(scraped), 3000)
        assert.include(metrics.text, "kickoff_database_up 0\n")
        assert.notInclude(metrics.text, "kickoff_outbox_events")
        yield* proxy.close
      }).pipe(Effect.provide(server))
    }).pipe(Effect.scoped)
  )
})

layer(TestDatabase.layer, { excludeTestServices: true })("The server", (it) => {
  it.effect("says which variable to change when its port is taken", () =>
    Effect.gen(function* () {
      const first = yield* Layer.build(serverLayer())
      const { url } = yield* HttpServer.pipe(Effect.provide(first))
      const port = Number(new URL(url).port)
      const error = yield* Effect.flip(Layer.build(Layer.fresh(serverLayer({ httpPort: port }))))
      assert.match(error.message, new RegExp(`^HTTP_PORT: port ${port} .* in use$`))
    }).pipe(Effect.scoped)
  )

  it.effect("stops at once when it has nothing to do, though a client keeps its connection", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Layer.build(Layer.fresh(serverLayer({ shutdownGrace: Duration.minutes(1) }))).pipe(
        Scope.provide(scope)
      )
      const { url } = yield* HttpServer.pipe(Effect.provide(server))
      const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
      socket.write("GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
      yield* Effect.promise(() => once(socket, "data"))
      const [lasted] = yield* Effect.timed(Scope.close(scope, Exit.void))
      // A connection that counted as a request would be waited for during half of the grace time.
      assert.isBelow(Duration.toMillis(lasted), 10_000)
      socket.destroy()
    })
  )

  it.effect("lets a running request end before it stops", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const database = yield* Database
      const scope = yield* Scope.make()
      const server = yield* Layer.build(Layer.fresh(serverLayer())).pipe(Scope.provide(scope))
      const id = yield* createGame().pipe(Effect.provide(server))
      const held = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const foreign = yield* Effect.forkChild(
        database.transaction(
          Effect.gen(function* () {
            yield* sql`SELECT FROM game_sessions WHERE id = ${id} FOR UPDATE`
            yield* Deferred.succeed(held, undefined)
            yield* Deferred.await(release)
          })
        )
      )
      yield* Deferred.await(held)
      const edit = yield* Effect.forkChild(
        request("PATCH", `/v1/games/${id}`, { body: { title: "last" } }).pipe(Effect.provide(server))
      )
      yield* sql`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.pipe(
        Effect.repeat({ until: (waiting) => waiting.length > 0 })
      )
      const stop = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(foreign)
      assert.strictEqual((yield* Fiber.join(edit)).status, 200)
      yield* Fiber.join(stop)
    })
  )

  it.effect("cuts a request that outlasts half of the grace time", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Layer.build(Layer.fresh(serverLayer({ shutdownGrace: Duration.millis(400) }))).pipe(
        Scope.provide(scope)
      )
      const { url } = yield* HttpServer.pipe(Effect.provide(server))
      const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
      // The body never comes.
      socket.write("POST /v1/games HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n")
      yield* Effect.promise(() => once(socket, "connect"))
      const live = yield* request("GET", "/health/live").pipe(Effect.provide(server))
      assert.strictEqual(live.status, 200)
      const [lasted] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(lasted), 1500)
      socket.destroy()
    })
  )
})
