/**
 * An independent consumer: a durable queue of its own, bound to everything, acknowledged by hand. It reconnects whenever
 * the broker is back, and reports to a {@link Tally}.
 */
import { connect } from "amqplib"
import { Deferred, Effect, Schedule, type Scope } from "effect"
import { FaultError } from "./FaultError.ts"
import type { Tally } from "./Tally.ts"

const exchange = "kickoff.events"
const queue = "faults"

/** Consumes until the scope closes; returns when the queue is bound for the first time. */
export const consume = (url: string, tally: Tally): Effect.Effect<void, FaultError, Scope.Scope> =>
  Effect.gen(function* () {
    const bound = yield* Deferred.make<void>()
    yield* Effect.forkScoped(
      session(url, tally, Deferred.succeed(bound, undefined)).pipe(Effect.retry(Schedule.spaced("100 millis")))
    )
    yield* Deferred.await(bound).pipe(
      Effect.timeoutOrElse({
        duration: "10 seconds",
        orElse: () => Effect.fail(new FaultError({ detail: "The consumer found no exchange within 10 s" }))
      })
    )
  })

/** One connection, from its beginning to its end, which is a failure. */
const session = (url: string, tally: Tally, onBound: Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const closed = yield* Deferred.make<never, FaultError>()
    const connection = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => connect(url), catch: lost }).pipe(
        Effect.timeoutOrElse({ duration: "3 seconds", orElse: () => Effect.fail(lost("no answer")) })
      ),
      // The broker may be gone, and the connection with it: then it throws. Or it is silent, and never answers.
      (connection) => Effect.tryPromise(async () => connection.close()).pipe(Effect.timeout("1 second"), Effect.ignore)
    )
    const end = () => Deferred.doneUnsafe(closed, Effect.fail(new FaultError({ detail: "The connection was lost" })))
    connection.on("error", () => {})
    connection.on("close", end)
    yield* Effect.tryPromise({
      try: async () => {
        const channel = await connection.createChannel()
        channel.on("error", () => {})
        channel.on("close", end)
        await channel.checkExchange(exchange)
        await channel.assertQueue(queue, { durable: true })
        await channel.bindQueue(queue, exchange, "#")
        await channel.prefetch(1000)
        await channel.consume(queue, (message) => {
          if (message === null) {
            end()
            return
          }
          tally.receive(message.content.toString("utf8"), Date.now())
          channel.ack(message)
        })
      },
      catch: lost
    })
    yield* onBound
    return yield* Deferred.await(closed)
  }).pipe(Effect.scoped)

const lost = (reason: unknown) => new FaultError({ detail: `The consumer lost the broker: ${String(reason)}` })
