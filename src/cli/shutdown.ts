/**
 * Bounds a stop: the first signal starts a timer that ends the process if its own end takes too long.
 *
 * Further signals change nothing, because a terminal's Ctrl-C reaches the process twice when npm passes it on as well.
 * A closed terminal (SIGHUP) is a signal to stop like the others, so that no embedded database is left behind.
 */
import { Duration, Effect, type Scope } from "effect"

const stopSignals = ["SIGTERM", "SIGINT"] as const

const passHangup = () => process.emit("SIGTERM", "SIGTERM")

/** Says that the process stops, and ends it with code 1 if it is still there after `grace`. */
export const boundShutdown = (grace: Duration.Duration): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context()
    const log = Effect.runSyncWith(context)
    let stopping = false
    const onSignal = (signal: NodeJS.Signals) => {
      if (stopping) return
      stopping = true
      log(Effect.logInfo(`Stopping on ${signal}`))
      setTimeout(() => {
        log(Effect.logError(`Not stopped within ${Duration.format(grace)}: the process ends now`))
        process.exit(1)
      }, Duration.toMillis(grace)).unref()
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        // First in line: the interruption that the same signal brings may end the process before the next listener.
        for (const signal of stopSignals) process.prependListener(signal, onSignal)
        process.on("SIGHUP", passHangup)
      }),
      () =>
        Effect.sync(() => {
          for (const signal of stopSignals) process.off(signal, onSignal)
          process.off("SIGHUP", passHangup)
        })
    )
  })
