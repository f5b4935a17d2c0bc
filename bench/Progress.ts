/** Says on a terminal what is being done; says nothing where nobody watches. */
import { Context, Effect, Layer } from "effect"

export class Progress extends Context.Service<
  Progress,
  {
    /** Replaces the line that was said before. */
    readonly say: (text: string) => Effect.Effect<void>
  }
>()("kickoff/bench/Progress") {
  /** On standard error, so that the report alone goes to standard output. */
  static readonly layer = Layer.effect(
    Progress,
    Effect.gen(function* () {
      const { stderr } = process
      if (!stderr.isTTY) return Progress.of({ say: () => Effect.void })
      const say = (text: string) =>
        Effect.sync(() => {
          stderr.write(`\r\u001B[K${text.slice(0, Math.max(stderr.columns - 1, 10))}`)
        })
      yield* Effect.addFinalizer(() => say(""))
      return Progress.of({ say })
    })
  )
}
