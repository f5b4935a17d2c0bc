/**
 * The API keys that are good at the moment.
 *
 * A file is looked at every two seconds, so a key that is taken out of it is of no use soon after, without a restart. A
 * file that cannot be read any more changes nothing: neither is everybody let in, nor everybody locked out.
 */
import { Context, Duration, Effect, Layer, Option, Redacted, Schema } from "effect"
import { timingSafeEqual } from "node:crypto"
import { readFile } from "node:fs/promises"
import { Caller } from "../domain/Caller.ts"
import { Settings, settings } from "../Settings.ts"
import { type ApiKey, digestOf, fromHash, isKey, ListUnusable, readList, type Scope } from "./apiKey.ts"

/** How often the file is looked at. */
const lookEvery = Duration.seconds(2)

/** The keys of the settings cannot be used. */
export class ApiKeysUnusable extends Schema.TaggedError<ApiKeysUnusable>()("ApiKeysUnusable", {
  variable: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.variable}: ${this.detail}`
  }
}

/** What a key is good for. */
export interface Identity {
  readonly caller: Caller["Service"]
  readonly scopes: ReadonlySet<Scope>
}

interface Entry {
  readonly digest: Buffer
  readonly identity: Identity
}

/** Entries by the first four bytes of their digests, which says nothing of a key: nobody can choose them. */
type Index = ReadonlyMap<number, ReadonlyArray<Entry>>

export class ApiKeys extends Context.Service<
  ApiKeys,
  {
    /** Whether anybody needs a key. */
    readonly required: boolean
    /** Whose key this is; none if it is nobody's. Takes the same time whatever a wrong key has in common with a good one. */
    readonly find: (key: string) => Identity | undefined
    /** Follows the file; a daemon that its owner runs. */
    readonly run: Effect.Effect<never>
  }
>()("kickoff/access/ApiKeys") {
  /** The keys of `KICKOFF_API_KEYS_FILE` or `KICKOFF_API_KEYS`; if there is neither, none are needed. */
  static readonly layer = Layer.effect(
    ApiKeys,
    Effect.gen(function* () {
      const { apiKeys, apiKeysFile } = yield* Settings
      if (Option.isSome(apiKeys) && Option.isSome(apiKeysFile)) {
        return yield* new ApiKeysUnusable({
          variable: settings.apiKeys.name,
          detail: `Expected either this or ${settings.apiKeysFile.name}`
        })
      }
      const unusable = (variable: string, where = "") =>
        Effect.mapError(({ detail }: ListUnusable) => new ApiKeysUnusable({ variable, detail: `${where}${detail}` }))
      if (Option.isSome(apiKeysFile)) {
        const file = apiKeysFile.value
        return yield* unusable(settings.apiKeysFile.name, `${file}: `)(follow(file))
      }
      if (Option.isNone(apiKeys)) return noKeys
      const list = yield* unusable(settings.apiKeys.name)(readList(Redacted.value(apiKeys.value)))
      return ApiKeys.of({ required: true, find: finder(toIndex(list)), run: Effect.never })
    })
  )

  /** No keys are needed: for a process without the API, and for tests. */
  static readonly layerNone = Layer.sync(ApiKeys, () => noKeys)

  /** These keys, for tests. */
  static readonly layerOf = (keys: ReadonlyArray<ApiKey>) =>
    Layer.succeed(ApiKeys, ApiKeys.of({ required: true, find: finder(toIndex(keys)), run: Effect.never }))
}

const noKeys: ApiKeys["Service"] = { required: false, find: () => undefined, run: Effect.never }

const follow = Effect.fnUntraced(function* (file: string) {
  let text = yield* readKeysFile(file)
  let find = finder(toIndex(yield* readList(text)))
  let complaint = ""

  const look = Effect.gen(function* () {
    const current = yield* readKeysFile(file)
    if (current === text) return
    const list = yield* readList(current)
    find = finder(toIndex(list))
    text = current
    yield* Effect.logInfo(`The API keys have changed, ${list.length} are good now: ${file}`)
  }).pipe(
    Effect.andThen(Effect.sync(() => (complaint = ""))),
    Effect.catchTag("ListUnusable", ({ detail }) => {
      if (detail === complaint) return Effect.void
      complaint = detail
      return Effect.logError(`The API keys of before stay good, their file cannot be used: ${file}: ${detail}`)
    })
  )
  return ApiKeys.of({
    required: true,
    find: (key) => find(key),
    run: Effect.forever(Effect.andThen(Effect.sleep(lookEvery), look))
  })
})

/** The text of a file of keys. */
export const readKeysFile = (file: string): Effect.Effect<string, ListUnusable> =>
  Effect.tryPromise({
    try: (signal) => readFile(file, { encoding: "utf8", signal }),
    catch: (error) =>
      new ListUnusable({
        detail: `cannot be read${error instanceof Error && "code" in error ? ` (${String(error.code)})` : ""}`
      })
  })

const toIndex = (keys: ReadonlyArray<ApiKey>): Index => {
  const index = new Map<number, Array<Entry>>()
  for (const { guilds, hash, name, scopes } of keys) {
    const digest = fromHash(hash)
    const identity = { caller: Caller.of({ name, guilds: guilds ?? "every" }), scopes: new Set(scopes) }
    const prefix = digest.readUInt32BE()
    index.set(prefix, [...(index.get(prefix) ?? []), { digest, identity }])
  }
  return index
}

const finder =
  (index: Index) =>
  (key: string): Identity | undefined => {
    if (!isKey(key)) return undefined
    const digest = digestOf(key)
    return index.get(digest.readUInt32BE())?.find((entry) => timingSafeEqual(entry.digest, digest))?.identity
  }
