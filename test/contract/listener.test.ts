/** One suite for the listener on PostgreSQL and the one in memory. */
import { assert, describe, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Effect, Exit, Layer, Logger, Queue, Redacted, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { Health } from "../../src/observability/Health.ts"
import { type Channel, channels } from "../../src/postgres/channels.ts"
import { type Hint, Listener, MemoryNotifier } from "../../src/postgres/Listener.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

interface Notifier {
  /** As the triggers do where an instant is given, ms since 1970; with an empty payload otherwise. */
  readonly notify: (channel: Channel, earliest?: number) => Effect.Effect<void>
  /** Breaks the connection, and waits for nothing. */
  readonly reconnect: Effect.Effect<void>
}

const suite = <R, E>(name: string, makeNotifier: Effect.Effect<Notifier, E, R>, layer: Layer.Layer<R | Listener, E>) =>
  describe(`Listener (${name})`, () => {
    const subscribed = Effect.gen(function* () {
      const listener = yield* Listener
      const hints = yield* listener.subscribe(channels.statusTransitions)
      yield* Effect.forkScoped(listener.run)
      return { listener, hints, notifier: yield* makeNotifier }
    })

    /** Takes the hint of the first connection, where there is one. */
    const connected = Effect.gen(function* () {
      const all = yield* subscribed
      if (name !== "in memory") assert.strictEqual((yield* Queue.take(all.hints)).cause, "reconnect")
      assert.isTrue(yield* all.listener.isUp)
      return all
    })

    it.live("hints when its channel is notified", () =>
      Effect.gen(function* () {
        const { hints, notifier } = yield* connected
        yield* notifier.notify(channels.statusTransitions)
        assert.strictEqual((yield* Queue.take(hints)).cause, "notify")
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("keeps the channels apart", () =>
      Effect.gen(function* () {
        const { hints, listener, notifier } = yield* connected
        const others = yield* listener.subscribe(channels.notifications)
        yield* notifier.notify(channels.notifications)
        assert.strictEqual((yield* Queue.take(others)).cause, "notify")
        assert.strictEqual(yield* Queue.size(hints), 0)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("holds one hint for a subscriber that is busy, however many come", () =>
      Effect.gen(function* () {
        const { hints, listener, notifier } = yield* connected
        yield* Effect.forEach(Array.from({ length: 50 }), () => notifier.notify(channels.statusTransitions))
        const marker = yield* listener.subscribe(channels.notifications)
        yield* notifier.notify(channels.notifications)
        yield* Queue.take(marker)
        assert.strictEqual(yield* Queue.size(hints), 1)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live(
      "names the earliest instant of all notifications that came meanwhile, or none if one of them names none",
      () =>
        Effect.gen(function* () {
          const { hints, listener, notifier } = yield* connected
          const marker = yield* listener.subscribe(channels.notifications)
          const delivered = Effect.andThen(notifier.notify(channels.notifications), Queue.take(marker))
          for (const earliest of [3000, 1000, 2000]) yield* notifier.notify(channels.statusTransitions, earliest)
          yield* delivered
          assert.deepStrictEqual(yield* Queue.take(hints), { cause: "notify", earliest: 1000 })
          yield* notifier.notify(channels.statusTransitions, 1000)
          yield* notifier.notify(channels.statusTransitions)
          yield* delivered
          assert.deepStrictEqual(yield* Queue.take(hints), { cause: "notify", earliest: undefined })
        }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("hints every subscriber when it has reconnected", () =>
      Effect.gen(function* () {
        const { hints, listener, notifier } = yield* connected
        const others = yield* listener.subscribe(channels.notifications)
        yield* notifier.reconnect
        const isBack = (queue: Queue.Dequeue<Hint>) =>
          Effect.repeat(Queue.take(queue), { until: (hint) => hint.cause === "reconnect" })
        yield* isBack(hints)
        yield* isBack(others)
        assert.isTrue(yield* listener.isUp)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("forgets a subscriber whose scope has closed", () =>
      Effect.gen(function* () {
        const { hints, listener, notifier } = yield* connected
        const scope = yield* Scope.make()
        const gone = yield* Scope.provide(listener.subscribe(channels.statusTransitions), scope)
        yield* Scope.close(scope, Exit.void)
        yield* notifier.notify(channels.statusTransitions)
        assert.strictEqual((yield* Queue.take(hints)).cause, "notify")
        assert.strictEqual(yield* Queue.size(gone), 0)
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  })

suite(
  "in memory",
  Effect.map(MemoryNotifier, (notifier): Notifier => notifier),
  Listener.layerMemory
)

suite(
  "PostgreSQL",
  Effect.gen(function* () {
    const pg = yield* PgClient.PgClient
    const sql = yield* SqlClient.SqlClient
    const notifier: Notifier = {
      notify: (channel, earliest) =>
        Effect.orDie(
          pg.notify(
            channel,
            earliest === undefined ? "" : JSON.stringify({ transition_time: new Date(earliest).toISOString() })
          )
        ),
      reconnect: sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name LIKE 'kickoff:listener@%' AND datname = current_database()`.pipe(
        Effect.asVoid,
        Effect.orDie
      )
    }
    return notifier
  }),
  Layer.unwrap(Effect.map(TestDatabase, ({ url }) => Listener.layer(url))).pipe(
    Layer.provideMerge(Health.layer),
    Layer.provideMerge(TestDatabase.layer)
  )
)

describe("Listener (behind a pooler)", () => {
  it.live("is not up while its own notifications do not come back, and says what to do", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* SqlClient.SqlClient
      // A server that takes LISTEN and NOTIFY and delivers nothing, as a transaction pooler does.
      yield* sql`CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT NULL::void'`
      const swallowing = new URL(Redacted.value(url))
      swallowing.searchParams.set("options", "-c search_path=public,pg_catalog")
      const warnings = yield* Queue.unbounded<string>()
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel === "Warn") Queue.offerUnsafe(warnings, String(message))
      })
      yield* Effect.gen(function* () {
        const listener = yield* Listener
        yield* Effect.forkScoped(listener.run)
        assert.match(yield* Queue.take(warnings), /DATABASE_LISTEN_URL must lead to PostgreSQL directly/)
        assert.isFalse(yield* listener.isUp)
      }).pipe(
        Effect.scoped,
        Effect.provide(Listener.layer(Redacted.make(swallowing.href))),
        Effect.provide(Layer.mergeAll(Health.layer, Logger.layer([logger])))
      )
    }).pipe(Effect.provide(TestDatabase.layerWith({})))
  )
})
