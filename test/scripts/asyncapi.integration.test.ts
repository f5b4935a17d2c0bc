import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { withAsyncApiParser } from "../support/asyncApiParser.ts"

const text = readFileSync(fileURLToPath(new URL("../../docs/asyncapi.json", import.meta.url)), "utf8")

describe("docs/asyncapi.json", () => {
  it("is what AsyncAPI's parser takes", { timeout: 180_000 }, () =>
    withAsyncApiParser(async (parse) => {
      const severe = async (document: string) => (await parse(document)).filter(({ severity }) => severity < 2)
      assert.deepStrictEqual(await severe(text), [])
      // It would say so.
      assert.isNotEmpty(await severe(text.replace('"action": "send"', '"action": "shout"')))
    })
  )
})
