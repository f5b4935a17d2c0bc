/**
 * `kickoff keys`: makes API keys and lists them.
 *
 * A key is shown once, by `create` on standard output; what is kept of it is its hash, from which it cannot be had again.
 */
import { Config, Effect, Option, Redacted, Schema, SchemaTransformation } from "effect"
import { Command, Flag } from "effect/cli"
import {
  type ApiKey,
  digestOf,
  KeyGuilds,
  KeyName,
  makeKey,
  readList,
  Scopes,
  scopes,
  toHash
} from "../access/apiKey.ts"
import { readKeysFile } from "../access/ApiKeys.ts"
import { addKey } from "../access/keyFile.ts"
import { settings } from "../Settings.ts"
import { BadArgument } from "./failures.ts"
import { json, printJson } from "./json.ts"
import { plain, print, toTable } from "./terminal.ts"

const fileFlag = Flag.String("file").pipe(Flag.withMetavar("path"), Flag.optional)

const commaSeparated = <A>(list: Schema.Codec<ReadonlyArray<A>, ReadonlyArray<string>>) =>
  Schema.String.pipe(
    Schema.decodeTo(
      list,
      SchemaTransformation.transform({
        decode: (text): ReadonlyArray<string> => text.split(",").map((part) => part.trim()),
        encode: (parts: ReadonlyArray<string>) => parts.join(",")
      })
    )
  )

const create = Command.make(
  "create",
  {
    name: Flag.String("name").pipe(
      Flag.withSchema(KeyName),
      Flag.withDescription("Who uses the key: in the record of dead letters, and the same for all keys of one client")
    ),
    scopes: Flag.String("scopes").pipe(
      Flag.withSchema(commaSeparated(Scopes)),
      Flag.withMetavar("list"),
      Flag.withDescription(`What it is good for: a comma-separated list of ${scopes.join(", ")}`)
    ),
    guilds: Flag.String("guilds").pipe(
      Flag.withSchema(commaSeparated(KeyGuilds)),
      Flag.withMetavar("list"),
      Flag.withDescription("The guilds it is limited to, comma-separated; all of them unless given"),
      Flag.optional
    ),
    file: fileFlag.pipe(Flag.withDescription("Add the key's hash to this file, the one of KICKOFF_API_KEYS_FILE")),
    json
  },
  Effect.fnUntraced(function* ({ file, guilds, json, name, scopes }) {
    const key = makeKey()
    const entry: ApiKey = {
      name,
      hash: toHash(digestOf(key)),
      scopes,
      ...Option.match(guilds, { onNone: () => ({}), onSome: (guilds) => ({ guilds }) })
    }
    if (Option.isSome(file)) yield* addKey(file.value, entry)
    if (json) {
      yield* printJson({ key, entry, file: Option.getOrNull(file) })
      return
    }
    yield* print(key)
    if (Option.isNone(file)) yield* print(JSON.stringify(entry))
    yield* Effect.sync(() =>
      process.stderr.write(
        Option.isSome(file)
          ? `This key is shown only now. Its hash is in ${file.value}, which a running service reads again by itself.\n`
          : "The first line is the key, shown only now; the second goes into the list of KICKOFF_API_KEYS_FILE.\n"
      )
    )
  })
).pipe(Command.withDescription("Make an API key: prints it once, and what to keep of it"))

/** The list of the flag's file, or else of the settings. */
const readConfigured = Effect.fnUntraced(function* (file: Option.Option<string>) {
  const inFile = (name: string, path: string) =>
    readKeysFile(path).pipe(
      Effect.flatMap(readList),
      Effect.mapError(({ detail }) => new BadArgument({ name, detail: `${path}: ${detail}` }))
    )
  if (Option.isSome(file)) return yield* inFile("--file", file.value)
  const { apiKeys, apiKeysFile } = yield* Config.all({
    apiKeys: settings.apiKeys.config,
    apiKeysFile: settings.apiKeysFile.config
  })
  if (Option.isSome(apiKeysFile)) return yield* inFile(settings.apiKeysFile.name, apiKeysFile.value)
  if (Option.isSome(apiKeys)) {
    return yield* Effect.mapError(
      readList(Redacted.value(apiKeys.value)),
      ({ detail }) => new BadArgument({ name: settings.apiKeys.name, detail })
    )
  }
  return yield* new BadArgument({
    name: "--file",
    detail: `Expected a file with keys, or ${settings.apiKeysFile.name}`
  })
})

const toRow = ({ guilds, hash, name, scopes }: ApiKey): ReadonlyArray<string> => [
  name,
  scopes.join(","),
  guilds === undefined ? "all" : plain(guilds.join(",")),
  // Enough to tell one from another.
  hash.slice(0, "sha256:".length + 12)
]

const list = Command.make(
  "list",
  {
    file: fileFlag.pipe(Flag.withDescription("The file with the keys; that of the service's settings unless given")),
    json
  },
  Effect.fnUntraced(function* ({ file, json }) {
    const keys = yield* readConfigured(file)
    yield* json
      ? printJson({ keys })
      : print(keys.length === 0 ? "No API keys" : toTable([["NAME", "SCOPES", "GUILDS", "HASH"], ...keys.map(toRow)]))
  })
).pipe(Command.withDescription("List API keys, which the list holds as hashes"))

export const keys = Command.make("keys").pipe(
  Command.withDescription("Make and list the API keys of clients"),
  Command.withSubcommands([create, list])
)
