import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber } from "effect"
import { runDaemons } from "../../src/cli/daemons.ts"
import { describeExit } from "../../src/cli/run.ts"

/** How a daemon may end that never should. */
const ends: ReadonlyArray<readonly [how: string, Effect.Effect<never>, reason: string]> = [
  ["dies of a defect", Effect.die(new Error("sabotage")), "sabotage"],
  [
    "throws",
    Effect.sync((): never => {
      throw new Error("sabotage")
    }),
    "sabotage"
  ],
  // The types rule these out, a cast or a mistake in a library does not ask them.
  ["fails", Effect.fail(new Error("sabotage")) as Effect.Effect<never>, "sabotage"],
  ["returns", Effect.void as Effect.Effect<never>, "has ended"],
  ["interrupts itself", Effect.interrupt, "interrupt"]
]

describe("the daemons", () => {
  it.effect.each(ends)("end together, with exit code 1 and a reason that names the one that %s", ([, end, reason]) =>
    Effect.gen(function* () {
      const stopped = yield* Deferred.make<void>()
      const other = Effect.onInterrupt(Effect.never, () => Deferred.succeed(stopped, undefined))
      const exit = yield* Effect.exit(
        runDaemons({ listener: other, "outbox relay": Effect.andThen(Effect.yieldNow, end), retention: Effect.never })
      )
      assert.isTrue(Exit.isFailure(exit))
      const { code, line } = describeExit(exit)
      assert.strictEqual(code, 1)
      assert.include(line, reason)
      // A failure says for itself what it is about; of a defect that must be said.
      if (!Exit.hasFails(exit)) assert.include(line, "The outbox relay has ended, which it never should")
      // The others were stopped as by a signal.
      yield* Deferred.await(stopped)
    })
  )

  it("tell of a defect without what could steer a terminal", () => {
    const { line = "" } = describeExit(Exit.die(new Error("a\u001b[31mb\u202e\nc")))
    assert.match(line, /^a defect, please report it: Error: a \[31mb \nc/)
  })

  it.effect("run on while none of them ends, and stop as one when the process is to stop", () =>
    Effect.gen(function* () {
      const running = yield* Effect.forkChild(runDaemons({ listener: Effect.never, retention: Effect.never }))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(running)
      const exit = yield* Fiber.await(running)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.deepStrictEqual(describeExit(exit), { code: 0 })
    })
  )
})
