/** Asks a broker whether what Kickoff needs of it is there, as it was declared. What is missing is declared anew. */
import { type Channel, connect } from "amqplib/callback_api"
import { Duration, Effect, Redacted, Result } from "effect"
import { type LinkFailed, openLink, readTls } from "./link.ts"
import { unrouted } from "./topology.ts"

/** How long the broker may take for all of it. */
const patience = Duration.seconds(5)

/** Whether a declaration without a change fails, because nothing of that name is there. */
const isMissing = (
  url: string,
  socketOptions: object,
  check: (channel: Channel, done: (error: Error | null) => void) => void
) =>
  Effect.callback<boolean>((resume) => {
    const answer = (missing: boolean) => resume(Effect.succeed(missing))
    connect(url, socketOptions, (error: Error | null, connection) => {
      if (error !== null) return answer(false)
      connection.on("error", () => {})
      const channel = connection.createChannel((error: Error | null) => {
        if (error !== null) return answer(false)
        check(channel, (error) => {
          answer(error !== null && /404/.test(error.message))
          Result.try(() => connection.close())
        })
      })
      channel.on("error", () => {})
    })
  }).pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed(false) }))

/** Names what was missing; fails when the broker cannot be reached, or has it with other properties. */
export const inspectBroker = Effect.fn("inspectBroker")(function* (
  url: Redacted.Redacted,
  exchange: string
): Effect.fn.Return<ReadonlyArray<string>, LinkFailed> {
  const tls = yield* Effect.orElseSucceed(readTls(url), () => ({}))
  const plain = Redacted.value(url)
  const missing = yield* Effect.forEach(
    [
      {
        name: `exchange ${exchange}`,
        check: (channel: Channel, done: (error: Error | null) => void) => channel.checkExchange(exchange, done)
      },
      {
        name: `exchange ${unrouted}`,
        check: (channel: Channel, done: (error: Error | null) => void) => channel.checkExchange(unrouted, done)
      },
      {
        name: `queue ${unrouted}`,
        check: (channel: Channel, done: (error: Error | null) => void) => channel.checkQueue(unrouted, done)
      }
    ],
    ({ check, name }) => Effect.map(isMissing(plain, tls, check), (absent) => (absent ? [name] : []))
  )
  const link = yield* openLink({ url, exchange, window: 1, onRoom: () => {}, onStatus: () => {} })
  yield* link.close
  return missing.flat()
})
