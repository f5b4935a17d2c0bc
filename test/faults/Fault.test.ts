import { assert, describe, it } from "@effect/vitest"
import { Dice } from "./Dice.ts"
import { goTogether, inPairs } from "./Fault.ts"
import { faults } from "./faults.ts"

const pairsOf = (seed: number) => inPairs(faults, new Dice(seed, "pairs"))

describe("two faults at once", () => {
  it("are chosen so that each fault comes once and none spoils the other", () => {
    for (let seed = 0; seed < 200; seed++) {
      const pairs = pairsOf(seed)
      assert.sameMembers(
        pairs.flat().map(({ name }) => name),
        faults.map(({ name }) => name)
      )
      for (const [one, other] of pairs) if (other !== undefined) assert.isTrue(goTogether(one, other))
      // Few come alone, or the short form takes too long.
      assert.isAtMost(pairs.length, faults.length / 2 + 1)
    }
  })

  it("are the same for the same seed, and others for another", () => {
    assert.deepStrictEqual(pairsOf(1), pairsOf(1))
    assert.notDeepEqual(pairsOf(1), pairsOf(2))
  })

  it("have different subjects, and rows keep the sessions that are used on them", () => {
    const named = (name: string) => faults.find((fault) => fault.name === name) ?? assert.fail(name)
    assert.isTrue(goTogether(named("kill-leader"), named("restart-postgres")))
    assert.isTrue(goTogether(named("kill-leader"), named("freeze-other")))
    assert.isFalse(goTogether(named("kill-leader"), named("freeze-leader")))
    assert.isFalse(goTogether(named("kill-leader"), named("cut-postgres")))
    assert.isFalse(goTogether(named("deadlocks"), named("kill-sessions")))
    assert.isFalse(goTogether(named("disk-full"), named("poison-rows")))
  })
})
