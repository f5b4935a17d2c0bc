import { assert, describe, it } from "@effect/vitest"
import { measure } from "./recovery.ts"

/** One game is due every 10 ms from 1000 to 10,000, and is received after its lateness. */
const receipts = (lateness: (due: number) => number) =>
  Array.from({ length: 901 }, (_, n) => 1000 + n * 10).map((due) => ({ game: "g", due, at: due + lateness(due) }))

describe("the recovery from a fault", () => {
  it("is zero when nothing was more than 250 ms late", () => {
    assert.deepStrictEqual(
      measure(
        receipts(() => 20),
        4000,
        5000
      ),
      { recovery: 0, lateness: 20, transitions: 103 }
    )
  })

  it("lasts until what fell due during the fault has been received", () => {
    // Nothing passes until 5000; the backlog is worked off by 5600.
    const measured = measure(
      receipts((due) => (due >= 4000 && due < 5000 ? 5600 - due : 20)),
      4000,
      5000
    )
    assert.strictEqual(measured.recovery, 600)
    assert.strictEqual(measured.lateness, 1600)
  })

  it("goes on while what falls due meanwhile is late as well", () => {
    const measured = measure(
      receipts((due) => (due >= 4000 && due < 7000 ? 1000 : 20)),
      4000,
      5000
    )
    // At 7260 all that was due until 7000 has been received.
    assert.closeTo(measured.recovery, 2990, 10)
  })

  it("counts from a kill until others do the work of what was killed", () => {
    const measured = measure(
      receipts((due) => (due >= 4900 && due < 5400 ? 5500 - due : 20)),
      5000,
      5000
    )
    assert.strictEqual(measured.recovery, 500)
  })

  it("ends at the first moment when nothing is missing, and tells of later lateness all the same", () => {
    const measured = measure(
      receipts((due) => (due >= 4000 && due < 5000 ? 5300 - due : due >= 8000 && due < 8100 ? 700 : 20)),
      4000,
      5000
    )
    assert.strictEqual(measured.recovery, 300)
    assert.strictEqual(measured.lateness, 1300)
  })
})
