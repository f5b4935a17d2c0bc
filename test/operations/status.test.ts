import { assert, describe, it } from "@effect/vitest"
import { toReplicas } from "../../src/operations/status.ts"

const session = (replica: string | null, part: string | null, relays = false) => ({ part, replica, relays })

describe("the processes that serve", () => {
  it("are told by their sessions, each with the roles that it plays, and the one that relays", () => {
    const sessions = [
      session("b:1", "listener"),
      session("b:1", "outbox"),
      session("b:1", "relay", true),
      session("a:1", "status-transitions"),
      session("a:1", "api"),
      session("a:1", "pool"),
      session("c:1", "listener")
    ]
    assert.deepStrictEqual(toReplicas(sessions), [
      { replica: "a:1", roles: ["api", "status-transitions"], relays: false, shadow: false },
      { replica: "b:1", roles: ["outbox"], relays: true, shadow: false },
      { replica: "c:1", roles: [], relays: false, shadow: false }
    ])
  })

  it("play their roles in shadow where their sessions say so", () => {
    const sessions = [
      session("a:1", "listener"),
      session("a:1", "shadow-transitions"),
      session("a:1", "shadow-api"),
      session("b:1", "shadow-reminders"),
      session("b:1", "metrics")
    ]
    assert.deepStrictEqual(toReplicas(sessions), [
      { replica: "a:1", roles: ["api", "status-transitions"], relays: false, shadow: true },
      { replica: "b:1", roles: ["notifications"], relays: false, shadow: true }
    ])
  })

  it("are neither who runs a command, nor a stranger, nor a process that only begins to", () => {
    const sessions = [
      session("a:2", "command"),
      session("a:2", "doctor"),
      session("a:3", "start"),
      session(null, null, true)
    ]
    assert.deepStrictEqual(toReplicas(sessions), [])
  })

  it("are one where their names are not passed on", () => {
    assert.deepStrictEqual(toReplicas([session(null, "listener"), session(null, "notifications")]), [
      { replica: null, roles: ["notifications"], relays: false, shadow: false }
    ])
  })
})
