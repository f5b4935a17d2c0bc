/** `--json` of every command, found in the definitions, so that a new one cannot be forgotten. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"
import { Completions } from "effect/cli"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { loadFor } from "../../src/cli/commands.ts"
import { freePort, runProgram, startService } from "../support/service.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** Every command that does something, with its flags. */
const leaves = (
  command: Completions.CommandDescriptor,
  path: ReadonlyArray<string> = []
): ReadonlyArray<{ readonly path: string; readonly flags: ReadonlyArray<string> }> =>
  command.subcommands.length === 0
    ? [{ path: path.join(" "), flags: command.flags.map(({ name }) => name) }]
    : command.subcommands.flatMap((each) => leaves(each, [...path, each.name]))

const commands = Effect.map(loadFor("--help"), (kickoff) => leaves(Completions.fromCommand(kickoff)))

interface Call {
  readonly args: ReadonlyArray<string>
  readonly code: number
}

/** How each of them is called so that it prints, and how it ends then; `serve` prints logs and is tried by itself. */
const callsOf = ({ keys, letters }: { readonly keys: string; readonly letters: ReadonlyArray<string> }) => {
  const [shown = "", replayed = "", discarded = ""] = letters
  const well = (...args: ReadonlyArray<string>): Call => ({ args, code: 0 })
  return {
    migrate: well(),
    // Nobody serves here.
    health: { args: [], code: 1 },
    doctor: { args: [], code: 1 },
    status: well(),
    verify: well("--since", "1 hour"),
    explain: well(randomUUID()),
    forecast: well("--hours", "2"),
    pause: well("all", "--reason", "a new bot"),
    resume: well("all"),
    "dead-letters list": well(),
    "dead-letters show": well(shown),
    "dead-letters replay": well(replayed),
    "dead-letters discard": well(discarded),
    backfill: well(),
    "shadow begin": well(),
    // Nothing was due yet.
    "shadow report": { args: [], code: 1 },
    "shadow end": well(),
    "keys create": well("--name", "bot", "--scopes", "read,write"),
    "keys list": well("--file", keys)
  } satisfies Readonly<Record<string, Call>>
}

const isObject = Schema.is(Schema.Record(Schema.String, Schema.Unknown))

/** Text that is one JSON object on one line. */
const readLine = (text: string, of: string): Readonly<Record<string, unknown>> => {
  const [line = "", ...rest] = text.split("\n")
  assert.deepStrictEqual(rest, [""], `${of} prints one line: ${text}`)
  const value: unknown = JSON.parse(line)
  if (!isObject(value)) throw new Error(`${of} prints no object: ${text}`)
  return value
}

describe("--json", () => {
  it.live("is a flag of every command", () =>
    Effect.gen(function* () {
      const found = yield* commands
      assert.isAbove(found.length, 15)
      for (const { flags, path } of found) assert.include(flags, "json", path)
    })
  )

  it.live(
    "makes every command print one JSON object and nothing else on standard output, with the same exit code",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { url } = yield* TestDatabase
        const folder = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "kickoff-json-"))),
          (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
        )
        const keys = join(folder, "keys.json")
        writeFileSync(keys, "[]")
        const letters = yield* sql<{ readonly id: string }>`
          INSERT INTO dead_letters (kind, source_id, game_id, error, message, attempts, payload)
          SELECT 'event', gen_random_uuid(), gen_random_uuid(), 'EventRefused', 'too large', 8, jsonb_build_object(
            'game_id', gen_random_uuid(), 'type', 'game.created', 'occurred_at', now(), 'data', '{}'::jsonb)
          FROM generate_series(1, 3)
          RETURNING id`
        const calls = new Map<string, Call>(Object.entries(callsOf({ keys, letters: letters.map(({ id }) => id) })))
        const found = yield* commands
        assert.sameMembers(
          found.map(({ path }) => path).filter((path) => path !== "serve"),
          [...calls.keys()]
        )
        const env = { DATABASE_URL: Redacted.value(url), HTTP_PORT: String(yield* freePort) }
        for (const [path, { args, code }] of calls) {
          const ended = yield* runProgram({ args: [...path.split(" "), ...args, "--json"], env })
          assert.strictEqual(ended.code, code, `${path}: ${ended.stderr}`)
          readLine(ended.stdout, path)
        }
      }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer)),
    120_000
  )

  it.live("makes the service log JSON, one object a line, whatever LOG_FORMAT says", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const service = yield* startService({
        args: ["--json", "--roles", "api"],
        env: { DATABASE_URL: Redacted.value(url), LOG_FORMAT: "pretty" }
      })
      assert.include(service.stdout(), "plays api")
      yield* service.stop
      const lines = service.stdout().split("\n").slice(0, -1)
      assert.isAtLeast(lines.length, 3)
      for (const line of lines) assert.isString(readLine(`${line}\n`, "serve")["message"])
      assert.strictEqual(service.stderr(), "")
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layer))
  )
})
