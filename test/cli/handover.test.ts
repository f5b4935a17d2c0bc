import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { isTooOld, pinnedNode } from "../../src/cli/handover.ts"
import { freePort, mainFile, runProgram, startProgram } from "../support/service.ts"

/** Makes Node.js believe, until it hands over, that it is as old as the oldest that npm may run us on. */
const asNode20 = `--import=data:text/javascript,${encodeURIComponent(
  `process.env.KICKOFF_HANDED_OVER ?? Object.defineProperty(process.versions, "node", { value: "20.11.1" })`
)}`

/** A folder with the built program, and beside it perhaps a Node.js of its own. */
const installation = (withNode: boolean) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const root = realpathSync(mkdtempSync(join(tmpdir(), "kickoff-handover-")))
      cpSync(dirname(mainFile), join(root, "dist"), { recursive: true, filter: (file) => !file.endsWith(".map") })
      writeFileSync(join(root, "package.json"), `{"type":"module"}`)
      if (withNode) {
        mkdirSync(join(root, "node_modules/node/bin"), { recursive: true })
        writeFileSync(join(root, "node_modules/node/bin/node"), `#!/bin/sh\nexec "${process.execPath}" "$@"\n`, {
          mode: 0o755
        })
      }
      return { root, main: join(root, "dist/main.js") }
    }),
    ({ root }) => Effect.sync(() => rmSync(root, { recursive: true, force: true }))
  )

const old = { NODE_OPTIONS: asNode20 }

describe.concurrent("a Node.js that is too old", { timeout: 30_000 }, () => {
  it.each([
    ["20.20.2", true],
    ["22.18.0", true],
    ["22.19.0", false],
    ["24.0.0", false]
  ])("is one before 22.19: %s", (version, tooOld) => {
    assert.strictEqual(isTooOld(version), tooOld)
  })

  it("is not replaced by itself", () => {
    const root = mkdtempSync(join(tmpdir(), "kickoff-handover-"))
    mkdirSync(join(root, "node_modules/node/bin"), { recursive: true })
    symlinkSync(process.execPath, join(root, "node_modules/node/bin/node"))
    assert.isUndefined(pinnedNode(root))
    rmSync(root, { recursive: true })
  })

  it.live("says in one line what is needed, with exit code 2, when no other is installed", () =>
    Effect.gen(function* () {
      const { main } = yield* installation(false)
      const { code, stdout, stderr } = yield* runProgram({ main, args: ["--version"], env: old })
      assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
      assert.match(stderr, /^kickoff: Node\.js 22\.19\.0 or newer is needed, this is 20\.11\.1; [^\n]*\n$/)
    })
  )

  it.live("hands over to the one beside the program, with arguments, streams and exit code", () =>
    Effect.gen(function* () {
      const { main } = yield* installation(true)
      const version = yield* runProgram({ main, args: ["--version"], env: old })
      assert.deepInclude(version, { code: 0, stderr: "" })
      assert.match(version.stdout, /kickoff/)
      const bad = yield* runProgram({ main, args: ["--roles", "cook"], env: old })
      assert.deepInclude(bad, { code: 2, stdout: "" })
      assert.match(bad.stderr, /^kickoff: --roles: [^\n]*\n$/)
    })
  )

  it.live.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("passes %s on", (signal) =>
    Effect.gen(function* () {
      const { main } = yield* installation(true)
      const program = yield* startProgram({
        main,
        env: { ...old, DATABASE_URL: `postgres://kickoff@127.0.0.1:${yield* freePort}/kickoff` }
      })
      yield* program.output(/is not reachable yet/)
      yield* program.kill(signal)
      const { code } = yield* program.ended
      assert.strictEqual(code, 0)
      assert.include(program.stdout(), "Stopped")
    })
  )

  it.live("leaves nothing running when it is killed", () =>
    Effect.gen(function* () {
      const { main } = yield* installation(true)
      const program = yield* startProgram({
        main,
        env: { ...old, DATABASE_URL: `postgres://kickoff@127.0.0.1:${yield* freePort}/kickoff` }
      })
      yield* program.output(/is not reachable yet/)
      yield* program.kill("SIGKILL")
      // The streams are shared: they close when the last process that holds them is gone.
      const { signal } = yield* program.ended
      assert.strictEqual(signal, "SIGKILL")
      assert.notInclude(program.stdout(), "Stop")
    })
  )
})
