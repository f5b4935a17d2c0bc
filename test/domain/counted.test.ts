import { assert, describe, it } from "@effect/vitest"
import { counted } from "../../src/domain/counted.ts"

describe("a number of things", () => {
  it("agrees with its noun", () => {
    assert.deepStrictEqual(
      [0, 1, 2].map((count) => counted(count, "row")),
      ["0 rows", "1 row", "2 rows"]
    )
    assert.deepStrictEqual(
      [0, 1].map((count) => counted(count, "is done", "are done")),
      ["0 are done", "1 is done"]
    )
  })
})
