import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  type ApiKey,
  digestOf,
  fromHash,
  isKey,
  makeKey,
  readList,
  toHash,
  writeList
} from "../../src/access/apiKey.ts"
import { hideKeys } from "../../src/observability/secrets.ts"

const hash = toHash(digestOf(makeKey()))
const key: ApiKey = { name: "bot", hash, scopes: ["read", "write"] }

const read = (list: unknown) => Effect.runSync(readList(typeof list === "string" ? list : JSON.stringify(list)))
const refusal = (list: unknown) =>
  Effect.runSync(Effect.flip(readList(typeof list === "string" ? list : JSON.stringify(list)))).message

describe("an API key", () => {
  it("has 256 random bits, and a form that can be found anywhere", () => {
    const keys = Array.from({ length: 100 }, makeKey)
    assert.lengthOf(new Set(keys), 100)
    for (const each of keys) {
      assert.isTrue(isKey(each))
      assert.lengthOf(Buffer.from(each.slice("kickoff_".length), "base64url"), 32)
      assert.strictEqual(hideKeys(`GET /?key=${each}&${each}&a`), "GET /?key=kickoff_…&kickoff_…&a")
    }
    for (const other of ["", "kickoff_", makeKey().slice(0, -1), `${makeKey()}a`, ` ${makeKey()}`, `${makeKey()}\n`]) {
      assert.isFalse(isKey(other), other)
    }
    for (const text of ["", "kickoff_lateness_committed_seconds", `kickoff_${"a".repeat(42)}`]) {
      assert.strictEqual(hideKeys(text), text)
    }
  })

  it("is kept as its SHA-256", () => {
    // From FIPS 180-2, appendix B.1.
    const sha256OfAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert.strictEqual(toHash(digestOf("abc")), `sha256:${sha256OfAbc}`)
    assert.deepStrictEqual(fromHash(`sha256:${sha256OfAbc}`), digestOf("abc"))
  })
})

describe("a list of API keys", () => {
  it("is read as it was written", () => {
    const list: ReadonlyArray<ApiKey> = [
      key,
      { name: "ops-1", hash: toHash(digestOf(makeKey())), scopes: ["operate"], guilds: ["a", "b"] }
    ]
    assert.deepStrictEqual(read(list), list)
    assert.deepStrictEqual(read(writeList(read(list))), list)
    assert.deepStrictEqual(read([]), [])
  })

  it("may give one client several keys, as long as they are good for the same", () => {
    const next = { ...key, hash: toHash(digestOf(makeKey())), scopes: ["write", "read"] }
    assert.lengthOf(read([key, next]), 2)
    const same = /^Expected the same scopes and guilds in all keys with the name "bot"$/
    assert.match(refusal([key, { ...next, scopes: ["read"] }]), same)
    assert.match(refusal([key, { ...next, guilds: ["a"] }]), same)
    assert.match(
      refusal([
        { ...key, guilds: ["b"] },
        { ...next, guilds: ["a"] }
      ]),
      same
    )
  })

  const bad: ReadonlyArray<readonly [what: string, list: unknown, message: RegExp]> = [
    ["nothing", "", /JSON array/],
    ["no JSON", `[{"name": ${makeKey()}}]`, /JSON array/],
    ["no list", key, /another type/],
    ["a list of other things", ["bot"], /^\[0\]: /],
    ["no hash", [{ name: "bot", scopes: ["read"] }], /^\[0\]\[hash\]: This member is required$/],
    ["a key in place of its hash", [{ ...key, hash: makeKey() }], /^\[0\]\[hash\]: Expected sha256: and 64/],
    ["a hash in capitals", [{ ...key, hash: hash.toUpperCase() }], /^\[0\]\[hash\]: /],
    ["a hash of another kind", [{ ...key, hash: `md5:${"0".repeat(32)}` }], /^\[0\]\[hash\]: /],
    ["the same hash twice", [key, { ...key, name: "other" }], /^Expected each hash only once$/],
    ["a name that breaks lines", [{ ...key, name: "a\nb" }], /^\[0\]\[name\]: /],
    ["an empty name", [{ ...key, name: "" }], /^\[0\]\[name\]: /],
    ["a long name", [{ ...key, name: "n".repeat(65) }], /^\[0\]\[name\]: /],
    ["no scope", [{ ...key, scopes: [] }], /^\[0\]\[scopes\]: /],
    ["an unknown scope", [{ ...key, scopes: ["admin"] }], /^\[0\]\[scopes\]\[0\]: /],
    ["a scope in place of scopes", [{ ...key, scopes: "read" }], /^\[0\]\[scopes\]: /],
    ["no guild at all, which could mean every one", [{ ...key, guilds: [] }], /^\[0\]\[guilds\]: /],
    ["null in place of guilds", [{ ...key, guilds: null }], /^\[0\]\[guilds\]: /],
    ["a misspelled guilds, which would open all of them", [{ ...key, guild: ["a"] }], /^\[0\]\[guild\]: This member/]
  ]
  it.each(bad)("that has %s is refused, and shows nothing of what it holds", (_, list, message) => {
    const said = refusal(list)
    assert.match(said, message)
    assert.strictEqual(hideKeys(said), said)
    assert.notInclude(said, hash.slice(0, 20))
  })
})
