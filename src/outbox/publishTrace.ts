/**
 * The spans of publishing: one for each try to publish an event whose trace is recorded, from when the relay hands it over to
 * when the broker has confirmed or refused it. The message carries its `traceparent`, so that a consumer's spans follow it.
 */
import { type Clock, Exit, Option, type Tracer } from "effect"
import type { PublishError } from "../messaging/Publisher.ts"
import { startSpan } from "../observability/spans.ts"
import { recordedSpan, toTraceparent } from "../observability/traceContext.ts"
import type { Settings } from "../Settings.ts"
import type { WaitingEvent } from "./OutboxRepository.ts"

/** Traces one batch. */
export const tracePublishing = (
  tracer: Tracer.Tracer,
  clock: Clock.Clock,
  { rabbitmqExchange, rabbitmqUrl }: Pick<Settings["Service"], "rabbitmqExchange" | "rabbitmqUrl">
) => {
  const spans = new Map<string, Tracer.Span>()
  const broker = Option.isNone(rabbitmqUrl)
    ? {}
    : { "messaging.system": "rabbitmq", "messaging.destination.name": rabbitmqExchange }

  const end = (event: WaitingEvent, exit: Exit.Exit<void, string>) =>
    spans.get(event.event_id)?.end(clock.currentTimeNanosUnsafe(), exit)

  return {
    /** The event as it is to be sent. */
    begin: (event: WaitingEvent): WaitingEvent => {
      const parent = recordedSpan(event.traceparent)
      if (Option.isNone(parent)) return event
      const span = startSpan(tracer, {
        name: `publish ${event.type}`,
        kind: "producer",
        parent,
        startTime: clock.currentTimeNanosUnsafe(),
        attributes: {
          ...broker,
          "messaging.operation.type": "send",
          "messaging.rabbitmq.destination.routing_key": event.type,
          "messaging.message.id": event.event_id,
          "kickoff.game_id": event.game_id
        }
      })
      spans.set(event.event_id, span)
      return { ...event, traceparent: toTraceparent(span) }
    },
    confirmed: (event: WaitingEvent): void => end(event, Exit.void),
    failed: (event: WaitingEvent, error: PublishError): void => end(event, Exit.fail(error.message))
  }
}
