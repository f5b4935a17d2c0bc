import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { postgresFailures } from "../../src/postgres/failures.ts"

const page = readFileSync(new URL("../../docs/reliability.md", import.meta.url), "utf8")

const statesOf = (states: ReadonlyArray<string>): string =>
  states.length === 0
    ? "–"
    : states.map((beginning) => (beginning === "" ? "anything else" : `\`${beginning}\``)).join(", ")

describe("the table of failures", () => {
  it("is on the page about reliability as it is in the code, in the same order", () => {
    const start = page.indexOf("| failure of PostgreSQL |")
    const rows = page.slice(start, page.indexOf("\n\n", start)).split("\n").slice(2)
    assert.deepStrictEqual(
      rows,
      postgresFailures.map((row) => `| ${row.failure} | ${statesOf(row.states)} | ${row.class} |`)
    )
  })
})
