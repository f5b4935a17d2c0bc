import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { cloudEventContentType, encodeCloudEvent, GameEventType } from "../../src/domain/GameEvent.ts"

const event = {
  event_id: "7f6c1e0a-98f3-4b6e-9d0a-2d9b7c3e1f00",
  game_id: "0b9e7b8e-7b0a-4c0e-8d7c-3f1f3a2b1c0d",
  type: "game.started",
  time: "2026-12-31T20:00:00.004Z",
  data: '{"game_id": "0b9e7b8e-7b0a-4c0e-8d7c-3f1f3a2b1c0d", "title": "a game", "host_id": null, "lateness_ms": 3.25}',
  traceparent: null
} as const

describe("an event on the wire", () => {
  it("is a CloudEvent 1.0 in structured JSON", () => {
    assert.deepStrictEqual(JSON.parse(encodeCloudEvent(event)), {
      specversion: "1.0",
      id: event.event_id,
      source: "/kickoff",
      type: "game.started",
      subject: event.game_id,
      time: "2026-12-31T20:00:00.004Z",
      datacontenttype: "application/json",
      data: { game_id: event.game_id, title: "a game", host_id: null, lateness_ms: 3.25 }
    })
    assert.strictEqual(cloudEventContentType, "application/cloudevents+json")
  })

  it("tells of creating, changing, cancelling, deleting, starting, completing and reminding", () => {
    assert.sameMembers(
      [...GameEventType.literals],
      [
        "game.created",
        "game.updated",
        "game.cancelled",
        "game.deleted",
        "game.started",
        "game.completed",
        "game.reminder_due"
      ]
    )
  })

  it.prop(
    "is the same whenever the same row is sent, and carries its data as they were written",
    [GameEventType, Schema.Record(Schema.String, Schema.Json)],
    ([type, data]) => {
      const row = { ...event, type, data: JSON.stringify(data), attempts: 3, retry_at: "later" }
      const again = { ...row, attempts: 4 }
      const text = encodeCloudEvent(row)
      assert.strictEqual(text, encodeCloudEvent(again))
      const first = JSON.parse(text)
      assert.deepStrictEqual(first.data, JSON.parse(JSON.stringify(data)))
      assert.deepStrictEqual(
        Object.keys(first),
        ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"],
        "no member beyond the envelope"
      )
    }
  )
})
