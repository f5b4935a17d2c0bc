/**
 * The JSON Schema of each event and the AsyncAPI document of all of them, from their definitions in
 * `src/domain/GameEvent.ts`.
 *
 * The schemas are open: members may be added to events, so a consumer that validates must not fail on new ones. AsyncAPI
 * is made of an older draft of JSON Schema, hence the two dialects.
 */
import { JsonSchema, Schema } from "effect"
import packageJson from "../../package.json" with { type: "json" }
import { cloudEventContentType, GameEventType, gameEvents, MessageHeaders } from "../../src/domain/GameEvent.ts"
import { settings } from "../../src/Settings.ts"
import type { Page } from "./pages.ts"

type Examples = { readonly [Type in GameEventType]: (typeof gameEvents)[Type]["Type"] }

const envelope = {
  specversion: "1.0",
  source: "/kickoff",
  subject: "2751d4dc-84c4-4d4c-a27d-9d935a18bc7a",
  datacontenttype: "application/json"
} as const

const game = {
  game_id: envelope.subject,
  title: "Catan, with friends",
  guild_id: "my-guild",
  channel_id: "game-nights",
  host_id: null,
  scheduled_at: "2030-05-03T18:00:00.000Z"
} as const

/** The life of one game; its reminder is between the change and the start. */
export const examples: Examples = {
  "game.created": {
    ...envelope,
    id: "6a0b7f4e-6c55-4f0f-9a77-0d6a5a4a2c11",
    type: "game.created",
    time: "2030-05-01T09:12:44.107Z",
    data: { ...game, title: "Catan", status: "SCHEDULED", version: 1 }
  },
  "game.updated": {
    ...envelope,
    id: "a3f19c52-2d4b-4e83-8d0e-5b1c9f6e7a20",
    type: "game.updated",
    time: "2030-05-02T17:30:02.530Z",
    data: { ...game, status: "SCHEDULED", version: 2, changed: ["title"] }
  },
  "game.reminder_due": {
    ...envelope,
    id: "0e8d2b6c-7f31-4a9a-b6f5-c2d8e4917b3d",
    type: "game.reminder_due",
    time: "2030-05-03T17:45:00.003Z",
    data: {
      ...game,
      status: "SCHEDULED",
      version: 2,
      reminder_minutes: 15,
      notification_time: "2030-05-03T17:45:00.000Z",
      lateness_ms: 3.402
    }
  },
  "game.started": {
    ...envelope,
    id: "f33f4187-bbbf-4e61-b9e2-f7dcf3a3fd6f",
    type: "game.started",
    time: "2030-05-03T18:00:00.004Z",
    data: {
      ...game,
      status: "IN_PROGRESS",
      version: 3,
      transition_time: "2030-05-03T18:00:00.000Z",
      lateness_ms: 4.367
    }
  },
  "game.completed": {
    ...envelope,
    id: "c58a0d1f-93be-4b7e-a1c4-18f2d07b5e66",
    type: "game.completed",
    time: "2030-05-03T20:00:00.002Z",
    data: {
      ...game,
      status: "COMPLETED",
      version: 4,
      transition_time: "2030-05-03T20:00:00.000Z",
      lateness_ms: 2.915
    }
  },
  "game.cancelled": {
    ...envelope,
    id: "d94e6b07-1a2c-4f58-83f9-6e0b7c2d5a18",
    type: "game.cancelled",
    time: "2030-05-03T16:20:31.846Z",
    data: { ...game, status: "CANCELLED", version: 3, transition_time: null, lateness_ms: null }
  },
  "game.deleted": {
    ...envelope,
    id: "1b7c3f9a-5e60-4d82-9c4b-a8f0e2d6713c",
    type: "game.deleted",
    time: "2030-05-04T08:00:11.290Z",
    data: { ...game, status: "COMPLETED", version: 5 }
  }
}

const toText = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`

/** In one piece: a part with an identifier would stand outside, and be lost here. */
const toDocument = (schema: Schema.Constraint): JsonSchema.Document<"draft-2020-12"> =>
  Schema.toJsonSchemaDocument(schema, { referencePolicy: () => undefined })

const schemaFile = (type: GameEventType): Page => ({
  file: `docs/schemas/${type}.json`,
  content: toText({
    $schema: JsonSchema.META_SCHEMA_URI_DRAFT_2020_12,
    $id: `urn:kickoff:event:${type}`,
    ...toDocument(gameEvents[type]).schema,
    examples: [examples[type]]
  })
})

/** A schema as AsyncAPI has it. */
const toDraft07 = (schema: Schema.Constraint) => JsonSchema.toDocumentDraft07(toDocument(schema)).schema

const amqp = <const Bindings>(bindings: Bindings) => ({ amqp: { ...bindings, bindingVersion: "0.3.0" } })

const eachType = <A>(toEntry: (type: GameEventType) => A) =>
  Object.fromEntries(GameEventType.literals.map((type) => [type, toEntry(type)]))

const exchange = settings.rabbitmqExchange.fallback

const asyncApi = {
  asyncapi: "3.0.0",
  id: "urn:kickoff",
  info: {
    title: "Kickoff events",
    version: packageJson.version,
    description:
      "What Kickoff tells of games, as CloudEvents 1.0 in structured JSON. Each event is published at least once and the " +
      "events of one game in their order: deduplicate by `id`, ignore versions lower than one that you have seen. The " +
      "page docs/EVENTS.md says how to consume them."
  },
  defaultContentType: cloudEventContentType,
  servers: {
    broker: {
      host: "localhost:5672",
      protocol: "amqp",
      protocolVersion: "0.9.1",
      description: "RabbitMQ, wherever `RABBITMQ_URL` points."
    }
  },
  channels: eachType((type) => ({
    address: type,
    description: `Messages with the routing key ${type}.`,
    messages: { [type]: { $ref: `#/components/messages/${type}` } },
    bindings: { $ref: "#/components/channelBindings/exchange" }
  })),
  operations: eachType((type) => ({
    action: "send",
    channel: { $ref: `#/channels/${type}` },
    messages: [{ $ref: `#/channels/${type}/messages/${type}` }],
    bindings: { $ref: "#/components/operationBindings/publish" }
  })),
  components: {
    messages: eachType((type) => {
      const { description, title, ...payload } = toDraft07(gameEvents[type])
      return {
        name: type,
        title,
        summary: description,
        contentType: cloudEventContentType,
        headers: toDraft07(MessageHeaders),
        payload,
        bindings: amqp({ messageType: type }),
        examples: [{ name: type, payload: examples[type] }]
      }
    }),
    channelBindings: {
      exchange: amqp({
        is: "routingKey",
        exchange: { name: exchange, type: "topic", durable: true, autoDelete: false }
      })
    },
    operationBindings: {
      publish: amqp({ deliveryMode: 2, mandatory: true, timestamp: true })
    }
  }
}

/** The files as they should be. */
export const eventPages = (): ReadonlyArray<Page> => [
  ...GameEventType.literals.map(schemaFile),
  { file: "docs/asyncapi.json", content: toText(asyncApi) }
]
