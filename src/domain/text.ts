/** Text that clients say, with bounds that PostgreSQL and everybody who shows it can live with. */
import { Schema } from "effect"

/** So many characters, and nothing that PostgreSQL's text cannot hold or would change. */
export const text = (options: { readonly min?: number; readonly max: number }) =>
  Schema.String.pipe(
    Schema.check(
      Schema.isMinCodePoints(options.min ?? 0),
      Schema.isMaxCodePoints(options.max),
      Schema.makeFilter(
        (value: string) => (value.includes("\0") ? "Expected text without NUL characters" : undefined),
        { toJsonSchema: () => ({ pattern: "^[^\\u0000]*$" }) }
      ),
      Schema.makeFilter((value: string) => (value.isWellFormed() ? undefined : "Expected well-formed Unicode text"))
    )
  )
