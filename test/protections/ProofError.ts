import { Schema } from "effect"

/** The proof itself could not be made: nothing was learned of the product. */
export class ProofError extends Schema.TaggedError<ProofError>()("ProofError", { detail: Schema.String }) {
  override get message() {
    return this.detail
  }
}
