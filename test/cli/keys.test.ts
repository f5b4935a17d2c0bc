/** `kickoff keys`, as an operator runs it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { digestOf, isKey, makeKey, readList, toHash } from "../../src/access/apiKey.ts"
import { hideKeys } from "../../src/observability/secrets.ts"
import { runProgram } from "../support/service.ts"

const makeFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-keys-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

const keys = (...args: ReadonlyArray<string>) => runProgram({ args: ["keys", ...args] })

const readFileList = (file: string) => Effect.orDie(readList(readFileSync(file, "utf8")))

describe.concurrent("kickoff keys", { timeout: 30_000 }, () => {
  it.live("create prints the key once, alone on the first line, and what to keep of it", () =>
    Effect.gen(function* () {
      const args = ["--name", "bot", "--scopes", "read,write", "--guilds", "a, b"]
      const { code, stderr, stdout } = yield* keys("create", ...args)
      const [key = "", entry = "", ...rest] = stdout.split("\n")
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(rest, [""])
      assert.isTrue(isKey(key))
      const expected = { name: "bot", hash: toHash(digestOf(key)), scopes: ["read", "write"], guilds: ["a", "b"] }
      assert.deepStrictEqual(JSON.parse(entry), expected)
      assert.deepStrictEqual<unknown>(yield* readList(`[${entry}]`), [expected])
      assert.strictEqual(hideKeys(stderr), stderr)
      const other = yield* keys("create", ...args, "--json")
      const json: { readonly key: string; readonly entry: { readonly hash: string }; readonly file: null } = JSON.parse(
        other.stdout
      )
      assert.deepStrictEqual(Object.keys(json), ["key", "entry", "file"])
      assert.strictEqual(json.entry.hash, toHash(digestOf(json.key)))
      assert.notStrictEqual(json.key, key)
      assert.strictEqual(other.stderr, "")
    })
  )

  it.live("create --file adds to a file that only its owner reads, and leaves the key out of it", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      const file = join(folder, "keys.json")
      const create = (name: string) => keys("create", "--name", name, "--scopes", "read", "--file", file)
      const first = yield* create("first")
      assert.deepInclude(first, { code: 0 })
      assert.isTrue(isKey(first.stdout.trim()))
      assert.strictEqual(statSync(file).mode & 0o777, 0o600)
      chmodSync(file, 0o644)
      const second = yield* create("second")
      assert.strictEqual(statSync(file).mode & 0o777, 0o600)
      const list = yield* readFileList(file)
      assert.deepStrictEqual(
        list.map(({ hash, name }) => [name, hash]),
        [first, second].map(({ stdout }, n) => [["first", "second"][n], toHash(digestOf(stdout.trim()))])
      )
      const text = readFileSync(file, "utf8")
      assert.strictEqual(hideKeys(text), text)
      assert.deepStrictEqual(readdirSync(folder), ["keys.json"])
    }).pipe(Effect.scoped)
  )

  it.live("create --file loses no key when several are made at once: each is in the file, or was refused", () =>
    Effect.gen(function* () {
      const file = join(yield* makeFolder, "keys.json")
      const results = yield* Effect.forEach(
        Array.from({ length: 4 }, (_, n) => `client-${n}`),
        (name) => keys("create", "--name", name, "--scopes", "read", "--file", file),
        { concurrency: "unbounded" }
      )
      const printed = results.filter(({ code }) => code === 0).map(({ stdout }) => toHash(digestOf(stdout.trim())))
      assert.isNotEmpty(printed)
      assert.sameMembers(
        (yield* readFileList(file)).map(({ hash }) => hash),
        printed
      )
      for (const { code, stderr, stdout } of results) {
        if (code === 0) continue
        assert.deepStrictEqual([code, stdout], [1, ""])
        assert.match(stderr, /^kickoff: .*keys\.json: somebody else is adding a key at this moment.*\n$/)
      }
    }).pipe(Effect.scoped)
  )

  it.live("create --file follows a link and leaves it one", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      const [file, link] = [join(folder, "real.json"), join(folder, "link.json")]
      writeFileSync(file, "[]")
      symlinkSync(file, link)
      assert.strictEqual((yield* keys("create", "--name", "a", "--scopes", "read", "--file", link)).code, 0)
      assert.isTrue(lstatSync(link).isSymbolicLink())
      assert.lengthOf(yield* readFileList(file), 1)
    }).pipe(Effect.scoped)
  )

  it.live(
    "create --file changes nothing, and prints no key, when the file is not a list or the list would be none",
    () =>
      Effect.gen(function* () {
        const folder = yield* makeFolder
        const file = join(folder, "keys.json")
        const created = yield* keys("create", "--name", "a", "--scopes", "read", "--file", file)
        assert.strictEqual(created.code, 0)
        for (const [text, args] of [
          ["{}", ["--name", "b", "--scopes", "read"]],
          [readFileSync(file, "utf8"), ["--name", "a", "--scopes", "write"]]
        ] as const) {
          writeFileSync(file, text)
          const { code, stderr, stdout } = yield* keys("create", ...args, "--file", file)
          assert.deepStrictEqual([code, stdout], [1, ""])
          assert.match(stderr, /^kickoff: .*keys\.json: Expected .*\n$/)
          assert.strictEqual(readFileSync(file, "utf8"), text)
          assert.isFalse(existsSync(`${file}.new`))
        }
        const nowhere = yield* keys("create", "--name", "a", "--scopes", "read", "--file", join(folder, "no/keys.json"))
        assert.deepStrictEqual([nowhere.code, nowhere.stdout], [1, ""])
      }).pipe(Effect.scoped)
  )

  it.live.each([
    [["create"], "--name"],
    [["create", "--name", "bot"], "--scopes"],
    [["create", "--name", "two words", "--scopes", "read"], "--name"],
    [["create", "--name", "bot", "--scopes", "admin"], "--scopes"],
    [["create", "--name", "bot", "--scopes", ""], "--scopes"],
    [["create", "--name", "bot", "--scopes", "read,read"], "--scopes"],
    [["create", "--name", "bot", "--scopes", "read", "--guilds", ""], "--guilds"],
    [["create", "--name", "bot", "--scopes", "read", "--guilds", "a,,b"], "--guilds"],
    [["list"], "--file"],
    [["list", "--file", "/no/keys.json"], "--file"]
  ] as const)("bad arguments end with exit code 2 and one line that names them: %j", ([args, named]) =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* keys(...args)
      assert.deepStrictEqual([code, stdout], [2, ""])
      assert.match(stderr, /^kickoff: [^\n]*\n$/)
      assert.include(stderr, named)
    })
  )

  it.live("list shows the keys of a file, or of the settings, by a part of their hashes", () =>
    Effect.gen(function* () {
      const file = join(yield* makeFolder, "keys.json")
      const hash = toHash(digestOf(makeKey()))
      writeFileSync(file, JSON.stringify([{ name: "bot", hash, scopes: ["read", "write"], guilds: ["a\u001b[2J"] }]))
      const table = `NAME  SCOPES      GUILDS  HASH\nbot   read,write  a [2J   ${hash.slice(0, 19)}\n`
      assert.deepInclude(yield* keys("list", "--file", file), { code: 0, stdout: table, stderr: "" })
      for (const env of [{ KICKOFF_API_KEYS_FILE: file }, { KICKOFF_API_KEYS: readFileSync(file, "utf8") }]) {
        assert.deepInclude(yield* runProgram({ args: ["keys", "list"], env }), { code: 0, stdout: table })
      }
      const json = yield* keys("list", "--file", file, "--json")
      assert.deepStrictEqual(JSON.parse(json.stdout), { keys: JSON.parse(readFileSync(file, "utf8")) })
    }).pipe(Effect.scoped)
  )
})
