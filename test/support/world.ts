/** What the real process works with in end-to-end tests: a database and an exchange of the test's own, and a consumer. */
import type { ConsumeMessage } from "amqplib"
import { Clock, Effect, Queue, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import { inject } from "vitest"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import { consumeExchange, openChannel, readEvent } from "../messaging/consumer.ts"
import { startService } from "./service.ts"
import { TestDatabase } from "./TestDatabase.ts"

export interface Received {
  readonly event: CloudEvent
  readonly message: ConsumeMessage
  /** This machine's clock at the arrival, ms; the database runs on the same machine. */
  readonly at: number
}

/** A database and an exchange of the test's own, and a consumer of everything that passes the exchange. */
export const makeWorld = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const rabbitmqUrl = inject("rabbitmqUrl")
  const exchange = `test.${randomBytes(6).toString("hex")}`
  const channel = yield* openChannel(rabbitmqUrl)
  yield* Effect.acquireRelease(
    Effect.promise(() =>
      channel.assertExchange(exchange, "topic", { durable: true, alternateExchange: "kickoff.unrouted" })
    ),
    () => Effect.promise(() => channel.deleteExchange(exchange))
  )
  const messages = yield* consumeExchange(rabbitmqUrl, exchange)
  const received: Array<Received> = []
  const next = Effect.gen(function* () {
    const message = yield* Queue.take(messages)
    const arrival = { event: readEvent(message), message, at: yield* Clock.currentTimeMillis }
    received.push(arrival)
    return arrival
  })
  /** The next event of a type, of one game if given; what comes before it is kept in `received`. */
  const nextOf = (type: string, gameId?: string): Effect.Effect<Received> =>
    Effect.flatMap(next, (arrival) =>
      arrival.event.type === type && (gameId === undefined || arrival.event.subject === gameId)
        ? Effect.succeed(arrival)
        : nextOf(type, gameId)
    )
  const env = {
    DATABASE_URL: Redacted.value(url),
    RABBITMQ_URL: rabbitmqUrl,
    RABBITMQ_EXCHANGE: exchange,
    KICKOFF_BACKSTOP: "60 seconds"
  }
  return {
    env,
    received,
    nextOf,
    start: (args: ReadonlyArray<string> = [], more: Readonly<Record<string, string>> = {}) =>
      startService({ env: { ...env, ...more }, args })
  }
})

/** Each test has a database of its own, because they run at the same time. */
export const inWorld = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.scoped(test), TestDatabase.layerWith({}))
