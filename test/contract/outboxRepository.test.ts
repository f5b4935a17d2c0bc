/** One suite for the outbox table and the outbox in memory. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import type { GameEventType } from "../../src/domain/GameEvent.ts"
import { MemoryOutbox } from "../../src/outbox/MemoryOutbox.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { Database } from "../../src/postgres/Database.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const onTable = Layer.effect(
  MemoryOutbox,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return MemoryOutbox.of({
      append: (gameId: string, type: GameEventType) =>
        sql<{ readonly event_id: string }>`
          INSERT INTO outbox (game_id, type, data) VALUES (${gameId}, ${type}, '{}') RETURNING event_id`.pipe(
          Effect.map(([row]) => row?.event_id ?? ""),
          Effect.orDie
        ),
      waiting: sql<{ readonly event_id: string }>`SELECT event_id FROM outbox ORDER BY id`.pipe(
        Effect.map((rows) => rows.map((row) => row.event_id)),
        Effect.orDie
      ),
      deadLetters: sql<{ readonly source_id: string; readonly attempts: number }>`
        SELECT source_id, attempts FROM dead_letters WHERE kind = 'event' AND payload->>'event_id' = source_id::text`.pipe(
        Effect.map((rows) => rows.map((row) => [row.source_id, row.attempts] as const)),
        Effect.orDie
      )
    })
  })
)

const at = <A>(rows: ReadonlyArray<A>, index: number): A => Option.getOrThrow(Option.fromNullishOr(rows[index]))

const failure = { error: "EventRefused", message: "the broker refused the event" }

const suite = <E>(name: string, layer: Layer.Layer<MemoryOutbox | OutboxRepository, E>) =>
  describe(`OutboxRepository (${name})`, () => {
    it.live("is empty at first", () =>
      Effect.gen(function* () {
        const outbox = yield* OutboxRepository
        assert.deepStrictEqual(yield* outbox.list(10), [])
        assert.deepStrictEqual(yield* outbox.look, { waiting: false, retry: Option.none() })
      }).pipe(Effect.provide(layer))
    )

    it.live("lists what waits in its order, no more than asked for, and forgets what is removed", () =>
      Effect.gen(function* () {
        const outbox = yield* OutboxRepository
        const { append, waiting } = yield* MemoryOutbox
        const [a, b, c] = [
          yield* append(randomUUID(), "game.created"),
          yield* append(randomUUID(), "game.started"),
          yield* append(randomUUID(), "game.completed")
        ]
        const listed = yield* outbox.list(2)
        assert.deepStrictEqual(
          listed.map((event) => [event.event_id, event.type]),
          [
            [a, "game.created"],
            [b, "game.started"]
          ]
        )
        yield* outbox.remove(listed.map((event) => event.id))
        assert.deepStrictEqual(yield* waiting, [c])
        assert.isTrue((yield* outbox.look).waiting)
      }).pipe(Effect.provide(layer))
    )

    it.live("holds back a refused event and the later ones of its game, and lets other games go on", () =>
      Effect.gen(function* () {
        const outbox = yield* OutboxRepository
        const { append } = yield* MemoryOutbox
        const [game, other] = [randomUUID(), randomUUID()]
        const before = yield* append(game, "game.created")
        yield* append(game, "game.updated")
        yield* append(game, "game.started")
        const free = yield* append(other, "game.created")
        const second = at(yield* outbox.list(10), 1)
        assert.deepStrictEqual(yield* outbox.recordFailure(second, failure, 8), { attempts: 1, parked: false })
        assert.deepStrictEqual(
          (yield* outbox.list(10)).map((event) => event.event_id),
          [before, free]
        )
        const look = yield* outbox.look
        assert.isAtMost(Duration.toMillis(Option.getOrThrow(look.retry)), 500)
      }).pipe(Effect.provide(layer))
    )

    it.live("lists the latest events for which no earlier one of their game waits, of those that it looks at", () =>
      Effect.gen(function* () {
        const outbox = yield* OutboxRepository
        const { append } = yield* MemoryOutbox
        const [busy, refused, other, except] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()]
        const first = yield* append(busy, "game.created")
        yield* append(refused, "game.created")
        const second = yield* append(other, "game.created")
        yield* append(except, "game.created")
        yield* append(busy, "game.updated")
        yield* append(refused, "game.updated")
        yield* outbox.recordFailure(at(yield* outbox.list(10), 1), failure, 8)
        const latest = (limit: number) =>
          Effect.map(outbox.listLatest(limit, [except]), (events) => events.map((event) => event.event_id).toSorted())
        assert.deepStrictEqual(yield* latest(10), [first, second].toSorted())
        // Those of the busy and of the refused game are later, and there is no time to look further.
        assert.deepStrictEqual(yield* latest(2), [])
        assert.deepStrictEqual(yield* latest(3), [second])
      }).pipe(Effect.provide(layer))
    )

    it.live("leaves out the games that it is told to", () =>
      Effect.gen(function* () {
        const outbox = yield* OutboxRepository
        const { append } = yield* MemoryOutbox
        const [game, other] = [randomUUID(), randomUUID()]
        yield* append(game, "game.created")
        const free = yield* append(other, "game.created")
        assert.deepStrictEqual(
          (yield* outbox.list(10, [game])).map((event) => event.event_id),
          [free]
        )
      }).pipe(Effect.provide(layer))
    )

    it.live("makes a dead letter of an event after its last attempt, and the later ones of its game go on", () =>
      Effect.gen(function* () {
        const outbox = yield* OutboxRepository
        const { append, deadLetters } = yield* MemoryOutbox
        const game = randomUUID()
        const refused = yield* append(game, "game.created")
        const later = yield* append(game, "game.started")
        const first = at(yield* outbox.list(1), 0)
        yield* outbox.recordFailure(first, failure, 2)
        assert.deepStrictEqual(yield* outbox.list(10), [])
        assert.deepStrictEqual(yield* outbox.recordFailure(first, failure, 2), { attempts: 2, parked: true })
        assert.deepStrictEqual(yield* deadLetters, [[refused, 2]])
        assert.deepStrictEqual(
          (yield* outbox.list(10)).map((event) => event.event_id),
          [later]
        )
      }).pipe(Effect.provide(layer))
    )
  })

suite("in memory", MemoryOutbox.layer)
suite("PostgreSQL", Layer.merge(OutboxRepository.layer, onTable).pipe(Layer.provide(TestDatabase.layer)))

describe("OutboxRepository (PostgreSQL)", () => {
  it.live("lists an event that is committed long after others with higher numbers were published", () =>
    Effect.gen(function* () {
      const database = yield* Database
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* OutboxRepository
      const append = sql<{ readonly event_id: string }>`
        INSERT INTO outbox (game_id, type, data) VALUES (gen_random_uuid(), 'game.created', '{}') RETURNING event_id`
      const publishAll = Effect.gen(function* () {
        const listed = yield* outbox.list(10)
        yield* outbox.remove(listed.map(({ id }) => id))
        yield* outbox.look
        return listed.map(({ event_id }) => ({ event_id }))
      })
      const written = yield* Deferred.make<void>()
      const commit = yield* Deferred.make<void>()
      const late = yield* Effect.forkScoped(
        database.transaction(
          Effect.tap(append, () => Effect.andThen(Deferred.succeed(written, undefined), Deferred.await(commit)))
        )
      )
      yield* Deferred.await(written)
      for (let round = 0; round < 5; round++) {
        const appended = yield* append
        assert.deepStrictEqual(yield* publishAll, appended)
      }
      yield* Deferred.succeed(commit, undefined)
      assert.deepStrictEqual(yield* Fiber.join(late), yield* publishAll)
    }).pipe(Effect.scoped, Effect.provide(OutboxRepository.layer.pipe(Layer.provideMerge(TestDatabase.layer))))
  )

  it.live(
    "passes no event of a transaction that was writing, and the latest to have begun, when later ones were seen",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const database = yield* Database
        const outbox = yield* OutboxRepository
        const append = Effect.map(
          sql<{ readonly event_id: string }>`
          INSERT INTO outbox (game_id, type, data) VALUES (gen_random_uuid(), 'game.created', '{}') RETURNING event_id`,
          ([row]) => row?.event_id
        )
        /** A transaction that begins to write now, does what it is told to, and ends when it is told to. */
        const begin = Effect.gen(function* () {
          const begun = yield* Deferred.make<void>()
          const writes = yield* Deferred.make<void>()
          const written = yield* Deferred.make<string | undefined>()
          const ends = yield* Deferred.make<void>()
          const transaction = yield* Effect.forkScoped(
            database.transaction(
              Effect.gen(function* () {
                // A session of ours would be ended for doing nothing for long.
                yield* sql`SET LOCAL idle_in_transaction_session_timeout = 0`
                yield* sql`SELECT pg_current_xact_id()::text`
                yield* Deferred.succeed(begun, undefined)
                yield* Deferred.await(writes)
                yield* Deferred.succeed(written, yield* append)
                yield* Deferred.await(ends)
              })
            )
          )
          /** The transaction may also have failed. */
          const unlessItFailed = <A>(effect: Effect.Effect<A>) =>
            Effect.raceFirst(effect, Effect.andThen(Fiber.join(transaction), Effect.never))
          yield* unlessItFailed(Deferred.await(begun))
          return {
            write: Effect.andThen(Deferred.succeed(writes, undefined), unlessItFailed(Deferred.await(written))),
            commit: Effect.andThen(Deferred.succeed(ends, undefined), Fiber.join(transaction))
          }
        })
        const earlier = yield* begin
        const latest = yield* begin
        const passed = yield* latest.write
        const seen = yield* earlier.write
        yield* earlier.commit
        yield* outbox.look
        const listed = yield* outbox.list(10)
        assert.deepStrictEqual(
          listed.map(({ event_id }) => event_id),
          [seen]
        )
        yield* outbox.remove(listed.map(({ id }) => id))
        yield* outbox.look
        yield* outbox.look
        yield* latest.commit
        assert.deepStrictEqual(
          (yield* outbox.list(10)).map(({ event_id }) => event_id),
          [passed]
        )
      }).pipe(
        Effect.scoped,
        Effect.provide(OutboxRepository.layer.pipe(Layer.provideMerge(TestDatabase.layerWith({ connections: 4 }))))
      )
  )
})
