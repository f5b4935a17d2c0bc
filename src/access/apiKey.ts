/**
 * API keys: how they look, and the list in which their hashes stand.
 *
 * A key is 256 random bits, so a plain SHA-256 of it is safe to keep: there is nothing to guess, and a slow hash, which
 * protects what people choose, would only make every request slow. Text of a list is never shown in a message, because it
 * may hold a key that somebody has put there by mistake.
 */
import { Effect, Result, Schema, SchemaIssue } from "effect"
import { hash, randomBytes } from "node:crypto"

/** What a key may be used for: `GET` of games, their planning and changing, and what an operator does. */
export const scopes = ["read", "write", "operate"] as const
export type Scope = (typeof scopes)[number]

const form = /^kickoff_[\w-]{43}$/

/** A new key. */
export const makeKey = (): string => `kickoff_${randomBytes(32).toString("base64url")}`

/** Whether a text has the form of a key at all. */
export const isKey = (text: string): boolean => form.test(text)

/** The digest of a key, 32 bytes. */
export const digestOf = (key: string): Buffer => hash("sha256", key, "buffer")

/** How a digest stands in a list. */
export const toHash = (digest: Buffer): string => `sha256:${digest.toString("hex")}`

/** The digest in a list's `hash`. */
export const fromHash = (text: string): Buffer => Buffer.from(text.slice("sha256:".length), "hex")

const expecting = (test: (text: string) => boolean, expected: string) =>
  Schema.String.pipe(
    Schema.check(Schema.makeFilter((text: string) => (test(text) ? undefined : `Expected ${expected}`)))
  )

/** Who uses a key; short, and without what could be mistaken in a log, a table or a database's text. */
export const KeyName = expecting(
  (name) => /^[A-Za-z0-9][\w.-]{0,63}$/.test(name),
  "1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first"
)

const distinct = (items: ReadonlyArray<unknown>) =>
  new Set(items).size === items.length ? undefined : "Expected each only once"

export const Scopes = Schema.Array(Schema.Literals(scopes)).pipe(
  Schema.check(Schema.isMinLength(1), Schema.makeFilter(distinct))
)

export const KeyGuilds = Schema.Array(
  expecting((id) => id.length >= 1 && id.length <= 200 && !id.includes("\0"), "1 to 200 characters")
).pipe(Schema.check(Schema.isMinLength(1), Schema.makeFilter(distinct)))

/** One key of a list. Without `guilds` it is good for all of them. */
export const ApiKey = Schema.Struct({
  name: KeyName,
  hash: expecting((text) => /^sha256:[0-9a-f]{64}$/.test(text), "sha256: and 64 hexadecimal digits"),
  scopes: Scopes,
  guilds: Schema.optionalKey(KeyGuilds)
})
export type ApiKey = typeof ApiKey.Type

/** Several keys may have one name, as while a client changes from one to the next; it is one client all the same. */
const isSameClient = (left: ApiKey, right: ApiKey): boolean =>
  sameSet(left.scopes, right.scopes) &&
  (left.guilds === undefined || right.guilds === undefined
    ? left.guilds === right.guilds
    : sameSet(left.guilds, right.guilds))

const sameSet = (left: ReadonlyArray<string>, right: ReadonlyArray<string>): boolean =>
  left.length === right.length && left.every((each) => right.includes(each))

const ApiKeyList = Schema.Array(ApiKey).pipe(
  Schema.check(
    Schema.makeFilter((keys: ReadonlyArray<ApiKey>) => {
      if (new Set(keys.map(({ hash }) => hash)).size < keys.length) return "Expected each hash only once"
      const torn = keys.find((key) => keys.some((other) => other.name === key.name && !isSameClient(key, other)))
      return torn === undefined
        ? undefined
        : `Expected the same scopes and guilds in all keys with the name ${JSON.stringify(torn.name)}`
    })
  )
)

/** A list cannot be used. */
export class ListUnusable extends Schema.TaggedError<ListUnusable>()("ListUnusable", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}

const decode = Schema.decodeUnknownEffect(ApiKeyList, { onExcessProperty: "error" })

/** Says of a value that is wrong where it stands and what is expected, and not what it is. */
const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) =>
    issue._tag === "UnexpectedKey"
      ? "This member does not exist"
      : issue._tag === "MissingKey"
        ? "This member is required"
        : issue._tag === "InvalidType"
          ? "Expected a value of another type"
          : SchemaIssue.defaultLeafHook(issue)
})

/** Reads a list: a JSON array. An unknown member is refused, lest a misspelled `guilds` opens all of them. */
export const readList = Effect.fnUntraced(function* (text: string) {
  const json = Result.try((): unknown => JSON.parse(text))
  if (Result.isFailure(json)) return yield* new ListUnusable({ detail: "Expected a JSON array of API keys" })
  return yield* Effect.mapError(decode(json.success), ({ issue }) => {
    const [first] = formatIssue(issue).issues
    const path = (first?.path ?? []).map((part) => `[${String(typeof part === "object" ? part.key : part)}]`).join("")
    return new ListUnusable({ detail: `${path === "" ? "" : `${path}: `}${first?.message ?? "Expected API keys"}` })
  })
})

/** A list as it stands in a file. */
export const writeList = (keys: ReadonlyArray<ApiKey>): string =>
  `[\n${keys.map((key) => `  ${JSON.stringify(key)}`).join(",\n")}\n]\n`
