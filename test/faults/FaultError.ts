/** The suite itself could not go on: a server or replica did what no fault had asked for. */
import { Schema } from "effect"

export class FaultError extends Schema.TaggedError<FaultError>()("FaultError", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}
