/** Says what is being done and since when: in one changing line on a terminal, else line by line. */
import { Clock, Context, Duration, Effect, Layer } from "effect"

export class Progress extends Context.Service<
  Progress,
  {
    /** On a terminal, replaces the line that was said before. */
    readonly say: (text: string) => Effect.Effect<void>
  }
>()("kickoff/bench/Progress") {
  /** On standard error, so that the report alone goes to standard output. */
  static readonly layer = Layer.effect(
    Progress,
    Effect.gen(function* () {
      const { stderr } = process
      const began = yield* Clock.monotonicTimeNanos
      const say = Effect.fnUntraced(function* (text: string) {
        const elapsed = Duration.toSeconds(Duration.nanos((yield* Clock.monotonicTimeNanos) - began))
        const line = text === "" ? "" : `${String(Math.round(elapsed)).padStart(5)} s  ${text}`
        if (stderr.isTTY) stderr.write(`\r\u001B[K${line.slice(0, Math.max(stderr.columns - 1, 10))}`)
        else if (line !== "") stderr.write(`${line}\n`)
      })
      yield* Effect.addFinalizer(() => say(""))
      return Progress.of({ say })
    })
  )
}
