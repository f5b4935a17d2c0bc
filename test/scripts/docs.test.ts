/** What is written from the code says what the code says, and so do the files that name environment variables. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { pages } from "../../scripts/docs/pages.ts"
import { type Setting, settings } from "../../src/Settings.ts"

const read = (file: string) => readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8")

const byName = new Map<string, Setting<unknown>>(Object.values(settings).map((setting) => [setting.name, setting]))

/** What becomes of a variable's text; `undefined` is for one that is not set. */
const valueOf = (setting: Setting<unknown>, text: string | undefined) =>
  setting.config.parse(ConfigProvider.fromUnknown(text === undefined ? {} : { [setting.name]: text }))

describe("what is written from the code", () => {
  it.each(pages().map(({ content, file }) => [file, content] as const))(
    "%s is as `npm run docs` writes it",
    (file, content) => {
      assert.strictEqual(read(file), content, `${file} is stale: npm run docs`)
    }
  )
})

describe("the page on the configuration", () => {
  const rows = read("docs/RUNTIME_CONFIG.md")
    .split("\n")
    .filter((line) => line.startsWith("| `"))

  it("has one row for each variable, and says of each what it may be", () => {
    assert.deepStrictEqual(
      rows.map((row) => /^\| `(\w+)` \|/.exec(row)?.[1]),
      [...byName.keys()]
    )
    for (const [name, { accepts }] of byName) assert.notStrictEqual(accepts, "any text", name)
  })

  it.effect("shows as values the defaults that a variable may be set to", () =>
    Effect.gen(function* () {
      const values = rows.flatMap((row) => {
        const [, name = "", value] = /^\| `(\w+)` \| [^|]+ \| `([^`|]+)` \|/.exec(row) ?? []
        return value === undefined || byName.has(value) ? [] : [[name, value] as const]
      })
      assert.isAtLeast(values.length, 10)
      for (const [name, value] of values) {
        const setting = byName.get(name)
        assert.isDefined(setting)
        if (setting !== undefined) {
          assert.deepStrictEqual(yield* valueOf(setting, value), yield* valueOf(setting, undefined), name)
        }
      }
    })
  )

  it("marks the secrets", () => {
    for (const row of rows) {
      const [, name = ""] = /^\| `(\w+)` \|/.exec(row) ?? []
      assert.strictEqual(row.includes("**secret**"), byName.get(name)?.secret, name)
    }
  })
})

describe("the .env of docker-compose.yml", () => {
  const example = new Map(
    [...read(".env.example").matchAll(/^(\w+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value])
  )

  it.effect("has the defaults of Kickoff's own variables, and docker-compose.yml the same", () =>
    Effect.gen(function* () {
      const ours = [...example].filter(([name]) => byName.has(name))
      assert.isNotEmpty(ours)
      for (const [name, value] of ours) {
        const setting = byName.get(name)
        if (setting === undefined) continue
        if (setting.secret) assert.strictEqual(value, "", name)
        assert.deepStrictEqual(yield* valueOf(setting, value), yield* valueOf(setting, undefined), name)
        const fallbacks = [...read("docker-compose.yml").matchAll(new RegExp(`\\$\\{${name}:-([^}]*)\\}`, "g"))]
        assert.isNotEmpty(fallbacks, name)
        for (const [, fallback] of fallbacks) assert.strictEqual(fallback, value, name)
      }
    })
  )

  it("has no value for a password", () => {
    const passwords = [...example].filter(([name]) => name.endsWith("_PASSWORD"))
    assert.isNotEmpty(passwords)
    for (const [name, value] of passwords) assert.strictEqual(value, "", name)
  })
})

describe("every file for operators", () => {
  const documents = readdirSync(fileURLToPath(new URL("../../docs", import.meta.url)))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`)

  it("names variables of Kickoff that there are", () => {
    for (const file of ["README.md", "docker-compose.yml", "docker/Dockerfile", ".env.example", ...documents]) {
      // The lookbehind leaves out the tail of names like TEST_DATABASE_URL.
      const named = [...read(file).matchAll(/(?<!\w)(?:KICKOFF|DATABASE|HTTP|LOG)_[A-Z]+(?:_[A-Z]+)*(?![\w*])/g)]
      assert.deepStrictEqual(
        named.map(([name]) => name).filter((name) => !byName.has(name)),
        [],
        file
      )
    }
  })
})
