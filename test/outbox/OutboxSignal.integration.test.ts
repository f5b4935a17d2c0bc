import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Queue } from "effect"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import { channels } from "../../src/postgres/channels.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const layer = OutboxSignal.layer.pipe(Layer.provideMerge(TestDatabase.layerWith({})))

describe("the signal of a process that does not relay", () => {
  it.live("is one NOTIFY for a burst of commits, and none of its own while it relays", () =>
    Effect.gen(function* () {
      const pg = yield* PgClient.PgClient
      const signal = yield* OutboxSignal
      const heard = yield* pg.listen(channels.outbox)
      yield* Effect.replicateEffect(signal.committed, 100)
      yield* signal.setRelaying(true)
      yield* Effect.replicateEffect(signal.committed, 100)
      yield* Effect.forkScoped(signal.run)
      yield* Queue.take(heard)
      // One of another's comes after all that were sent before.
      yield* signal.setRelaying(false)
      yield* Queue.take(heard)
      // Were there another one, it would follow within 5 ms.
      yield* Effect.sleep("50 millis")
      yield* pg.notify(channels.outbox, "end")
      assert.strictEqual((yield* Queue.take(heard)).payload, "end")
    }).pipe(Effect.scoped, Effect.provide(layer))
  )
})
