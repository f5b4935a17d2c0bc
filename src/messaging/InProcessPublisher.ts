/**
 * Publishes within this process, for trying Kickoff out without a broker: one log line per event, and a subscription.
 *
 * The same acknowledgement as with a broker, but nothing is kept: a subscriber that falls behind by more than the
 * buffer loses the oldest events, so that it can neither hold up publishing nor fill the memory.
 */
import { Context, Effect, Layer, Metric, PubSub, Schema, type Scope, Stream } from "effect"
import { type CloudEvent, encodeCloudEvent } from "../domain/GameEvent.ts"
import { brokerConnected } from "../observability/Metrics.ts"
import { Publisher } from "./Publisher.ts"
import { publishSequences } from "./sequences.ts"

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

    const context = yield* Effect.context()
    const run = Effect.runSyncWith(context)
    const publish = publishSequences((committed, settle) => {
      const event = decode(encodeCloudEvent(committed))
      run(Effect.andThen(PubSub.publish(published, event), Effect.logInfo(`${event.type} ${describe(event)}`)))
      settle()
      return () => {}
    })

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

// What was encoded a moment before is of the form that it was encoded in.
const decode = (text: string) => JSON.parse(text) as CloudEvent

const isLateness = Schema.is(Schema.Number)

/** `0b9d… "Friday raid", 3 ms after its time` */
const describe = (event: CloudEvent): string => {
  const { title, lateness_ms } = event.data
  const name = `${event.subject} ${JSON.stringify(title ?? "")}`
  return isLateness(lateness_ms) ? `${name}, ${Math.round(lateness_ms)} ms after its time` : name
}
