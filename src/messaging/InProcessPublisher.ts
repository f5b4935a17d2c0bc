/**
 * Publishes within this process, for trying Kickoff out without a broker: one log line per event, and a subscription.
 *
 * The same acknowledgement as with a broker, but nothing is kept: a subscriber that falls behind by more than the
 * buffer loses the oldest events, so that it can neither hold up publishing nor fill the memory.
 */
import { Context, Effect, Layer, Metric, PubSub, Schema, type Scope, Stream } from "effect"
import type { CloudEvent } from "../domain/GameEvent.ts"
import { brokerConnected } from "../observability/Metrics.ts"
import { encodeEvent } from "./encodeEvent.ts"
import { PublishError, Publisher } from "./Publisher.ts"

/** Most events that wait for a slow subscriber. */
const buffer = 1024

/** The events that this process publishes. */
export class InProcessEvents extends Context.Service<
  InProcessEvents,
  {
    /** Subscribes until the scope closes: events published from now on, of those not yet taken the newest 1024. */
    readonly subscribe: Effect.Effect<Stream.Stream<CloudEvent>, never, Scope.Scope>
  }
>()("kickoff/messaging/InProcessEvents") {}

const layer: Layer.Layer<Publisher | InProcessEvents> = Layer.effectContext(
  Effect.gen(function* () {
    const published = yield* PubSub.sliding<CloudEvent>(buffer)
    yield* Effect.addFinalizer(() => PubSub.shutdown(published))
    yield* Metric.update(brokerConnected, 1)

    const publish = Effect.fn("Publisher.publish")(
      function* (event: CloudEvent) {
        // What a broker could not be sent is refused here too.
        yield* encodeEvent(event)
        yield* PubSub.publish(published, event)
        yield* Effect.logInfo(describe(event))
      },
      (effect, event) => Effect.mapError(effect, (reason) => new PublishError({ event_id: event.id, reason }))
    )

    return Context.make(
      Publisher,
      Publisher.of({ publish, ready: Effect.void, state: Effect.succeed("connected"), run: Effect.never })
    ).pipe(
      Context.add(InProcessEvents, { subscribe: Effect.map(PubSub.subscribe(published), Stream.fromSubscription) })
    )
  })
)

/** Publishes to the log and to the subscribers of {@link InProcessEvents}. */
export const InProcessPublisher = { layer }

const isLateness = Schema.is(Schema.Number)

/** `game.started 0b9d… "Friday raid", 3 ms after its time` */
const describe = (event: CloudEvent): string => {
  const { title, lateness_ms } = event.data
  const name = `${event.type} ${event.subject} ${JSON.stringify(title ?? "")}`
  return isLateness(lateness_ms) ? `${name}, ${Math.round(lateness_ms)} ms after its time` : name
}
