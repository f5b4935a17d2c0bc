import { assert, describe, it } from "@effect/vitest"
import { replicaLength, sessionName } from "../../src/postgres/sessionName.ts"

describe("the name of a session", () => {
  it("says what it is for and whose it is", () => {
    assert.strictEqual(sessionName("relay", "a1b2c3d4e5f6:1"), "kickoff:relay@a1b2c3d4e5f6:1")
  })

  it("is cut by us and not by the server, at the end where replicas are alike", () => {
    const replicas = ["7d9f8b6c5d-abcde:1", "7d9f8b6c5d-fghij:1"].map(
      (end) => `kickoff-status-transitions-daemon-${end}`
    )
    const names = replicas.map((replica) => sessionName("status-transitions", replica))
    assert.deepStrictEqual(
      names.map((name) => Buffer.byteLength(name)),
      [63, 63]
    )
    assert.notStrictEqual(names[0], names[1])
    // All sessions of a process have the same end.
    for (const part of ["outbox", "status-transitions"]) {
      assert.strictEqual(sessionName(part, replicas[0] ?? "").split("@")[1], replicas[0]?.slice(-replicaLength))
    }
  })
})
