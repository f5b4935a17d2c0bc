/**
 * Events about games: the row of `outbox`, and the CloudEvents 1.0 envelope in which it leaves.
 *
 * `data` is written by the database in the transaction of the change it tells of, so it is carried, never rebuilt.
 */
import { Schema } from "effect"
import { Model } from "effect/schema"
import { GameId } from "./Game.ts"

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

/** The envelope on the wire: CloudEvents 1.0, structured JSON. */
export interface CloudEvent {
  readonly specversion: "1.0"
  readonly id: string
  readonly source: "/kickoff"
  readonly type: GameEventType
  readonly subject: string
  readonly time: string
  readonly datacontenttype: "application/json"
  readonly data: Readonly<Record<string, Schema.Json>>
}

export const cloudEventContentType = "application/cloudevents+json"

/**
 * The JSON text of an event's {@link CloudEvent}; the same event gives the same text, so a redelivery is recognisable by
 * its id. The data is not parsed on its way; the other members need no escaping.
 */
export const encodeCloudEvent = ({ data, event_id, game_id, time, type }: CommittedEvent): string =>
  `{"specversion":"1.0","id":"${event_id}","source":"/kickoff","type":"${type}","subject":"${game_id}",` +
  `"time":"${time}","datacontenttype":"application/json","data":${data}}`
