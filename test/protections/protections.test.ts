/** Keeps the page of pitfalls, the protections and the code in step; `npm run test:protections` proves what they say. */
import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { applyChange } from "./Protection.ts"
import { protections } from "./protections.ts"

const read = (file: string): string => readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8")

interface Row {
  readonly pitfall: number
  /** `file: title`. */
  readonly tests: ReadonlyArray<string>
  readonly proof: string
}

/** The rows of the page: `| 1 | pitfall | protection | *title* ([File](../test/File.test.ts)) |`. */
const rows = read("docs/reliability.md")
  .split("\n")
  .filter((line) => /^\| \d+ \|/.test(line))
  .map((line): Row => {
    const [pitfall = "", , , proof = ""] = line.slice(2, -2).split(" | ")
    const tests = [...proof.matchAll(/\*([^*]+)\* \(\[\w+\]\(\.\.\/(test\/[^)]+)\)\)/g)]
    return { pitfall: Number(pitfall), proof, tests: tests.map(([, title, file]) => `${file}: ${title}`) }
  })

/** The titles of a test file as expressions: what is put into a title may be anything. */
const titlesOf = (file: string): ReadonlyArray<RegExp> =>
  [...read(file).matchAll(/\(\s*(["`])((?:(?!\1)[^\n])+)\1,/g)].map(([, , title = ""]) => {
    const parts = title.split(/\$\{[^}]*\}|\$\w+|%[sj#]/).map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"))
    return new RegExp(`^${parts.join(".+")}$`)
  })

describe("the page of pitfalls", () => {
  it("has a row for each of the 52, in their order", () => {
    assert.deepStrictEqual(
      rows.map(({ pitfall }) => pitfall),
      Array.from({ length: 52 }, (_, index) => index + 1)
    )
  })

  it("names for each pitfall the tests that notice when its protection is taken out, and no others", () => {
    const proven = new Map<number, Set<string>>()
    for (const { caughtBy, pitfalls } of protections) {
      for (const pitfall of pitfalls) {
        const tests = Object.entries(caughtBy).flatMap(([file, titles]) => titles.map((title) => `${file}: ${title}`))
        proven.set(pitfall, new Set([...(proven.get(pitfall) ?? []), ...tests]))
      }
    }
    for (const { pitfall, tests } of rows) {
      assert.deepStrictEqual(tests.toSorted(), [...(proven.get(pitfall) ?? [])].toSorted(), `pitfall ${pitfall}`)
    }
  })

  it("says why where it names no test", () => {
    for (const { pitfall, proof, tests } of rows) {
      if (tests.length === 0)
        assert.match(proof, /^(?:Not covered yet|Does not apply|No test can show it): ./, `pitfall ${pitfall}`)
    }
  })
})

describe("a protection", () => {
  it.each(protections)("is taken out by changes that fit the code: $name", ({ takenOut }) => {
    const texts = new Map<string, string>()
    for (const change of takenOut) {
      const changed = applyChange(texts.get(change.file) ?? read(change.file), change)
      if (typeof changed !== "string") {
        assert.fail(`${changed.objection}: say in test/protections how it is taken out of the code as it is now`)
      }
      texts.set(change.file, changed)
    }
  })

  it.each(protections)("is proven by tests that exist: $name", ({ caughtBy }) => {
    for (const [file, tests] of Object.entries(caughtBy)) {
      assert.isTrue(existsSync(fileURLToPath(new URL(`../../${file}`, import.meta.url))), file)
      const titles = titlesOf(file)
      for (const test of tests) {
        for (const part of test.split(" > ")) {
          assert.isTrue(
            titles.some((title) => title.test(part)),
            `${file} has no test "${part}"`
          )
        }
      }
    }
  })
})
