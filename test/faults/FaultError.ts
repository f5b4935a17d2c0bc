/** The suite itself could not go on: a server or replica did what no fault had asked for. */
import { Effect, Schema } from "effect"

export class FaultError extends Schema.TaggedError<FaultError>()("FaultError", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}

/** Something that must work for the suite to go on; `what` says that it did not. */
export const attempt = <A>(what: string, act: () => Promise<A>): Effect.Effect<A, FaultError> =>
  Effect.tryPromise({
    try: act,
    catch: (error) => new FaultError({ detail: `${what}: ${error instanceof Error ? error.message : String(error)}` })
  })
