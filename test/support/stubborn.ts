/** A program whose own end never comes: what `boundShutdown` is for. Its grace time is half a second. */
import { NodeRuntime } from "@effect/platform-node"
import { Duration, Effect } from "effect"
import { boundShutdown } from "../../src/cli/shutdown.ts"

Effect.gen(function* () {
  yield* boundShutdown(Duration.millis(500))
  yield* Effect.addFinalizer(() => Effect.never)
  yield* Effect.sync(() => process.stdout.write("running\n"))
  return yield* Effect.never
}).pipe(Effect.scoped, NodeRuntime.runMain)
