/**
 * The least that can answer for games over HTTP: `node:http` and a few sessions on a bare driver, which run the very
 * statements that Kickoff runs.
 *
 * The statements are those of `Games`, recorded on their way to the database, so that they are the same whatever becomes
 * of them. It validates nothing, relays nothing, and knows three requests.
 */
import { NodeRuntime } from "@effect/platform-node"
import type { PgConnection } from "@effect/sql-pg"
import { DateTime, Effect, Layer, Redacted, Schema } from "effect"
import { Statement } from "effect/sql"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { text as readText } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { Caller } from "../../src/domain/Caller.ts"
import { Games } from "../../src/games/Games.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { Database } from "../../src/postgres/Database.ts"
import { startProgram } from "../childProcess.ts"
import { migrate } from "../kickoff.ts"
import { Servers } from "../Servers.ts"
import { connect } from "../sql.ts"

/** As many as Kickoff has in its pool. */
const sessions = 10

const Listening = Schema.Struct({ url: Schema.String })
const isListening = Schema.is(Listening)

/** Starts it on a migrated database of its own. */
export const startBareApi = Effect.fnUntraced(function* (name: string) {
  const databaseUrl = yield* (yield* Servers).createDatabase(name)
  yield* migrate(databaseUrl)
  const program = yield* startProgram({
    name: "the bare handler",
    args: [fileURLToPath(import.meta.url)],
    env: { DATABASE_URL: databaseUrl }
  })
  const { url } = yield* program.next((output) =>
    output._tag === "message" && isListening(output.message) ? output.message : undefined
  )
  return { name: "bare handler", url, database: yield* connect(databaseUrl) }
})

/** Statements with the values of the request that was recorded. */
type Recorded = ReadonlyArray<readonly [text: string, parameters: ReadonlyArray<unknown>]>

/** What is put in the place of a recorded value. */
type Replacement = readonly [recorded: unknown, given: unknown]

const sample = {
  guild_id: "the recorded guild",
  title: "the recorded title",
  scheduled_at: DateTime.makeUnsafe("2030-01-01T00:00:00Z"),
  renamed: "the other title"
}

const record = Effect.gen(function* () {
  const games = yield* Games
  const recording = Effect.fnUntraced(function* <A, E>(effect: Effect.Effect<A, E, Caller>) {
    const statements: Array<readonly [string, ReadonlyArray<unknown>]> = []
    const recorder: Statement.Transformer = (statement) =>
      Effect.sync(() => {
        statements.push(statement.compile())
        return statement
      })
    const result = yield* Effect.provideService(effect, Statement.CurrentTransformer, recorder)
    return { result, statements }
  })
  const { guild_id, renamed, scheduled_at, title } = sample
  const created = yield* recording(games.create({ guild_id, title, scheduled_at }))
  const { id } = created.result
  const read = yield* recording(games.get(id))
  const edited = yield* recording(games.edit(id, { title: renamed }))
  yield* games.remove(id)
  return { id, create: created.statements, read: read.statements, edit: edited.statements }
})

const fill = (parameters: ReadonlyArray<unknown>, replacements: ReadonlyArray<Replacement>) =>
  parameters.map((parameter) => {
    const found = replacements.find(([recorded]) =>
      parameter instanceof Date && recorded instanceof Date
        ? parameter.getTime() === recorded.getTime()
        : parameter === recorded
    )
    return found === undefined ? parameter : found[1]
  })

/** Sessions that are free, and those who wait for one. */
const makePool = (databases: ReadonlyArray<PgConnection.PgConnection>) => {
  const free = [...databases]
  const waiting: Array<(database: PgConnection.PgConnection) => void> = []
  return async <A>(use: (database: PgConnection.PgConnection) => Promise<A>): Promise<A> => {
    const database = free.pop() ?? (await new Promise<PgConnection.PgConnection>((resolve) => waiting.push(resolve)))
    try {
      return await use(database)
    } finally {
      const next = waiting.shift()
      if (next === undefined) free.push(database)
      else next(database)
    }
  }
}

/** Runs recorded statements and returns the last row that one of them answered. */
const play = async (
  database: PgConnection.PgConnection,
  statements: Recorded,
  replacements: ReadonlyArray<Replacement>
): Promise<PgConnection.Row | undefined> => {
  const run = (text: string, parameters: ReadonlyArray<unknown> = []) =>
    Effect.runPromise(database.query(text, [...parameters]))
  const transaction = statements.length > 1
  let row: PgConnection.Row | undefined
  if (transaction) await run("BEGIN")
  for (const [text, parameters] of statements) {
    const { rows } = await run(text, fill(parameters, replacements))
    row = rows[0] ?? row
  }
  if (transaction) await run("COMMIT")
  return row
}

if (import.meta.main) {
  const databaseUrl = process.env["DATABASE_URL"] ?? ""
  const games = Games.layer.pipe(
    Layer.provide(OutboxSignal.layerMemory),
    Layer.provide(Database.layer({ url: Redacted.make(databaseUrl), connections: 1, name: "record" }))
  )
  Effect.gen(function* () {
    const recorded = yield* record.pipe(Effect.provideService(Caller, Caller.anybody), Effect.provide(games))
    const withSession = makePool(yield* Effect.all(Array.from({ length: sessions }, () => connect(databaseUrl))))

    const answer = async (request: IncomingMessage) => {
      const id = request.url?.split("/")[3]
      switch (request.method) {
        case "POST": {
          const { guild_id, scheduled_at, title } = JSON.parse(await readText(request))
          return withSession((database) =>
            play(database, recorded.create, [
              [sample.guild_id, guild_id],
              [sample.title, title],
              [DateTime.toDateUtc(sample.scheduled_at), new Date(scheduled_at)]
            ])
          )
        }
        case "PATCH": {
          const { title } = JSON.parse(await readText(request))
          return withSession((database) =>
            play(database, recorded.edit, [
              [recorded.id, id],
              [sample.renamed, title]
            ])
          )
        }
        default:
          return withSession((database) => play(database, recorded.read, [[recorded.id, id]]))
      }
    }
    const respond = async (request: IncomingMessage, response: ServerResponse) => {
      const body = JSON.stringify(await answer(request))
      response.writeHead(request.method === "POST" ? 201 : 200, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body)
      })
      response.end(body)
    }
    const server = createServer((request, response) => {
      respond(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)))
    })
    process.once("disconnect", () => process.exit())
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      if (typeof address === "object" && address !== null) process.send?.({ url: `http://127.0.0.1:${address.port}` })
    })
    yield* Effect.never
  }).pipe(Effect.scoped, NodeRuntime.runMain)
}
