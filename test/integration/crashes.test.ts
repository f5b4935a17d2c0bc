/** `kill -9` between any two steps: nothing is lost, nothing happens twice, a redelivery carries the same id. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Queue, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { RabbitPublisher } from "../../src/messaging/RabbitPublisher.ts"
import { Settings } from "../../src/Settings.ts"
import { consumeExchange, readEvent } from "../messaging/consumer.ts"
import { type CrashPoint, crashPoints } from "../support/crashPoints.ts"
import { eventually, getGame } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const games = 20

const program = fileURLToPath(new URL("../support/crashingEngine.ts", import.meta.url))

/** Runs the engine in a process of its own until the scope closes; `ended` waits for its end, however it comes. */
const startEngine = (environment: Record<string, string>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program], {
          env: { ...process.env, ...environment },
          stdio: ["ignore", "ignore", "inherit"]
        })
        const ended = new Promise<NodeJS.Signals | null>((resolve) =>
          child.on("exit", (_code, signal) => resolve(signal))
        )
        return { child, ended }
      }),
      ({ child, ended }) =>
        Effect.promise(() => {
          child.kill("SIGKILL")
          return ended
        })
    ),
    ({ ended }) => ({ ended: Effect.promise(() => ended) })
  )

/** Declares the exchange, so that the consumer can bind to it before anything is published. */
const declareExchange = (exchange: string) =>
  Effect.asVoid(Publisher).pipe(
    Effect.provide(
      RabbitPublisher.layer.pipe(
        Layer.provide(
          Settings.layerWith({
            rabbitmqUrl: Option.some(Redacted.make(inject("rabbitmqUrl"))),
            rabbitmqExchange: exchange
          })
        )
      )
    )
  )

const survives = (crashAt: CrashPoint) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const { url } = yield* TestDatabase
    const exchange = `crash.${randomBytes(6).toString("hex")}`
    yield* declareExchange(exchange)
    const messages = yield* consumeExchange(inject("rabbitmqUrl"), exchange)
    yield* sql`
      WITH game AS (
        INSERT INTO game_sessions (guild_id, title, scheduled_at)
        SELECT 'guild', 'game ' || n, now() FROM generate_series(1, ${games}) AS n
        RETURNING id
      )
      INSERT INTO game_status_schedule (game_id, target_status, transition_time)
      SELECT id, 'IN_PROGRESS', now() FROM game`
    const environment = (point: CrashPoint) => ({
      DATABASE_URL: Redacted.value(url),
      RABBITMQ_URL: inject("rabbitmqUrl"),
      RABBITMQ_EXCHANGE: exchange,
      CRASH_AT: point
    })

    if (crashAt !== "nowhere") {
      const crashing = yield* startEngine(environment(crashAt))
      assert.strictEqual(yield* crashing.ended, "SIGKILL")
    }
    yield* startEngine(environment("nowhere"))

    const ids = yield* Effect.map(sql<{ readonly id: string }>`SELECT id FROM game_sessions`, (rows) =>
      rows.map((row) => row.id)
    )
    const eventIds = new Map<string, Set<string>>()
    while (eventIds.size < games) {
      const event = readEvent(yield* Queue.take(messages))
      assert.strictEqual(event.type, "game.started")
      eventIds.set(event.subject, (eventIds.get(event.subject) ?? new Set()).add(event.id))
    }
    yield* eventually(sql<object>`SELECT id FROM outbox`, (rows) => rows.length === 0)
    for (const message of yield* Queue.clear(messages)) {
      const event = readEvent(message)
      eventIds.get(event.subject)?.add(event.id)
    }
    for (const id of ids) {
      assert.strictEqual(eventIds.get(id)?.size, 1, "one event id per game")
      const game = yield* getGame(id)
      assert.deepStrictEqual([game.status, game.version], ["IN_PROGRESS", 2])
    }
  }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer))

describe("a process that is killed", () => {
  for (const point of crashPoints) {
    it.live(`loses nothing and starts nothing twice: ${point}`, () => survives(point))
  }
})
