import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { fileURLToPath } from "node:url"
import { startProgram } from "../support/service.ts"

const main = fileURLToPath(new URL("../support/stubborn.ts", import.meta.url))

describe("a stop that does not come to its end", { timeout: 30_000 }, () => {
  it.live("is cut after the grace time, with a message and exit code 1; further signals change nothing", () =>
    Effect.gen(function* () {
      const program = yield* startProgram({ main })
      yield* program.output(/running/)
      yield* program.kill("SIGTERM")
      yield* program.output(/Stopping on SIGTERM/)
      yield* program.kill("SIGTERM")
      yield* program.kill("SIGINT")
      const { code } = yield* program.ended
      assert.strictEqual(code, 1)
      assert.match(program.stdout(), /Not stopped within 500ms: the process ends now/)
      assert.strictEqual(program.stdout().match(/Stopping on/g)?.length, 1)
    })
  )
})
