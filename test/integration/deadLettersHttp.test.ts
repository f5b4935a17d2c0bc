/** The routes of dead letters, as a client meets them. */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { type Answer, request, serverLayer } from "../http/apiServer.ts"
import { parkReminder, parkTransition } from "../support/deadLetters.ts"
import { insertGame } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const server = Layer.mergeAll(serverLayer(), StatusTransitionRepository.layer, NotificationRepository.layer).pipe(
  Layer.provideMerge(TestDatabase.layer)
)

const hour = 3_600_000

const assertProblem = (answer: Answer, status: number, type: string) => {
  assert.strictEqual(answer.status, status, answer.text)
  assert.strictEqual(answer.headers.get("content-type"), "application/problem+json")
  assert.deepInclude(answer.body, { status, type: `urn:kickoff:problem:${type}` })
  assert.isString(answer.body["detail"])
}

/** The ids on a page of the list. */
const idsOf = (answer: Answer): ReadonlyArray<string> => {
  assert.strictEqual(answer.status, 200, answer.text)
  const letters = answer.body["dead_letters"]
  assert.isArray(letters)
  return (letters as ReadonlyArray<{ readonly id: string }>).map(({ id }) => id)
}

layer(server, { excludeTestServices: true })("The HTTP API of dead letters", (it) => {
  it.effect("shows a letter with everything that is known, instants in UTC", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame(-1000)
      const { id, letter } = yield* parkTransition(game, "IN_PROGRESS")
      yield* sql`
        UPDATE dead_letters
        SET due_at = '2020-02-02T03:02:02.002+01:00', created_at = '2020-02-02T02:02:03Z'
        WHERE id = ${letter}`
      const answer = yield* request("GET", `/v1/dead-letters/${letter}`)
      assert.strictEqual(answer.status, 200)
      const { payload, ...rest } = answer.body
      assert.deepStrictEqual(rest, {
        id: letter,
        kind: "status-transition",
        source_id: id,
        game_id: game,
        due_at: "2020-02-02T02:02:02.002Z",
        error: "ConstraintError",
        message: "this cannot be",
        attempts: 1,
        created_at: "2020-02-02T02:02:03.000Z",
        resolved_at: null,
        resolved_by: null,
        resolution: null
      })
      assert.deepInclude(payload, { id, target_status: "IN_PROGRESS" })
    })
  )

  it.effect("lists the open letters unless told otherwise, by every filter, page by page", () =>
    Effect.gen(function* () {
      const game = yield* insertGame(hour)
      const start = (yield* parkTransition(game, "IN_PROGRESS")).letter
      const reminder = (yield* parkReminder(game)).letter
      const other = (yield* parkReminder(yield* insertGame(hour))).letter
      yield* request("POST", `/v1/dead-letters/${start}/discard`)
      const of = (query: string) => Effect.map(request("GET", `/v1/dead-letters?game_id=${game}${query}`), idsOf)
      assert.deepStrictEqual(yield* of(""), [reminder])
      assert.deepStrictEqual(yield* of("&state=resolved"), [start])
      assert.deepStrictEqual(yield* of("&state=all"), [start, reminder])
      assert.deepStrictEqual(yield* of("&state=all&kind=notification"), [reminder])
      assert.deepStrictEqual(yield* of("&state=all&guild_id=guild"), [start, reminder])
      assert.deepStrictEqual(yield* of("&state=all&guild_id=elsewhere"), [])
      assert.deepStrictEqual(yield* of("&from=2000-01-01T00:00:00Z"), [reminder])
      assert.deepStrictEqual(yield* of("&to=2000-01-01T00:00:00Z"), [])
      const open = idsOf(yield* request("GET", "/v1/dead-letters"))
      assert.includeMembers([...open], [reminder, other])

      const first = yield* request("GET", `/v1/dead-letters?game_id=${game}&state=all&limit=1`)
      assert.deepStrictEqual(idsOf(first), [start])
      const last = yield* request(
        "GET",
        `/v1/dead-letters?game_id=${game}&state=all&limit=1&cursor=${String(first.body["next_cursor"])}`
      )
      assert.deepStrictEqual(idsOf(last), [reminder])
      assert.isNull(last.body["next_cursor"])
    })
  )

  it.effect("replays a letter and answers it as it is then; a second time is a conflict", () =>
    Effect.gen(function* () {
      const { letter } = yield* parkReminder(yield* insertGame(hour))
      const answer = yield* request("POST", `/v1/dead-letters/${letter}/replay`)
      assert.strictEqual(answer.status, 200)
      assert.deepInclude(answer.body, {
        id: letter,
        resolution: "replayed",
        resolved_by: "api",
        superseded_because: null
      })
      assert.isString(answer.body["resolved_at"])
      const { body } = yield* request("GET", `/v1/dead-letters/${letter}`)
      assert.deepStrictEqual({ ...body, superseded_because: null }, answer.body)
      assertProblem(yield* request("POST", `/v1/dead-letters/${letter}/replay`), 409, "dead-letter-resolved")
      assertProblem(yield* request("POST", `/v1/dead-letters/${letter}/discard`), 409, "dead-letter-resolved")
    })
  )

  it.effect("says of a replay that came too late that it was superseded, and why", () =>
    Effect.gen(function* () {
      const { letter } = yield* parkTransition(yield* insertGame(-1000, { status: "CANCELLED" }), "IN_PROGRESS")
      const answer = yield* request("POST", `/v1/dead-letters/${letter}/replay`)
      assert.strictEqual(answer.status, 200)
      assert.deepInclude(answer.body, { resolution: "superseded", superseded_because: "the game is CANCELLED" })
    })
  )

  it.effect("does not find what is not there", () =>
    Effect.gen(function* () {
      const path = `/v1/dead-letters/${randomUUID()}`
      assertProblem(yield* request("GET", path), 404, "dead-letter-not-found")
      assertProblem(yield* request("POST", `${path}/replay`), 404, "dead-letter-not-found")
      assertProblem(yield* request("POST", `${path}/discard`), 404, "dead-letter-not-found")
    })
  )

  it.effect("shows and settles letters of events whatever they hold, and says which cannot be put back", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const insertLetter = Effect.fnUntraced(function* (payload: string) {
        const [row] = yield* sql<{ readonly id: string }>`
          INSERT INTO dead_letters (kind, source_id, game_id, error, message, attempts, payload)
          VALUES ('event', gen_random_uuid(), NULL, '', ${"a\nb\u001b"}, -5, ${payload}::text::jsonb)
          RETURNING id`
        return row?.id ?? ""
      })
      const event = (data: string) =>
        `{"game_id":"${randomUUID()}","type":"game.started","occurred_at":"2040-01-01T00:00:00Z","data":${data}}`
      for (const payload of [
        "null",
        "[]",
        '"x"',
        "1e400",
        "{}",
        event("null").replace("2040-", "x"),
        '{"game_id":"x"}'
      ]) {
        const id = yield* insertLetter(payload)
        assert.strictEqual((yield* request("GET", `/v1/dead-letters/${id}`)).status, 200, payload)
        assertProblem(yield* request("POST", `/v1/dead-letters/${id}/replay`), 409, "dead-letter-unusable")
        assert.include(idsOf(yield* request("GET", "/v1/dead-letters?kind=event&limit=200")), id)
        const discarded = yield* request("POST", `/v1/dead-letters/${id}/discard`)
        assert.deepStrictEqual([discarded.status, discarded.body["resolution"]], [200, "discarded"], payload)
      }
      for (const data of ["{}", "[1e400]", "5", '"x"', '{"guild_id":{"a":1}}']) {
        const id = yield* insertLetter(event(data))
        const replayed = yield* request("POST", `/v1/dead-letters/${id}/replay`)
        assert.deepStrictEqual([replayed.status, replayed.body["resolution"]], [200, "replayed"], data)
      }
      // What is too large a number for us goes on as it came.
      const [huge] = yield* sql<{ readonly same: boolean }>`
        SELECT count(*) = 1 AS same FROM outbox WHERE data::jsonb = '[1e400]'`
      assert.deepStrictEqual(huge, { same: true })
    })
  )

  it.effect.each([
    ["GET", "?state=closed", "state"],
    ["GET", "?kind=reminder", "kind"],
    ["GET", "?game_id=1", "game_id"],
    ["GET", "?from=2040-01-01", "from"],
    ["GET", "?limit=201", "limit"],
    ["GET", "?cursor=x", "cursor"],
    ["GET", "?colour=red", "colour"],
    ["GET", "/1", "id"],
    ["POST", "/1/replay", "id"],
    ["POST", "/1/discard", "id"]
  ] as const)("refuses %s /v1/dead-letters%s, naming %s", ([method, rest, path]) =>
    Effect.gen(function* () {
      const answer = yield* request(method, `/v1/dead-letters${rest}`)
      assertProblem(answer, 400, "invalid-request")
      assert.deepStrictEqual(
        (answer.body["errors"] as ReadonlyArray<{ readonly path: string }>).map((error) => error.path),
        [path]
      )
    })
  )

  it.effect("is described for people and machines", () =>
    Effect.gen(function* () {
      const { paths } = (yield* request("GET", "/openapi.json")).body as { readonly paths: object }
      for (const path of ["", "/{id}", "/{id}/replay", "/{id}/discard"]) {
        assert.property(paths, `/v1/dead-letters${path}`)
      }
      assert.include((yield* request("GET", "/docs")).text, "/v1/dead-letters/{id}/replay")
    })
  )
})
