import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Stream } from "effect"
import { InProcessEvents, InProcessPublisher } from "../../src/messaging/InProcessPublisher.ts"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { makeEvent, publishAll, publishOne } from "./consumer.ts"

const lines: Array<unknown> = []
const layer = Layer.provideMerge(
  InProcessPublisher.layer,
  Logger.layer([Logger.make(({ message }) => lines.push(message))])
)

describe("InProcessPublisher", () => {
  it.effect("logs one line per event: its type, game, title, and how late it is", () =>
    Effect.gen(function* () {
      const publisher = yield* Publisher
      const event = makeEvent(0, { title: 'The "Friday" raid', lateness_ms: 3.4 })
      const byHand = makeEvent(0, { title: "By hand", lateness_ms: null })
      lines.length = 0
      yield* publishOne(publisher, event)
      yield* publishOne(publisher, byHand)
      assert.deepStrictEqual(lines.flat(), [
        `game.started ${event.subject} "The \\"Friday\\" raid", 3 ms after its time`,
        `game.started ${byHand.subject} "By hand"`
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("keeps the newest 1024 events for a subscriber that is slow", () =>
    Effect.gen(function* () {
      const publisher = yield* Publisher
      const { subscribe } = yield* InProcessEvents
      const stream = yield* subscribe
      const events = Array.from({ length: 2000 }, (_, n) => makeEvent(n))
      yield* publishAll(publisher, [events])
      const seen = yield* Stream.runCollect(Stream.take(stream, 1024))
      assert.deepStrictEqual(
        seen.map(({ id }) => id),
        events.slice(-1024).map(({ id }) => id)
      )
    }).pipe(Effect.scoped, Effect.provide(layer))
  )
})
