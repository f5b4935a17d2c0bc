import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, Option, Redacted, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Crypto from "node:crypto"
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { vi } from "vitest"
import { type ApiKey, digestOf, makeKey, toHash, writeList } from "../../src/access/apiKey.ts"
import { ApiKeys } from "../../src/access/ApiKeys.ts"
import { Settings } from "../../src/Settings.ts"

vi.mock("node:crypto", async (original) => {
  const real = await original<typeof Crypto>()
  return { ...real, timingSafeEqual: vi.fn(real.timingSafeEqual) }
})

const entry = (key: string, fields: Partial<ApiKey> = {}): ApiKey => ({
  name: "bot",
  hash: toHash(digestOf(key)),
  scopes: ["read"],
  ...fields
})

/** The service on these settings, and what it logs. */
const make = Effect.fnUntraced(function* (settings: Parameters<typeof Settings.layerWith>[0]) {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => lines.push(`${logLevel}: ${[message].flat().join(" ")}`))
  const context = yield* Layer.build(
    ApiKeys.layer.pipe(Layer.provide(Settings.layerWith(settings)), Layer.provideMerge(Logger.layer([logger])))
  )
  const keys = Context.get(context, ApiKeys)
  return { ...keys, run: Effect.provide(keys.run, context), lines }
})

const makeFile: Effect.Effect<string, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-keys-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  ),
  (folder) => join(folder, "keys.json")
)

/** Lets the daemon look at its file, if it has finished the look before. */
const lookOnce = Effect.andThen(
  TestClock.adjust("2 seconds"),
  Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
)

const lookUntil = (condition: () => boolean) => Effect.repeat(lookOnce, { until: condition })

describe("the API keys", () => {
  it.effect("are not needed when none are configured, and then none is anybody's", () =>
    Effect.gen(function* () {
      const { find, required } = yield* make({})
      assert.isFalse(required)
      assert.isUndefined(find(makeKey()))
    }).pipe(Effect.scoped)
  )

  it.effect("are needed by everybody once there is a list, also an empty one", () =>
    Effect.gen(function* () {
      const { find, required } = yield* make({ apiKeys: Option.some(Redacted.make("[]")) })
      assert.isTrue(required)
      assert.isUndefined(find(makeKey()))
    }).pipe(Effect.scoped)
  )

  it.effect("are found by the key and by nothing else, the hash least of all", () =>
    Effect.gen(function* () {
      const [key, limited] = [makeKey(), makeKey()]
      const list = [entry(key), entry(limited, { name: "limited", scopes: ["write"], guilds: ["g"] })]
      const { find } = yield* make({ apiKeys: Option.some(Redacted.make(writeList(list))) })
      assert.deepEqual(find(key), { caller: { name: "bot", guilds: "every" }, scopes: new Set(["read"] as const) })
      assert.deepEqual(find(limited), {
        caller: { name: "limited", guilds: ["g"] },
        scopes: new Set(["write"] as const)
      })
      const hash = toHash(digestOf(key))
      for (const other of [
        "",
        hash,
        hash.slice(7),
        `kickoff_${hash.slice(7)}`,
        key.toUpperCase(),
        `${key} `,
        makeKey()
      ]) {
        assert.isUndefined(find(other), other)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("are compared as a whole, in a time that does not depend on them", () =>
    Effect.gen(function* () {
      // Two keys whose digests begin alike, so that they are looked for in the same place.
      const good = "kickoff_ipgdxmL-hEuxZB07aA5NDVdCfCI4Z7s7fgFxeYqJywk"
      const bad = "kickoff_ZBCN3wZOXeHLILMpVDihQL-AWLpvy_qzKQCqabc_O5k"
      assert.strictEqual(digestOf(good).readUInt32BE(), digestOf(bad).readUInt32BE())
      const { find } = yield* make({ apiKeys: Option.some(Redacted.make(writeList([entry(good)]))) })
      const compared = vi.mocked(Crypto.timingSafeEqual)
      compared.mockClear()
      assert.isUndefined(find(bad))
      assert.deepStrictEqual(compared.mock.calls, [[digestOf(good), digestOf(bad)]])
      assert.isDefined(find(good))
      assert.lengthOf(compared.mock.calls, 2)
    }).pipe(Effect.scoped)
  )

  it.effect("follow their file without a restart", () =>
    Effect.gen(function* () {
      const [first, second] = [makeKey(), makeKey()]
      const file = yield* makeFile
      writeFileSync(file, writeList([entry(first)]))
      const { find, lines, run } = yield* make({ apiKeysFile: Option.some(file) })
      assert.isDefined(find(first))
      yield* Effect.forkScoped(run)
      // As a mounted secret changes: another file takes the name.
      writeFileSync(`${file}.new`, writeList([entry(second)]))
      renameSync(`${file}.new`, file)
      yield* lookUntil(() => find(second) !== undefined)
      assert.isUndefined(find(first))
      assert.deepStrictEqual(lines, [`Info: The API keys have changed, 1 are good now: ${file}`])
    }).pipe(Effect.scoped)
  )

  it.effect("stay those of before while their file is broken or away, which is said once for each reason", () =>
    Effect.gen(function* () {
      const key = makeKey()
      const file = yield* makeFile
      writeFileSync(file, writeList([entry(key)]))
      const { find, lines, run } = yield* make({ apiKeysFile: Option.some(file) })
      yield* Effect.forkScoped(run)
      writeFileSync(file, `[{"name": "${key}`)
      yield* lookUntil(() => lines.length === 1)
      for (let looks = 0; looks < 3; looks++) yield* lookOnce
      rmSync(file)
      yield* lookUntil(() => lines.length === 2)
      for (let looks = 0; looks < 3; looks++) yield* lookOnce
      assert.isDefined(find(key))
      const kept = `Error: The API keys of before stay good, their file cannot be used: ${file}`
      assert.deepStrictEqual(lines, [`${kept}: Expected a JSON array of API keys`, `${kept}: cannot be read (ENOENT)`])
      writeFileSync(file, "[]")
      yield* lookUntil(() => find(key) === undefined)
    }).pipe(Effect.scoped)
  )

  it.effect("end the start when they cannot be read, with the variable and the reason", () =>
    Effect.gen(function* () {
      const file = yield* makeFile
      const refusal = (settings: Parameters<typeof Settings.layerWith>[0]) =>
        Effect.map(Effect.flip(make(settings)), ({ message }) => message)
      assert.strictEqual(
        yield* refusal({ apiKeysFile: Option.some(file) }),
        `KICKOFF_API_KEYS_FILE: ${file}: cannot be read (ENOENT)`
      )
      writeFileSync(file, "{}")
      assert.match(
        yield* refusal({ apiKeysFile: Option.some(file) }),
        /^KICKOFF_API_KEYS_FILE: .*keys\.json: Expected /
      )
      assert.match(yield* refusal({ apiKeys: Option.some(Redacted.make("no")) }), /^KICKOFF_API_KEYS: Expected /)
      assert.match(
        yield* refusal({ apiKeys: Option.some(Redacted.make("[]")), apiKeysFile: Option.some(file) }),
        /^KICKOFF_API_KEYS: Expected either this or KICKOFF_API_KEYS_FILE$/
      )
    }).pipe(Effect.scoped)
  )
})
