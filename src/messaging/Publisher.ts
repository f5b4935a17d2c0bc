/**
 * Hands events to the broker and says when the broker has them for good.
 *
 * An event counts as confirmed only after the broker has confirmed it and not returned it. There are two layers: RabbitMQ
 * (`RabbitPublisher.ts`) and in-process (`InProcessPublisher.ts`), which share one contract suite; a process that never
 * publishes has neither.
 */
import { Context, Effect, Layer, Schema } from "effect"
import type { CommittedEvent } from "../domain/GameEvent.ts"

/** The broker is away, blocked, or its topology is missing: nothing is wrong with the event, and it counts no attempt. */
export class BrokerUnavailable extends Schema.TaggedError<BrokerUnavailable>()("BrokerUnavailable", {
  detail: Schema.String
}) {
  override get message() {
    return `The broker does not take events now: ${this.detail}`
  }
}

/**
 * The broker closed the channel while this event and perhaps others were unconfirmed: one of them may be the reason.
 * Published alone, the culprit is found.
 */
export class ChannelClosed extends Schema.TaggedError<ChannelClosed>()("ChannelClosed", { detail: Schema.String }) {
  override get message() {
    return `The broker closed the channel while events were unconfirmed: ${this.detail}`
  }
}

/** The broker, or the client's own encoder, refused this very event. */
export class EventRefused extends Schema.TaggedError<EventRefused>()("EventRefused", { detail: Schema.String }) {
  override get message() {
    return `The broker refused the event: ${this.detail}`
  }
}

/** Why an event was not published; it may or may not have reached the broker, so it is sent again under the same id. */
export class PublishError extends Schema.TaggedError<PublishError>()("PublishError", {
  event_id: Schema.String,
  reason: Schema.Union([BrokerUnavailable, ChannelClosed, EventRefused])
}) {
  override get message() {
    return `Event ${this.event_id} was not published. ${this.reason.message}`
  }
}

/** The broker could not be reached while the process started. */
export class BrokerUnreachable extends Schema.TaggedError<BrokerUnreachable>()("BrokerUnreachable", {
  detail: Schema.String
}) {
  override get message() {
    return `RABBITMQ_URL: the broker could not be reached: ${this.detail}`
  }
}

/** An event that was not published, and why. */
export interface Rejected<E> {
  readonly event: E
  readonly error: PublishError
}

/** `unused`: this process publishes nothing. */
export type BrokerState = "connected" | "blocked" | "disconnected" | "unused"

export class Publisher extends Context.Service<
  Publisher,
  {
    /**
     * Publishes sequences of events side by side, and returns what was not confirmed. Of one sequence at most one event is
     * under way; it ends with its first failure. `onConfirmed` hears of each event at the moment of its confirm.
     */
    readonly publish: <E extends CommittedEvent>(
      sequences: ReadonlyArray<ReadonlyArray<E>>,
      onConfirmed: (event: E) => void
    ) => Effect.Effect<ReadonlyArray<Rejected<E>>>
    /** Waits until events can be published; returns at once while they can. */
    readonly ready: Effect.Effect<void>
    readonly state: Effect.Effect<BrokerState>
    /** Keeps the connection, with backoff, for as long as the process lives; a daemon that its owner runs. */
    readonly run: Effect.Effect<never>
  }
>()("kickoff/messaging/Publisher") {
  /** For a process that relays no events: it connects to nothing, is never ready, and says nothing of a broker. */
  static readonly layerUnused = Layer.succeed(
    Publisher,
    Publisher.of({
      publish: (sequences) =>
        Effect.succeed(
          sequences.flatMap(([event]) =>
            event === undefined
              ? []
              : [{ event, error: new PublishError({ event_id: event.event_id, reason: doesNotRelay }) }]
          )
        ),
      ready: Effect.never,
      state: Effect.succeed("unused"),
      run: Effect.never
    })
  )
}

const doesNotRelay = new BrokerUnavailable({ detail: "this process does not play the role outbox" })
