/** Why a benchmark could not be run to its end; a figure that is merely bad is no error. */
import { Schema } from "effect"

export class BenchError extends Schema.TaggedError<BenchError>()("BenchError", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}
