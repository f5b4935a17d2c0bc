/** The messages of the real service, as an integrator holds them against what is published of them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { GameEventType, MessageHeaders } from "../../src/domain/GameEvent.ts"
import { objectionsTo } from "../support/eventSchemas.ts"
import { inWorld, makeWorld, type Received } from "../support/world.ts"

const asyncApi = JSON.parse(readFileSync(fileURLToPath(new URL("../../docs/asyncapi.json", import.meta.url)), "utf8"))

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

describe("the messages of the running service", () => {
  it.live("of every type are as their schemas and the AsyncAPI document say", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const service = yield* world.start()
      const call = (method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) =>
        Effect.promise(async () => {
          const answer = await fetch(`${service.url}${path}`, {
            method,
            headers: { "content-type": "application/json", ...headers },
            ...(body === undefined ? {} : { body: JSON.stringify(body) })
          })
          assert.isTrue(answer.ok, `${method} ${path}: ${answer.status}`)
          return answer.status === 204 ? {} : ((await answer.json()) as { readonly id?: string })
        })
      const plan = (fields: object, headers?: Readonly<Record<string, string>>) =>
        Effect.map(call("POST", "/v1/games", { guild_id: "guild", ...fields }, headers), ({ id = "" }) => id)

      // By hand, in all that can be said of a game.
      const awkward = `"Ünïcödé" \\ 🎲 \u2028 \u0001`
      const byHand = yield* plan(
        { title: awkward, scheduled_at: "2040-01-01T20:00:00.123456789+05:30", channel_id: "c", host_id: "h" },
        { traceparent }
      )
      yield* call("PATCH", `/v1/games/${byHand}`, {
        guild_id: "another",
        title: `${awkward}!`,
        scheduled_at: "2041-01-01T20:00:00Z",
        channel_id: null,
        host_id: null,
        description: "d",
        location: "l",
        expected_duration_minutes: 1,
        max_players: 2,
        reminder_minutes: []
      })
      yield* call("PATCH", `/v1/games/${byHand}`, { status: "IN_PROGRESS", title: "both" })
      yield* call("PATCH", `/v1/games/${byHand}`, { status: "COMPLETED" })
      yield* call("DELETE", `/v1/games/${byHand}`)
      yield* call("POST", `/v1/games/${yield* plan({ title: "t", scheduled_at: "2040-01-01T20:00:00Z" })}/cancel`)

      // By the clock, also what another application has planned, with an id of no version.
      const byClock = yield* plan({ title: "t", scheduled_at: "2020-01-01T20:00:00Z", expected_duration_minutes: 0 })
      const byOthers = "11111111-2222-3333-4444-555555555555"
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO game_sessions (id, guild_id, title, scheduled_at)
        VALUES (${byOthers}, '', 't', now() + interval '1 hour')`
      yield* sql`
        INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time) VALUES (${byOthers}, 60, now())`

      yield* world.nextOf("game.reminder_due", byOthers)
      const told = (id: string, type: string) =>
        world.received.some(({ event }) => event.subject === id && event.type === type)
      if (!told(byClock, "game.completed")) yield* world.nextOf("game.completed", byClock)

      const check = ({ event, message }: Received) => {
        assert.deepStrictEqual(objectionsTo(event), [], JSON.stringify(event))
        assert.strictEqual(event.data["game_id"], event.subject)
        const channel = asyncApi.channels[event.type]
        assert.strictEqual(message.fields.routingKey, channel.address)
        const described = asyncApi.components.messages[event.type]
        const { appId, contentType, deliveryMode, headers, messageId, timestamp, type } = message.properties
        assert.deepStrictEqual(
          { appId, contentType, deliveryMode, messageId, timestamp, type },
          {
            appId: "kickoff",
            contentType: described.contentType,
            deliveryMode: asyncApi.components.operationBindings.publish.amqp.deliveryMode,
            messageId: event.id,
            timestamp: Math.floor(Date.parse(event.time) / 1000),
            type: described.bindings.amqp.messageType
          }
        )
        Schema.decodeUnknownSync(MessageHeaders)(headers, { onExcessProperty: "error" })
      }
      for (const received of world.received) check(received)

      const typesOf = (id: string) =>
        world.received.filter(({ event }) => event.subject === id).map(({ event }) => event.type)
      assert.sameMembers([...new Set(world.received.map(({ event }) => event.type))], [...GameEventType.literals])
      assert.deepStrictEqual(typesOf(byHand), [
        "game.created",
        "game.updated",
        "game.started",
        "game.updated",
        "game.completed",
        "game.deleted"
      ])
      const versions = world.received
        .filter(({ event }) => event.subject === byHand)
        .map(({ event }) => event.data["version"])
      assert.deepStrictEqual(versions, [1, 2, 3, 3, 4, 5])
      assert.deepStrictEqual(
        world.received[0]?.message.properties.headers?.["traceparent"]?.slice(0, 35),
        traceparent.slice(0, 35)
      )
    }).pipe(inWorld)
  )
})
