/** Everything in the repository that is written from the code: each file with what should be in it. */
import { runtimeConfig } from "./runtimeConfig.ts"

export interface Page {
  /** From the repository's root. */
  readonly file: string
  readonly content: string
}

export const pages = (): ReadonlyArray<Page> => [{ file: "docs/RUNTIME_CONFIG.md", content: runtimeConfig() }]
