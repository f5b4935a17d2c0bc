/** One connection to a real broker: what it takes at once, before the broker has confirmed or read it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Latch, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { openLink } from "../../src/messaging/link.ts"
import { committed, makeEvent, openChannel } from "./consumer.ts"

/** A link with an exchange of its own, and a latch that opens whenever there may be room again. */
const makeLink = (window: number) =>
  Effect.gen(function* () {
    const exchange = `test.${randomUUID()}`
    const room = yield* Latch.make(false)
    const link = yield* Effect.acquireRelease(
      openLink({
        url: Redacted.make(inject("rabbitmqUrl")),
        exchange,
        window,
        onRoom: () => room.openUnsafe(),
        onStatus: () => {}
      }),
      (opened) => opened.close
    )
    const channel = yield* openChannel(inject("rabbitmqUrl"))
    yield* Effect.addFinalizer(() => Effect.promise(() => channel.deleteExchange(exchange)))
    return { link, room }
  })

describe("a link", () => {
  it.live("takes no more than its window until the broker has confirmed", () =>
    Effect.gen(function* () {
      const { link, room } = yield* makeLink(3)
      for (let sent = 0; sent < 3; sent++) {
        assert.isTrue(link.hasRoom())
        link.send(committed(makeEvent(sent)), () => {})
      }
      assert.isFalse(link.hasRoom())
      yield* room.await
      assert.isTrue(link.hasRoom())
    }).pipe(Effect.scoped)
  )

  it.live("takes nothing while its socket has not sent what it was given", () =>
    Effect.gen(function* () {
      const { link, room } = yield* makeLink(5000)
      const large = { description: "x".repeat(3000) }
      let sent = 0
      while (link.hasRoom() && sent < 5000) link.send(committed(makeEvent(sent++, large)), () => {})
      assert.isBelow(sent, 5000)
      yield* room.await
      assert.isTrue(link.hasRoom())
    }).pipe(Effect.scoped)
  )
})
