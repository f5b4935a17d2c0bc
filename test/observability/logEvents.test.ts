/** Keeps the page on logs and the code in step: what is listed there is what the code may say, and nothing else. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { type LogEvent, readSources } from "../support/logEvents.ts"

const read = (file: string) => readFileSync(new URL(`../../docs/${file}`, import.meta.url), "utf8")

const page = read("LOGS.md")

/** The rows of the tables under a heading. */
const rowsUnder = (heading: string): ReadonlyArray<ReadonlyArray<string>> => {
  const [, section = ""] = page.split(`\n## ${heading}\n`)
  const [own = ""] = section.split("\n## ")
  return own
    .split("\n")
    .filter((line) => line.startsWith("| ") && !/^\| (?:---|level|message|field) /.test(line))
    .map((line) => line.slice(2, -2).split(" | "))
}

const { errors, events } = readSources()

const describeFields = (some: ReadonlyArray<LogEvent>): string =>
  [
    ...new Set(
      some.map(
        ({ fields }) =>
          fields
            .toSorted()
            .map((field) => `\`${field}\``)
            .join(", ") || "–"
      )
    )
  ]
    .toSorted()
    .join(" or ")

/** An event as the page must show it, but for what it means. */
const expected = [...Map.groupBy(events, ({ level, message }) => `\`${level}\` | ${message}`)].map(
  ([said, some]) => `${said} | ${describeFields(some)}`
)

describe("the page on logs", () => {
  it("lists every event that the code may log, with its level and fields, and no other", () => {
    assert.isNotEmpty(expected)
    assert.sameMembers(
      rowsUnder("Events").map((cells) => cells.slice(0, 3).join(" | ")),
      expected
    )
  })

  it("says of each what it means", () => {
    for (const [level, message, fields, meaning] of rowsUnder("Events")) {
      assert.isNotEmpty([level, message, fields].join(""))
      assert.isNotEmpty(meaning, message)
    }
  })

  it("explains every field, each of which has one name, and no other", () => {
    const explained = rowsUnder("Fields").flatMap(([names = ""]) =>
      [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name)
    )
    const used = new Set(events.flatMap(({ fields }) => fields))
    assert.sameMembers(explained, ["timestamp", "level", "message", ...used, "trace_id", "span_id"])
  })

  it("shows last words that an error has", () => {
    const messages = rowsUnder("Why it ended").map(([message = ""]) => message)
    assert.isNotEmpty(messages)
    for (const message of messages) assert.include(errors, message)
  })
})

describe("a link of the page", () => {
  const links = [...page.matchAll(/\]\((\w+\.md)(?:#([\w-]+))?\)/g)]

  it("leads to where it says", () => {
    assert.isNotEmpty(links)
    for (const [link, file = "", anchor] of links) {
      const headings = [...read(file).matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
        heading
          .toLowerCase()
          .replaceAll(/[^\w -]/g, "")
          .replaceAll(" ", "-")
      )
      if (anchor !== undefined) assert.include(headings, anchor, link)
    }
  })
})

describe("a log event", () => {
  it("begins with words that do not change, so that it can be found", () => {
    for (const { level, message } of events) {
      // The last words of a process are those of what failed.
      if (level !== "fatal") assert.notMatch(message, /^…/, message)
    }
  })

  it("has fields in snake_case", () => {
    for (const { fields } of events) for (const field of fields) assert.match(field, /^[a-z]+(_[a-z]+)*$/)
  })
})
