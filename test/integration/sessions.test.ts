/** Who has a session with the database, as the doctor and `kickoff status` see it. */
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Replica } from "../../src/observability/Replica.ts"
import { SessionRepository } from "../../src/operations/SessionRepository.ts"
import { relayLock } from "../../src/outbox/relayLock.ts"
import { Database } from "../../src/postgres/Database.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const layer = SessionRepository.layer.pipe(Layer.provideMerge(TestDatabase.layerWith({ connections: 1 })))

describe("the sessions of Kickoff", () => {
  it.live("are told apart by what they are for and by process, however long its name", () =>
    Effect.gen(function* () {
      const { list } = yield* SessionRepository
      const { url } = yield* TestDatabase
      const replica = `kickoff-status-transitions-${"x".repeat(40)}-last:17`
      yield* Layer.build(Layer.fresh(Database.layer({ url, connections: 1, name: "notifications" }))).pipe(
        Effect.flatMap((context) => Effect.provide(Database.awaitReachable(url), context)),
        Effect.provideService(Replica, replica)
      )
      assert.deepStrictEqual(yield* list, [{ part: "notifications", replica: replica.slice(-36), relays: false }])
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.live("are joined by strangers only where these hold the relay's lock", () =>
    Effect.gen(function* () {
      const { list } = yield* SessionRepository
      const { url } = yield* TestDatabase
      const stranger = yield* PgConnection.make({ url, applicationName: "psql" })
      yield* stranger.query("SELECT pg_advisory_lock(1)")
      assert.deepStrictEqual(yield* list, [])
      yield* stranger.query("SELECT pg_advisory_lock($1::bigint)", [relayLock])
      assert.deepStrictEqual(yield* list, [{ part: null, replica: null, relays: true }])
    }).pipe(Effect.scoped, Effect.provide(layer))
  )
})
