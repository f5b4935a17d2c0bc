import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import { explain } from "../../src/operations/explanation.ts"
import type { EffectFacts, GameFacts, GameHistory, RowFacts } from "../../src/operations/GameHistoryRepository.ts"

const now = Date.parse("2026-12-31T20:00:00Z")
const minute = 60_000

const game: GameFacts = {
  title: "a game",
  guild_id: "guild",
  status: "SCHEDULED",
  version: 1,
  scheduled_at: now + 10 * minute,
  created_at: now - 60 * minute
}
const start: RowFacts = {
  kind: "status-transition",
  target: "IN_PROGRESS",
  due: now + 10 * minute,
  done: false,
  done_at: null,
  outcome: null,
  hold: null,
  attempts: 0,
  retry_at: null
}
const completion: RowFacts = { ...start, target: "COMPLETED", due: now + 70 * minute }
const reminder: RowFacts = { ...start, kind: "notification", target: "15", due: now - 5 * minute }
const applied: EffectFacts = {
  kind: "status-transition",
  target: "IN_PROGRESS",
  due: now - minute,
  at: now - minute + 4,
  outcome: "applied",
  replica: "host:1",
  event_id: "an-event",
  confirmed_at: now - minute + 7
}
const healthy: GameHistory = {
  now,
  shadow: false,
  game: Option.some(game),
  rows: [start, completion],
  effects: [],
  events: [],
  letters: [],
  pauses: []
}
const told = (history: GameHistory) => {
  const { history: past, outlook, remarks } = explain(history)
  return { past: past.map(({ what }) => what), outlook: outlook.map(({ what }) => what), remarks }
}

describe("the explanation of a game", () => {
  it("tells what is to come, in the order of time, and has no remarks where all is well", () => {
    assert.deepStrictEqual(told(healthy), {
      past: ["The game was planned"],
      outlook: ["The start", "The completion"],
      remarks: []
    })
  })

  it("tells who did what, how late, and when its event was confirmed", () => {
    const { past } = told({
      ...healthy,
      game: Option.some({ ...game, status: "IN_PROGRESS" }),
      rows: [{ ...start, due: applied.due, done: true, done_at: applied.at, outcome: "applied" }, completion],
      effects: [applied]
    })
    assert.deepStrictEqual(past, [
      "The game was planned",
      "The start took effect by host:1, 4 ms after its time; its event an-event was confirmed 3 ms later"
    ])
  })

  it("tells of a start by hand as such, and not how far from its time it was", () => {
    const { past } = told({ ...healthy, effects: [{ ...applied, outcome: "by hand", event_id: null }] })
    assert.deepStrictEqual(past, [
      "The game was planned",
      "The start was done by hand, by a change of the game's status"
    ])
  })

  it("blames no pause that was over before the game was planned", () => {
    const pause = {
      kind: "status-transition" as const,
      paused_at: game.created_at - 3 * minute,
      paused_by: "anna",
      reason: null,
      resumed_at: game.created_at - minute
    }
    const effects = [{ ...applied, due: game.created_at - 5 * minute, at: game.created_at + 10 }]
    assert.notInclude(told({ ...healthy, effects, pauses: [pause] }).past[1], "anna")
    const later = { ...pause, resumed_at: game.created_at + 5 }
    assert.include(told({ ...healthy, effects, pauses: [later] }).past[1], "anna had paused its kind until")
  })

  it("tells of an event that waits, or of which nothing is on record", () => {
    const unconfirmed = { ...healthy, effects: [{ ...applied, confirmed_at: null }] }
    assert.include(told(unconfirmed).past[1], "no confirm of its event an-event is on record")
    const event = { event_id: "an-event", type: "game.started", occurred_at: now, attempts: 2, retry_at: now + 500 }
    const waiting = told({ ...unconfirmed, events: [event] })
    assert.include(waiting.past[1], "its event an-event waits in the outbox")
    assert.include(waiting.outlook, "The event an-event (game.started) waits to be published")
    assert.include(waiting.remarks[0], "was refused 2 times and holds back the later ones")
  })

  it("says why a row is not done: it failed, was given up, waits for the start, or is overdue", () => {
    const due = now - 10 * minute
    const { outlook, remarks } = told({
      ...healthy,
      rows: [
        { ...start, due, hold: "parked", attempts: 8 },
        { ...completion, due, hold: "waiting" },
        { ...reminder, hold: "retry", attempts: 3, retry_at: now + 2000 },
        { ...reminder, target: "5" },
        { ...reminder, target: "1", hold: "retry", attempts: 1, retry_at: now + 2000 }
      ]
    })
    assert.sameMembers(outlook, [
      "The start was given up, see its dead letter",
      "The completion is due and waits for the start, which is not done",
      "The reminder 15 minutes before failed 3 times and is tried again",
      "The reminder 5 minutes before is due",
      "The reminder 1 minute before failed 1 time and is tried again"
    ])
    assert.lengthOf(
      remarks.filter((remark) => remark.startsWith("The reminder 5 minutes before has been due for 300 s")),
      1
    )
  })

  it("says in shadow that another system does what is due, and does not wonder why it waits", () => {
    const { outlook, remarks } = told({ ...healthy, shadow: true, rows: [start, completion, reminder] })
    assert.include(outlook, "The reminder 15 minutes before is due")
    assert.deepStrictEqual(remarks, [
      "The database is in shadow: what is due is left to another system. `kickoff shadow report` compares"
    ])
  })

  it("says that a kind is paused, by whom and why, instead of wondering why nothing happens", () => {
    const pause = {
      kind: "status-transition" as const,
      paused_at: now - 30 * minute,
      paused_by: "anna",
      reason: "a new bot",
      resumed_at: null
    }
    const { outlook, remarks } = told({
      ...healthy,
      game: Option.some({ ...game, scheduled_at: now - 10 * minute }),
      rows: [{ ...start, due: now - 10 * minute }, completion, reminder],
      pauses: [pause]
    })
    assert.deepStrictEqual(outlook, [
      "The start is due, and its kind is paused",
      "The reminder 15 minutes before is due",
      "The completion, unless its kind is still paused then"
    ])
    assert.lengthOf(remarks, 2)
    assert.strictEqual(
      remarks[0],
      "Nothing of the kind status-transition is done since 2026-12-31T19:30:00.000Z, because anna has paused its kind: " +
        "a new bot. `kickoff resume status-transition` lets it go on"
    )
    assert.match(remarks[1] ?? "", /^The reminder 15 minutes before has been due for 300 s/)
  })

  it("names the pause that made something late, and none that did not", () => {
    const late = { ...applied, due: now - 20 * minute, at: now - 5 * minute, event_id: null }
    const pause = {
      kind: "status-transition" as const,
      paused_at: now - 30 * minute,
      paused_by: "anna",
      reason: null,
      resumed_at: now - 5 * minute - 3
    }
    const before = { ...pause, paused_at: now - 60 * minute, resumed_at: now - 50 * minute }
    const other = { ...pause, kind: "notification" as const }
    const tell = (pauses: GameHistory["pauses"]) => told({ ...healthy, effects: [late], pauses }).past[1]
    assert.strictEqual(
      tell([before, pause, other]),
      "The start took effect by host:1, 900000 ms after its time (anna had paused its kind until 2026-12-31T19:54:59.997Z)"
    )
    assert.strictEqual(tell([before, other]), "The start took effect by host:1, 900000 ms after its time")
  })

  it("says what was skipped and what was superseded", () => {
    const { past } = told({
      ...healthy,
      effects: [
        { ...applied, outcome: "superseded", event_id: null },
        { ...applied, kind: "notification", target: "15", outcome: "skipped", event_id: null }
      ]
    })
    assert.include(past, "The start had no effect: the game's status no longer allowed it")
    assert.include(past[2], "The reminder 15 minutes before was skipped")
  })

  it("tells what was done by hand or longer ago than the record was read", () => {
    const rows = [
      { ...start, done: true, done_at: now - minute },
      { ...reminder, done: true, outcome: "sent" }
    ]
    assert.includeMembers(told({ ...healthy, rows }).past, [
      "The start is done, not by the clock",
      "The reminder 15 minutes before is done (sent)"
    ])
  })

  it("tells of dead letters and how they were settled", () => {
    const { past } = told({
      ...healthy,
      letters: [
        {
          id: "a-letter",
          kind: "event",
          created_at: now - 3 * minute,
          error: "EventRefused",
          message: "too large",
          attempts: 8,
          resolved_at: now - minute,
          resolution: "replayed",
          resolved_by: "jane"
        }
      ]
    })
    assert.deepStrictEqual(past.slice(1), [
      "Given up after 8 attempts (event, dead letter a-letter): EventRefused: too large",
      "Dead letter a-letter was replayed by jane"
    ])
  })

  it("remarks that nothing is planned, that the row decides, and that the game is gone", () => {
    assert.include(told({ ...healthy, rows: [completion] }).remarks[0], "no start is planned")
    const running = Option.some({ ...game, status: "IN_PROGRESS" as const })
    assert.include(told({ ...healthy, game: running, rows: [] }).remarks[0], "no completion is planned")
    const moved = told({ ...healthy, rows: [{ ...start, due: start.due + 1000 }, completion] })
    assert.include(moved.remarks[0], "not for its scheduled_at 2026-12-31T20:10:00.000Z: the row decides")
    assert.deepStrictEqual(told({ ...healthy, game: Option.none(), rows: [] }).remarks, [
      "The game is not there: it was deleted, or never existed"
    ])
  })
})
