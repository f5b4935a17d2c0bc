import { assert, describe, it } from "@effect/vitest"
import {
  judgeClock,
  judgeHolders,
  judgeServer,
  judgeTables,
  judgeWork,
  type Finding
} from "../../src/operations/Diagnosis.ts"
import type { ServerFacts, WorkFacts } from "../../src/operations/DiagnosisRepository.ts"

const server: ServerFacts = {
  version: 180_004,
  in_recovery: false,
  role: "kickoff",
  replication_role: "origin",
  autovacuum: true,
  notification_queue: 0
}
const work: WorkFacts = {
  overdue_transitions: 0,
  overdue_reminders: 0,
  oldest_event: null,
  open_letters: 0,
  relays: 1,
  parts: ["status-transitions", "notifications", "outbox", "listener", "relay", "pool"]
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
    const table = { name: "outbox", autovacuum: true, live: 1000, dead: 900 }
    assert.deepStrictEqual(wrong(judgeTables(server, [table])), [])
    assert.deepStrictEqual(wrong(judgeTables(server, [{ ...table, dead: 900_000 }])), ["warning: dead rows"])
    assert.deepStrictEqual(wrong(judgeTables({ ...server, autovacuum: false }, [])), ["trouble: autovacuum"])
  })

  it("names roles that nobody plays, a relay that is absent or doubled, and work that is left", () => {
    assert.deepStrictEqual(wrong(judgeWork({ ...work, parts: ["listener", "outbox"] })), ["trouble: processes"])
    assert.deepStrictEqual(wrong(judgeWork({ ...work, relays: 0 })), ["trouble: relay"])
    assert.deepStrictEqual(wrong(judgeWork({ ...work, relays: 2 })), ["trouble: relay"])
    assert.deepStrictEqual(wrong(judgeWork({ ...work, overdue_reminders: 1 })), ["trouble: overdue"])
    assert.deepStrictEqual(wrong(judgeWork({ ...work, oldest_event: 60 })), ["trouble: outbox"])
    assert.deepStrictEqual(wrong(judgeWork({ ...work, oldest_event: 0.2 })), [])
    assert.deepStrictEqual(wrong(judgeWork({ ...work, open_letters: 3 })), ["warning: dead letters"])
  })

  it("names clocks that differ by more than the way there and back may hide", () => {
    assert.strictEqual(judgeClock(-300_000, 1).verdict, "warning")
    assert.include(judgeClock(-300_000, 1).detail, "300000 ms behind")
    assert.strictEqual(judgeClock(1500, 800).verdict, "ok")
  })

  it("names who keeps old versions of rows, and for how long", () => {
    const { cure, detail, verdict } = judgeHolders([
      { kind: "transaction", name: "reporting", pid: 42, seconds: 3600 },
      { kind: "replication slot", name: "old_standby", pid: null, seconds: null }
    ])
    assert.strictEqual(verdict, "warning")
    assert.include(detail, "transaction of reporting (pid 42), open for 1h")
    assert.include(detail, "replication slot of old_standby")
    assert.isDefined(cure)
  })
})
