/**
 * Events about games: the row of `outbox`, and the CloudEvents 1.0 envelope in which it leaves.
 *
 * `data` is written by the database in the transaction of the change it tells of, so it is carried, never rebuilt. What
 * it holds is defined here all the same: for the JSON Schemas in `docs/`, and for the tests that hold messages to them.
 */
import { Schema, Struct } from "effect"
import { Model } from "effect/schema"
import { GameId, GamePatch } from "./Game.ts"
import { GameStatus } from "./GameStatus.ts"

export const GameEventType = Schema.Literals([
  "game.created",
  "game.updated",
  "game.cancelled",
  "game.deleted",
  "game.started",
  "game.completed",
  "game.reminder_due"
])
export type GameEventType = typeof GameEventType.Type

/** A row of `outbox`: an event that is committed and not yet confirmed by the broker. `id` is the order per game. */
export class OutboxEvent extends Model.Class<OutboxEvent>("OutboxEvent")({
  id: Schema.BigInt,
  event_id: Schema.String,
  game_id: GameId,
  type: GameEventType,
  occurred_at: Schema.DateTimeUtcFromDate,
  /** The due time of what the clock did; null for what the API did. Feeds the due → confirmed histogram. */
  due_at: Schema.NullOr(Schema.DateTimeUtcFromDate),
  data: Schema.Record(Schema.String, Schema.Json),
  attempts: Schema.Int,
  retry_at: Schema.NullOr(Schema.DateTimeUtcFromDate),
  /** The trace of the change it tells of, if any. */
  traceparent: Schema.NullOr(Schema.String)
}) {}

/** An event as it is committed, of which the envelope is made. */
export interface CommittedEvent {
  readonly event_id: string
  readonly game_id: string
  readonly type: GameEventType
  /** When the change was made, by the database's clock, RFC 3339 in UTC. */
  readonly time: string
  /** The JSON text of the event's data, as the database wrote it. */
  readonly data: string
  /** The trace that it belongs to, as the header `traceparent` of the message; it is no part of the event. */
  readonly traceparent: string | null
}

/** The only form in which events write an instant. */
const Instant = Schema.String.annotate({ format: "date-time" }).pipe(
  Schema.check(Schema.isPattern(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/u))
)

/** Any UUID: games that others insert have ids of any version. */
const Uuid = Schema.String.annotate({ format: "uuid" }).pipe(Schema.check(Schema.isGUID()))

const envelope = {
  specversion: Schema.Literal("1.0"),
  id: Uuid.annotate({ description: "Names the event, however often it is delivered" }),
  source: Schema.Literal("/kickoff"),
  subject: Uuid.annotate({ description: "The game" }),
  time: Instant.annotate({ description: "When the change was made, by the database's clock" }),
  datacontenttype: Schema.Literal("application/json")
}

/** The envelope on the wire: CloudEvents 1.0, structured JSON. */
export const CloudEvent = Schema.Struct({
  ...envelope,
  type: GameEventType,
  data: Schema.Record(Schema.String, Schema.Json)
})
export type CloudEvent = typeof CloudEvent.Type

/** What every event says of its game, as it is after the change. */
const game = {
  game_id: Uuid.annotate({ description: "The same as `subject`" }),
  title: Schema.String.annotate({ description: "1 to 200 characters" }),
  guild_id: Schema.String,
  channel_id: Schema.NullOr(Schema.String),
  host_id: Schema.NullOr(Schema.String),
  scheduled_at: Instant.annotate({ description: "When the game starts, or was to start" }),
  version: Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 1, maximum: 2 ** 31 - 1 }))).annotate({
    description: "Grows by one with every committed change of the game; events of the same change have the same"
  })
}

/** What the events of a change of status say besides, if the clock can make it. */
const change = {
  transition_time: Schema.NullOr(Instant).annotate({ description: "When the clock was to do it; null by hand" }),
  lateness_ms: Schema.NullOr(Schema.Finite).annotate({
    description: "Milliseconds from then to the moment at which it was done; null by hand"
  })
}

const event = <Type extends GameEventType, Fields extends Schema.Struct.Fields>(
  type: Type,
  description: string,
  fields: Fields
) =>
  Schema.Struct({
    ...envelope,
    type: Schema.Literal(type),
    data: Schema.Struct({ ...game, ...fields })
  }).annotate({ title: type, description })

const changeable = Struct.keys(Struct.omit(GamePatch.fields, ["status"]))

/** Every event by its type, with all that its message holds. New members may come; consumers ignore those. */
export const gameEvents = {
  "game.created": event("game.created", "A game was planned by the API.", { status: Schema.Literal("SCHEDULED") }),
  "game.updated": event("game.updated", "Fields other than the status were changed by the API.", {
    status: GameStatus,
    changed: Schema.Array(Schema.Literals(changeable)).annotate({
      description: "Names of the fields that were changed"
    })
  }),
  "game.cancelled": event("game.cancelled", "A game was cancelled by the API.", {
    status: Schema.Literal("CANCELLED"),
    transition_time: Schema.Null,
    lateness_ms: Schema.Null
  }),
  "game.deleted": event("game.deleted", "A game was deleted by the API; there are no later events of it.", {
    status: GameStatus
  }),
  "game.started": event("game.started", "A game was started, by the clock or by hand.", {
    status: Schema.Literal("IN_PROGRESS"),
    ...change
  }),
  "game.completed": event("game.completed", "A game was completed, by the clock or by hand.", {
    status: Schema.Literal("COMPLETED"),
    ...change
  }),
  "game.reminder_due": event("game.reminder_due", "A reminder of a game that is still to start is due.", {
    status: Schema.Literal("SCHEDULED"),
    reminder_minutes: Schema.Int.annotate({ description: "How long before the start the reminder was wanted" }),
    notification_time: Instant.annotate({ description: "When it was due" }),
    lateness_ms: Schema.Finite.annotate({ description: "Milliseconds from then to the moment at which it was told" })
  })
} satisfies Record<GameEventType, Schema.Top>

/** The headers of a message. */
export const MessageHeaders = Schema.Struct({
  traceparent: Schema.optionalKey(
    Schema.String.annotate({
      description: "W3C trace context of the change, if whoever made or planned it was in a trace"
    }).pipe(Schema.check(Schema.isPattern(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/u)))
  )
})

export const cloudEventContentType = "application/cloudevents+json"

/**
 * The JSON text of an event's {@link CloudEvent}; the same event gives the same text, so a redelivery is recognisable by
 * its id. The data is not parsed on its way; the other members need no escaping.
 */
export const encodeCloudEvent = ({ data, event_id, game_id, time, type }: CommittedEvent): string =>
  `{"specversion":"1.0","id":"${event_id}","source":"/kickoff","type":"${type}","subject":"${game_id}",` +
  `"time":"${time}","datacontenttype":"application/json","data":${data}}`
