/**
 * Receives events as another service would: from a durable queue, acknowledged, each with the instant of its reception.
 *
 * While games are being measured it does nothing but take the time; events are read afterwards.
 */
import { type ConsumeMessage, connect } from "amqplib"
import { Duration, Effect, Schedule, Schema } from "effect"
import { BenchError } from "./BenchError.ts"
import { now } from "./clock.ts"

/** What is read of an event. */
const Event = Schema.fromJsonString(
  Schema.Struct({
    id: Schema.String,
    subject: Schema.String,
    data: Schema.Struct({ lateness_ms: Schema.Finite })
  })
)

export interface Delivery {
  readonly event: typeof Event.Type
  /** By this process's clock. */
  readonly at: number
}

export interface Consumer {
  /** Forgets what was received, and drops what waits. */
  readonly clear: Effect.Effect<void, BenchError>
  /** Waits for this many different events and returns all deliveries since `clear`. */
  readonly collect: (count: number, limit: Duration.Duration) => Effect.Effect<ReadonlyArray<Delivery>, BenchError>
  /** Runs an effect while nothing is consumed; what came meanwhile is dropped at its end. */
  readonly whileAway: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | BenchError, R>
  /** How many messages wait in the queue. */
  readonly waiting: Effect.Effect<number, BenchError>
  /** Waits until this many events came, whether they are consumed or wait. */
  readonly arrived: (count: number) => Effect.Effect<void, BenchError>
}

/** The type of the events that are measured; others are received as well and dropped. */
export const startedType = "game.started"

const decode = Schema.decodeUnknownEffect(Event)

/** Declares the exchange with these options, binds a queue to it, and consumes it until the scope closes. */
export const consume = Effect.fnUntraced(function* (
  url: string,
  exchange: { readonly name: string; readonly alternateExchange?: string }
) {
  const received: Array<{ readonly content: Buffer; readonly at: number }> = []
  const ids = new Set<string>()
  let onReceived = () => {}
  let acknowledging = false

  const broker = <A>(ask: () => Promise<A>) =>
    Effect.tryPromise({
      try: ask,
      catch: (error) => new BenchError({ detail: `The consumer failed: ${String(error)}` })
    })

  const { name, ...options } = exchange
  const { channel, queue } = yield* Effect.acquireRelease(
    broker(async () => {
      const connection = await connect(url)
      const channel = await connection.createChannel()
      await channel.assertExchange(name, "topic", { durable: true, ...options })
      // Replicated and safe against the loss of a node, as what must not be lost is kept today.
      const { queue } = await channel.assertQueue(`bench.${name}`, {
        durable: true,
        arguments: { "x-queue-type": "quorum" }
      })
      await channel.bindQueue(queue, name, "#")
      await channel.prefetch(5_000)
      return { connection, channel, queue }
    }),
    ({ channel, connection, queue }) =>
      Effect.promise(async () => {
        await channel.deleteQueue(queue)
        await channel.deleteExchange(name)
        await connection.close()
      })
  )

  const receive = (message: ConsumeMessage | null) => {
    if (message === null) return
    const at = now()
    // One acknowledgement for everything that came with this read of the socket.
    if (!acknowledging) {
      acknowledging = true
      setImmediate(() => {
        acknowledging = false
        channel.ackAll()
      })
    }
    if (message.fields.routingKey !== startedType) return
    received.push({ content: message.content, at })
    ids.add(String(message.properties.messageId))
    onReceived()
  }
  const consumerTag = "bench"
  const begin = broker(() => channel.consume(queue, receive, { consumerTag }))
  yield* begin

  const collect: Consumer["collect"] = Effect.fnUntraced(
    function* (count, limit) {
      yield* Effect.callback<void>((resume) => {
        onReceived = () => {
          if (ids.size >= count) resume(Effect.void)
        }
        onReceived()
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            onReceived = () => {}
          })
        ),
        Effect.timeoutOrElse({
          duration: limit,
          orElse: () =>
            Effect.fail(
              new BenchError({ detail: `${ids.size} of ${count} events arrived within ${Duration.format(limit)}` })
            )
        })
      )
      return yield* Effect.forEach([...received], ({ at, content }) =>
        Effect.map(decode(content.toString()), (event) => ({ event, at }))
      )
    },
    Effect.mapError((error) =>
      error instanceof BenchError ? error : new BenchError({ detail: `An event is unreadable: ${error.message}` })
    )
  )

  const whileAway: Consumer["whileAway"] = (effect) =>
    Effect.acquireUseRelease(
      broker(() => channel.cancel(consumerTag)),
      () => effect,
      () =>
        Effect.orDie(
          Effect.andThen(
            broker(() => channel.purgeQueue(queue)),
            begin
          )
        )
    )

  const waiting = Effect.map(
    broker(() => channel.checkQueue(queue)),
    ({ messageCount }) => messageCount
  )

  return {
    clear: Effect.map(
      broker(() => channel.purgeQueue(queue)),
      () => {
        received.length = 0
        ids.clear()
      }
    ),
    collect,
    whileAway,
    waiting,
    arrived: (count) =>
      Effect.asVoid(
        Effect.repeat(waiting, {
          until: (messages) => messages + ids.size >= count,
          schedule: Schedule.spaced("25 millis")
        })
      )
  } satisfies Consumer
})
