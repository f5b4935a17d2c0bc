/** Colours and other sequences for terminals: on a terminal, and nowhere else. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { mainFile, runProgram } from "../support/service.ts"
import { runOnTerminal } from "../support/terminal.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const escape = "\u001B["

const commands: ReadonlyArray<ReadonlyArray<string>> = [["doctor"], ["status"], ["--help"], ["pause", "--help"]]

const environment = Effect.map(TestDatabase, ({ url }) => ({ DATABASE_URL: Redacted.value(url) }))

const onTerminal = Effect.fnUntraced(function* (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
) {
  const { stdout } = yield* runOnTerminal([process.execPath, mainFile, ...args], {
    ...(yield* environment),
    ...env
  })
  assert.notStrictEqual(stdout, "")
  return stdout
})

describe("colours", () => {
  it.live("are there on a terminal", () =>
    Effect.gen(function* () {
      for (const args of commands) assert.include(yield* onTerminal(args), escape, args.join(" "))
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("are not there where NO_COLOR asks for none, nor on a terminal that has none", () =>
    Effect.gen(function* () {
      for (const args of commands) {
        for (const env of [{ NO_COLOR: "1" }, { NO_COLOR: "1", FORCE_COLOR: "1" }, { TERM: "dumb" }]) {
          assert.notInclude(yield* onTerminal(args, env), escape, `${args.join(" ")} ${JSON.stringify(env)}`)
        }
      }
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("are not there in a pipe, whatever FORCE_COLOR says", () =>
    Effect.gen(function* () {
      const env = { ...(yield* environment), NO_COLOR: "", FORCE_COLOR: "1", TERM: "xterm-256color" }
      for (const args of commands) {
        const { stderr, stdout } = yield* runProgram({ args, env })
        assert.notStrictEqual(stdout, "")
        assert.notInclude(`${stdout}${stderr}`, escape, args.join(" "))
      }
    }).pipe(Effect.provide(TestDatabase.layer))
  )

  it.live("never get into JSON, on a terminal either", () =>
    Effect.gen(function* () {
      for (const command of ["doctor", "status"]) {
        assert.notInclude(yield* onTerminal([command, "--json"]), escape, command)
      }
    }).pipe(Effect.provide(TestDatabase.layer))
  )
})
