import { assert, describe, it } from "@effect/vitest"
import { DateTime } from "effect"
import { Pause } from "../../src/domain/Pause.ts"
import {
  judgeClock,
  judgeHolders,
  judgeServer,
  judgeShadow,
  judgeTables,
  judgeWork,
  type Finding,
  type Work
} from "../../src/operations/Diagnosis.ts"
import type { Backlog, Holder } from "../../src/operations/DatabaseMetricsRepository.ts"
import type { ServerFacts } from "../../src/operations/DiagnosisRepository.ts"
import { idleBacklog } from "../support/backlog.ts"

const server: ServerFacts = {
  version: 180_004,
  in_recovery: false,
  role: "kickoff",
  replication_role: "origin",
  autovacuum: true,
  notification_queue: 0,
  shadow: false
}
const transitions: Backlog = { ...idleBacklog, kind: "status-transition" }
const reminders: Backlog = { ...idleBacklog, kind: "notification" }
const session = (part: string | null, relays = false) => ({ part, replica: "host:1", relays })
const sessions = [
  ...["status-transitions", "notifications", "outbox", "listener", "pool"].map((part) => session(part)),
  session("relay", true)
]
const work: Work = {
  backlogs: [transitions, reminders],
  pauses: [],
  outbox: { events: 0, refused: 0, oldest: 0 },
  openLetters: 0,
  sessions
}

const wrong = (findings: ReadonlyArray<Finding>) =>
  findings.filter(({ verdict }) => verdict !== "ok").map(({ check, verdict }) => `${verdict}: ${check}`)

describe("the doctor", () => {
  it("finds nothing where all is well", () => {
    assert.deepStrictEqual(wrong([...judgeServer(server), ...judgeWork(work), ...judgeTables(server, [])]), [])
    assert.strictEqual(judgeHolders([]).verdict, "ok")
    assert.strictEqual(judgeClock(3, 1).verdict, "ok")
  })

  it("names a server that is too old, a standby, one that fires no triggers, and a full queue of notifications", () => {
    assert.deepStrictEqual(wrong(judgeServer({ ...server, version: 130_011 })), ["trouble: version"])
    assert.deepStrictEqual(wrong(judgeServer({ ...server, in_recovery: true })), ["trouble: primary"])
    assert.deepStrictEqual(wrong(judgeServer({ ...server, replication_role: "replica" })), [
      "trouble: replication role"
    ])
    assert.deepStrictEqual(wrong(judgeServer({ ...server, notification_queue: 0.6 })), ["trouble: notification queue"])
  })

  it("names what cleaning up has not reached, but not the few dead rows of a small table", () => {
    const table = { table: "outbox", autovacuum: true, live: 1000, dead: 900 }
    assert.deepStrictEqual(wrong(judgeTables(server, [table])), [])
    assert.deepStrictEqual(wrong(judgeTables(server, [{ ...table, dead: 900_000 }])), ["warning: dead rows"])
    assert.deepStrictEqual(wrong(judgeTables({ ...server, autovacuum: false }, [])), ["trouble: autovacuum"])
  })

  it("names roles that nobody plays, a relay that is absent or doubled, and work that is left", () => {
    const judge = (change: Partial<Work>) => wrong(judgeWork({ ...work, ...change }))
    const others = sessions.filter(({ part }) => part !== "notifications")
    assert.deepStrictEqual(judge({ sessions: others }), ["trouble: processes"])
    assert.deepStrictEqual(judge({ sessions: sessions.map(({ part }) => session(part)) }), ["trouble: relay"])
    assert.deepStrictEqual(judge({ sessions: [...sessions, session(null, true)] }), ["trouble: relay"])
    const late = { ...reminders, overdue: 1, next_due: -6 }
    assert.deepStrictEqual(judge({ backlogs: [transitions, late] }), ["trouble: overdue"])
    assert.deepStrictEqual(judge({ backlogs: [{ ...transitions, overdue: 9, next_due: -1 }, reminders] }), [])
    assert.deepStrictEqual(judge({ outbox: { ...work.outbox, events: 1, oldest: 60 } }), ["trouble: outbox"])
    assert.deepStrictEqual(judge({ outbox: { ...work.outbox, events: 1, oldest: 0.2 } }), [])
    assert.deepStrictEqual(judge({ openLetters: 3 }), ["warning: dead letters"])
  })

  it("names what is paused, and does not object to what waits for that", () => {
    const pause = new Pause({
      kind: "notification",
      paused_at: DateTime.makeUnsafe("2026-12-31T20:00:00Z"),
      paused_by: "anna",
      reason: "a new bot",
      resumed_at: null,
      resumed_by: null
    })
    const late = { ...reminders, paused: true, overdue: 7, next_due: -3600 }
    const findings = judgeWork({ ...work, backlogs: [transitions, late], pauses: [pause] })
    assert.deepStrictEqual(wrong(findings), ["warning: pauses"])
    const finding = findings.find(({ check }) => check === "pauses")
    assert.strictEqual(
      finding?.detail,
      "notification since 2026-12-31T20:00:00.000Z by anna, because: a new bot; 7 of them are due"
    )
    assert.include(finding?.cure, "kickoff resume notification")
  })

  it("asks nothing of a shadow but that its loops are there, and says what it is", () => {
    const shadow = ["shadow-transitions", "shadow-reminders", "listener", "shadow-pool"].map((part) => session(part))
    assert.deepStrictEqual(wrong(judgeShadow(shadow)), ["warning: shadow"])
    assert.deepStrictEqual(wrong(judgeShadow(sessions)), ["warning: shadow", "trouble: processes"])
  })

  it("names clocks that differ by more than the way there and back may hide", () => {
    assert.strictEqual(judgeClock(-300_000, 1).verdict, "warning")
    assert.include(judgeClock(-300_000, 1).detail, "300000 ms behind")
    assert.strictEqual(judgeClock(1500, 800).verdict, "ok")
  })

  it("names who keeps old versions of rows, and for how long", () => {
    const reporting: Holder = {
      kind: "transaction",
      name: "reporting",
      pid: 42,
      age: 1000,
      held: 3600,
      abandoned: false
    }
    const slot: Holder = {
      kind: "replication slot",
      name: "old_standby",
      pid: null,
      age: 2000,
      held: null,
      abandoned: true
    }
    const { cure, detail, verdict } = judgeHolders([reporting, slot])
    assert.strictEqual(verdict, "warning")
    assert.include(detail, "transaction of reporting (pid 42), open for 1h")
    assert.include(detail, "replication slot of old_standby")
    assert.isDefined(cure)
    // A slot that is read from, a short transaction, and one of which the server does not tell since when.
    const harmless = [
      { ...slot, abandoned: false },
      { ...reporting, held: 3 },
      { ...reporting, held: null }
    ]
    assert.strictEqual(judgeHolders(harmless).verdict, "ok")
  })
})
