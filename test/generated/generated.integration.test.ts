/**
 * The HTTP API against thousands of requests that are generated from its own description, half of them broken: nothing is
 * answered with a 5xx, and nothing with what the description does not say.
 *
 * `GENERATED_REQUESTS` sends another number of them, `GENERATED_SEED` the same ones again, `GENERATED_REPLAY` the single one
 * that a failure names.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Layer, Random } from "effect"
import { SqlClient } from "effect/sql"
import { type ApiKey, digestOf, makeKey, type Scope, scopes, toHash } from "../../src/access/apiKey.ts"
import { HttpServer } from "../../src/http/HttpServer.ts"
import { request, serverLayer } from "../http/apiServer.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import { makeClient } from "./client.ts"
import { makeJudge, type OpenApiDescription, operationsOf } from "./description.ts"
import { type Client, type Credential, type GeneratedRequest, requestsTo } from "./requests.ts"

const { GENERATED_REPLAY: replay, GENERATED_REQUESTS: chosenCount, GENERATED_SEED: chosenSeed } = process.env

const count = Number(chosenCount ?? 5000)

/** So many that each kind of refusal is among them. */
const plenty = 20_000

/** After so many the games and dead letters are put back as they were. */
const chunk = 1000
const connections = 16

const everything: ReadonlyArray<Scope> = scopes
const clients: Readonly<
  Record<Client, { readonly scopes: ReadonlyArray<Scope>; readonly guilds?: ReadonlyArray<string> }>
> = {
  admin: { scopes: everything },
  reader: { scopes: ["read"] },
  writer: { scopes: ["write"] },
  operator: { scopes: ["operate"] },
  elsewhere: { scopes: everything, guilds: ["elsewhere"] }
}
const keys = Object.entries(clients).map(([name, rights]) => ({ key: makeKey(), name, rights }))
const entries = keys.map(({ key, name, rights }): ApiKey => ({ name, hash: toHash(digestOf(key)), ...rights }))
const keyOf = (client: Client) => keys.find(({ name }) => name === client)?.key ?? ""

const authorizationOf = (credential: Credential): Readonly<Record<string, string | Array<string>>> => {
  switch (credential) {
    case "none":
      return {}
    case "unknown":
      return { authorization: `Bearer kickoff_${"A".repeat(43)}` }
    case "basic":
      return { authorization: `Basic ${Buffer.from(`admin:${keyOf("admin")}`).toString("base64")}` }
    case "malformed":
      return { authorization: "Bearer \u00ff" }
    case "twice":
      return { authorization: [`Bearer ${keyOf("admin")}`, `Bearer ${keyOf("reader")}`] }
    default:
      return { authorization: `Bearer ${keyOf(credential)}` }
  }
}

const idsAfter = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, n) => `${prefix}-0000-0000-0000-${String(n).padStart(12, "0")}`)
const games = idsAfter("0000cafe", 200)
const letters = idsAfter("0000dead", 100)
const rows = idsAfter("00000b0b", 50)

/** Games of every status and guild, and letters about rows and events, whatever became of them before. */
const reset = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`DELETE FROM dead_letters`
  yield* sql`DELETE FROM game_sessions`
  yield* sql`DELETE FROM outbox`
  yield* sql`DELETE FROM pauses`
  yield* sql`
    INSERT INTO game_sessions (id, guild_id, title, status, scheduled_at)
    SELECT id, (ARRAY['here', 'elsewhere'])[1 + n % 2], 'Game ' || n,
      (ARRAY['SCHEDULED', 'SCHEDULED', 'IN_PROGRESS', 'COMPLETED', 'CANCELLED'])[1 + n % 5],
      now() + (n - 20) * interval '1 minute'
    FROM unnest(${games}::uuid[]) WITH ORDINALITY AS game (id, n)`
  yield* sql`
    INSERT INTO game_status_schedule (id, game_id, target_status, transition_time, hold)
    SELECT id, game, 'IN_PROGRESS', now() - interval '1 minute', 'parked'
    FROM unnest(${rows}::uuid[], ${games.slice(0, rows.length)}::uuid[]) AS row (id, game)`
  yield* sql`
    INSERT INTO dead_letters (id, kind, source_id, game_id, due_at, error, message, attempts, payload)
    SELECT letter, 'status-transition', row, game, now() - interval '1 minute', 'ConstraintError', 'refused', 8, '{}'
    FROM unnest(${letters.slice(0, rows.length)}::uuid[], ${rows}::uuid[], ${games.slice(0, rows.length)}::uuid[])
      AS parked (letter, row, game)`
  yield* sql`
    INSERT INTO dead_letters (id, kind, source_id, game_id, error, message, attempts, payload)
    SELECT letter, 'event', gen_random_uuid(), game, 'EventRefused', 'refused', 8, jsonb_build_object(
      'game_id', game, 'type', 'game.updated', 'occurred_at', now(), 'due_at', NULL, 'traceparent', NULL,
      'data', jsonb_build_object('guild_id', 'here'))
    FROM unnest(${letters.slice(rows.length)}::uuid[], ${games.slice(0, letters.length - rows.length)}::uuid[])
      AS parked (letter, game)`
})

const server = serverLayer({ rateLimit: 1_000_000 }, { keys: entries }).pipe(Layer.provideMerge(TestDatabase.layer))

describe("requests that are generated from the description", () => {
  it.live(
    "are answered as it says, whatever is wrong with them",
    () =>
      Effect.gen(function* () {
        const seed = chosenSeed ?? String(yield* Random.nextIntBetween(1, 1_000_000_000))
        process.stderr.write(replay === undefined ? `${count} requests of seed ${seed}\n` : `the request ${replay}\n`)
        const { url } = yield* HttpServer
        // The linter has found it to be an OpenAPI description.
        const description: OpenApiDescription = JSON.parse((yield* request("GET", "/openapi.json")).text)
        const operations = operationsOf(description)
        const judge = makeJudge(description, ["/openapi.json", "/docs"])
        const send = yield* makeClient(url, connections)
        const requests = requestsTo(description, operations, (template) =>
          template.startsWith("/v1/dead-letters") ? letters : games
        )
        const answered = new Map<string, number>()

        const property = Effect.fnUntraced(function* (generated: GeneratedRequest) {
          const headers = { ...generated.headers, ...authorizationOf(generated.credential) }
          const answer = yield* send({ ...generated, headers })
          const { operation } = judge.find(generated.method, generated.path)
          const what = operation === undefined ? `${answer.status}` : `${answer.status} ${operation.name}`
          answered.set(what, (answered.get(what) ?? 0) + 1)
          const objections = [
            ...judge.objections(generated, answer),
            ...(generated.valid && ![200, 201, 204, 404, 409, 412].includes(answer.status)
              ? [`${answer.status} for what is allowed: ${answer.text}`]
              : [])
          ]
          return objections.length === 0 ? true : yield* Effect.fail(objections.join("\n"))
        })

        const runs = replay === undefined ? Math.ceil(count / chunk) : 1
        for (let run = 0; run < runs; run++) {
          yield* reset
          const result = yield* Arbitrary.checkEffect(requests, property, {
            seed: `${seed}/${run}`,
            runs: Math.min(chunk, count - run * chunk),
            concurrency: connections,
            replay
          })
          if (result._tag === "Passed") continue
          assert.fail(
            `${Arbitrary.formatCheckFailure(result)}\nGENERATED_SEED=${seed} repeats the run` +
              (result._tag === "Falsified" ? `, GENERATED_REPLAY='${result.replay}' this request` : "")
          )
        }
        const statuses = new Map<string, number>()
        for (const [what, times] of answered) {
          const [status = ""] = what.split(" ")
          statuses.set(status, (statuses.get(status) ?? 0) + times)
        }
        const summary = [...statuses]
          .map(([status, times]) => `${status}: ${times}`)
          .toSorted((a, b) => (a < b ? -1 : 1))
        process.stderr.write(`${summary.join(", ")}\n`)
        if (replay !== undefined || count < plenty) return
        // They went everywhere, and were refused for everything.
        for (const { name, responses } of operations) {
          for (const status of Object.keys(responses)) {
            if (status < "300") assert.isTrue(answered.has(`${status} ${name}`), `no ${status} ${name}`)
          }
        }
        assert.includeMembers([...statuses.keys()], ["400", "401", "403", "404", "405", "409", "412", "413", "415"])
      }).pipe(Effect.scoped, Effect.provide(server)),
    // 20,000 take a machine that does nothing else half a minute.
    300_000
  )
})
