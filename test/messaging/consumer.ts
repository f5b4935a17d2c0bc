/** What a consumer of Kickoff's events sees, for the tests: everything that passes an exchange, with its properties. */
import { type Channel, connect, type ConsumeMessage } from "amqplib"
import { Effect, Queue } from "effect"
import { randomUUID } from "node:crypto"
import type { CloudEvent, CommittedEvent } from "../../src/domain/GameEvent.ts"
import type { PublishError, Publisher } from "../../src/messaging/Publisher.ts"

/** An event of its own id; `n` is in its title. */
export const makeEvent = (n = 0, data: CloudEvent["data"] = {}): CloudEvent => {
  const subject = randomUUID()
  return {
    specversion: "1.0",
    id: randomUUID(),
    source: "/kickoff",
    type: "game.started",
    subject,
    time: "2026-01-02T03:04:05.678Z",
    datacontenttype: "application/json",
    data: { game_id: subject, title: `Game ${n}`, ...data }
  }
}

/** The committed event whose envelope this is. */
export const committed = (event: CloudEvent): CommittedEvent => ({
  event_id: event.id,
  game_id: event.subject,
  type: event.type,
  time: event.time,
  data: JSON.stringify(event.data),
  traceparent: null
})

/** Publishes sequences of events side by side, and returns why those failed that were not confirmed. */
export const publishAll = (
  publisher: Publisher["Service"],
  sequences: ReadonlyArray<ReadonlyArray<CloudEvent>>,
  onConfirmed: (event: CommittedEvent) => void = () => {}
): Effect.Effect<ReadonlyArray<PublishError>> =>
  Effect.map(
    publisher.publish(
      sequences.map((events) => events.map(committed)),
      onConfirmed
    ),
    (rejected) => rejected.map(({ error }) => error)
  )

/** Publishes one event and waits for its confirm. */
export const publishOne = (publisher: Publisher["Service"], event: CloudEvent): Effect.Effect<void, PublishError> =>
  Effect.flatMap(publishAll(publisher, [[event]]), ([error]) =>
    error === undefined ? Effect.void : Effect.fail(error)
  )

/** A channel to the broker until the scope closes, for what tests do behind Kickoff's back. */
export const openChannel = (url: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const connection = await connect(url)
        connection.on("error", () => {})
        return { connection, channel: await connection.createChannel() }
      }),
      // The broker may be gone, and the connection with it.
      ({ connection }) => Effect.promise(() => connection.close().catch(() => {}))
    ),
    ({ channel }): Channel => channel
  )

/** Every message that passes the exchange from now on, which must exist. */
export const consumeExchange = Effect.fnUntraced(function* (url: string, exchange: string) {
  const channel = yield* openChannel(url)
  const messages = yield* Queue.unbounded<ConsumeMessage>()
  yield* Effect.promise(async () => {
    const { queue } = await channel.assertQueue("", { exclusive: true })
    await channel.bindQueue(queue, exchange, "#")
    await channel.consume(queue, (message) => void (message !== null && Queue.offerUnsafe(messages, message)), {
      noAck: true
    })
  })
  return messages
})

/** The envelope of a message. */
export const readEvent = (message: ConsumeMessage): CloudEvent => {
  // The tests compare it with what was published.
  return JSON.parse(message.content.toString("utf8")) as CloudEvent
}
