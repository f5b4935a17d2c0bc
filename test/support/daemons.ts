/** What a process runs that plays all roles but the API's, put together once for all tests that play such a process. */
import { Effect, Layer, type Redacted } from "effect"
import { Publisher } from "../../src/messaging/Publisher.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import * as Relay from "../../src/outbox/Relay.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import * as DueLoop from "../../src/scheduling/DueLoop.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"

/** What loops and relay read and write, all on one client. */
export const repositories = Layer.mergeAll(
  StatusTransitionRepository.layer,
  NotificationRepository.layer,
  OutboxRepository.layer
)

/** Runs both loops, the relay and its signal, the listener and the connection to the broker, for ever. */
export const runDaemons = Effect.fnUntraced(function* (relayUrl: Redacted.Redacted) {
  return yield* Effect.all(
    [
      (yield* Listener).run,
      (yield* Publisher).run,
      (yield* OutboxSignal).run,
      DueLoop.run(yield* StatusTransitionRepository),
      DueLoop.run(yield* NotificationRepository),
      Relay.run(relayUrl)
    ],
    { concurrency: "unbounded", discard: true }
  )
})
