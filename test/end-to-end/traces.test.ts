/** One trace from the request that plans a game to the message that tells of it, as a consumer and a collector see it. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import type { Received } from "../support/world.ts"
import { inWorld, makeWorld } from "../support/world.ts"

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

const traceOf = ({ message }: Received): unknown => message.properties.headers?.["traceparent"]

/** A game that starts in so many milliseconds. */
const soon = (startsInMs: number) =>
  Effect.map(Clock.currentTimeMillis, (now) => ({
    guild_id: "guild",
    title: "Friday raid",
    scheduled_at: new Date(now + startsInMs).toISOString(),
    reminder_minutes: []
  }))

describe.concurrent("a service that exports no spans", () => {
  it.live("passes the trace of a request on with every event of the game, and begins none", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      yield* service.post("/v1/games", yield* soon(500), { traceparent })
      assert.strictEqual(traceOf(yield* world.nextOf("game.created")), traceparent)
      assert.strictEqual(traceOf(yield* world.nextOf("game.started")), traceparent)
      yield* service.post("/v1/games", yield* soon(500))
      assert.isUndefined(traceOf(yield* world.nextOf("game.started")))
    }).pipe(inWorld)
  )
})
