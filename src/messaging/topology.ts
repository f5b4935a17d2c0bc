/**
 * Everything that Kickoff declares on the broker, and the only place that declares it.
 *
 * An event that no queue is bound for goes through the alternate exchange into a bounded queue, where it is kept and
 * visible. Arguments of an existing exchange or queue cannot be changed: a change here needs another name.
 */
import type { Channel } from "amqplib/callback_api"
import { Effect, Schema } from "effect"

/** The alternate exchange and its queue; the same whatever the exchange for events is called. */
export const unrouted = "kickoff.unrouted"

/** Bounds of the queue for unrouted events: about 60 MB, and a week. */
const unroutedBounds = { maxLength: 100_000, messageTtl: 7 * 24 * 60 * 60 * 1000, overflow: "drop-head" }

/** The broker did not accept a declaration. `permanent` when trying again cannot help: someone has to act. */
export class TopologyRefused extends Schema.TaggedError<TopologyRefused>()("TopologyRefused", {
  detail: Schema.String,
  permanent: Schema.Boolean
}) {
  override get message() {
    return this.detail
  }
}

/** Declares all of it; what exists already with the same arguments is left alone. */
export const declareTopology = Effect.fn("topology.declare")(function* (channel: Channel, exchange: string) {
  yield* answered((done) => channel.assertExchange(unrouted, "fanout", { durable: true }, done))
  yield* answered((done) =>
    channel.assertQueue(
      unrouted,
      { durable: true, arguments: { "x-queue-type": "quorum" }, ...unroutedBounds },
      // The answer carries counts that are of no interest here.
      done
    )
  )
  yield* answered((done) => channel.bindQueue(unrouted, unrouted, "", {}, done))
  yield* answered((done) =>
    channel.assertExchange(exchange, "topic", { durable: true, alternateExchange: unrouted }, done)
  )
})

/** One declaration and its answer. After a refusal the broker has closed the channel. */
const answered = (declare: (done: (error: Error | null) => void) => void): Effect.Effect<void, TopologyRefused> =>
  Effect.callback((resume) => {
    declare((error) => resume(error === null ? Effect.void : Effect.fail(refused(error))))
  })

const refused = (error: Error): TopologyRefused => {
  const mismatch =
    /inequivalent arg '(?<argument>[^']*)' for (?<kind>\w+) '(?<name>[^']*)' .*?received (?<expected>.*?) but current is (?<found>[^"]*)/.exec(
      error.message
    )?.groups
  if (mismatch !== undefined) {
    const { argument, kind, name, expected, found } = mismatch
    return new TopologyRefused({
      detail:
        `${kind} '${name}' exists with another '${argument}': expected ${plain(expected)}, found ${plain(found)}. ` +
        `Delete that ${kind}, then Kickoff declares it anew` +
        (kind === "exchange" && name !== unrouted ? ", or set RABBITMQ_EXCHANGE to another name." : "."),
      permanent: true
    })
  }
  return /ACCESS_REFUSED/.test(error.message)
    ? new TopologyRefused({
        detail: `${error.message}; rabbitmqctl set_permissions gives the user what docs/security.md lists`,
        permanent: true
      })
    : new TopologyRefused({ detail: error.message, permanent: false })
}

/** "the value 'x' of type 'longstr'" → "'x'". */
const plain = (value = "") => value.replace(/^the value ('.*') of type .*$/, "$1")
