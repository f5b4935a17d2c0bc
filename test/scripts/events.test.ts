/** What integrators read of events says what the schemas say. */
import { assert, describe, it } from "@effect/vitest"
import addFormats from "ajv-formats"
import { Ajv } from "ajv"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { examples } from "../../scripts/docs/events.ts"
import { GameEventType } from "../../src/domain/GameEvent.ts"
import { objectionsTo } from "../support/eventSchemas.ts"

const read = (file: string) => readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8")

const types = GameEventType.literals

describe("the schema of an event", () => {
  it.each(types)("%s lets its example through, also with members that are new", (type) => {
    const example = examples[type]
    assert.deepStrictEqual(objectionsTo(example), [])
    assert.deepStrictEqual(objectionsTo({ ...example, data: { ...example.data, new: 1 }, extension: "new" }), [])
  })

  it.each(types)("%s refuses an event that lacks any member", (type) => {
    const example = examples[type]
    const { data, ...envelope } = example
    for (const name of Object.keys(example)) {
      const rest = Object.fromEntries(Object.entries(example).filter(([other]) => other !== name))
      assert.isNotEmpty(objectionsTo(rest, type), name)
    }
    for (const name of Object.keys(data)) {
      const rest = Object.fromEntries(Object.entries(data).filter(([other]) => other !== name))
      assert.isNotEmpty(objectionsTo({ ...envelope, data: rest }), name)
    }
  })

  it.each(types)("%s refuses other types, and values of other forms", (type) => {
    const example = examples[type]
    for (const other of types) if (other !== type) assert.isNotEmpty(objectionsTo(examples[other], type), other)
    for (const wrong of [
      { id: "1" },
      { time: "2030-05-03T18:00:00Z" },
      { source: "/others" },
      { data: { ...example.data, version: 0 } },
      { data: { ...example.data, version: "1" } },
      { data: { ...example.data, status: "scheduled" } },
      { data: { ...example.data, scheduled_at: "2030-05-03 18:00" } }
    ]) {
      assert.isNotEmpty(objectionsTo({ ...example, ...wrong }), JSON.stringify(wrong))
    }
  })
})

describe("the AsyncAPI document", () => {
  const { components } = JSON.parse(read("docs/asyncapi.json"))
  const ajv = new Ajv({ strict: true })
  addFormats.default(ajv)

  it.each(types)("describes %s as its schema does, in its own dialect", (type) => {
    const { examples: own, headers, payload } = components.messages[type]
    assert.deepStrictEqual(own, [{ name: type, payload: examples[type] }])
    const validate = ajv.compile(payload)
    assert.isTrue(validate(examples[type]), ajv.errorsText(validate.errors))
    assert.isFalse(validate({ ...examples[type], id: 5 }))
    const { properties, required } = JSON.parse(read(`docs/schemas/${type}.json`))
    assert.deepStrictEqual([payload.properties, payload.required], [properties, required])
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for (const good of [{}, { traceparent }]) assert.isTrue(ajv.validate(headers, good))
    assert.isFalse(ajv.validate(headers, { traceparent: "1" }))
  })
})

describe("an event on a page", () => {
  it.each(["README.md", "docs/EVENTS.md"])("of %s is one that could come", (file) => {
    const blocks = [...read(file).matchAll(/^```json\n([^]*?)^```$/gm)].map(([, text = ""]) => JSON.parse(text))
    const events = blocks.filter((block) => "specversion" in block)
    assert.isNotEmpty(events)
    for (const event of events) assert.deepStrictEqual(objectionsTo(event), [])
  })

  it("has its row in the table of types, with every member that not all events have", () => {
    const page = read("docs/EVENTS.md")
    const shared = Object.keys(examples["game.deleted"].data)
    for (const type of types) {
      const row = page.split("\n").find((line) => line.startsWith(`| \`${type}\` |`))
      assert.isDefined(row, type)
      const own = Object.keys(examples[type].data).filter((name) => !shared.includes(name))
      // Two rows refer to the one before.
      if (row !== undefined && !row.includes("the same")) for (const name of own) assert.include(row, `\`${name}\``)
    }
    for (const name of shared) assert.include(page, `\`${name}\``)
  })
})
