/**
 * A protection against pitfalls of `docs/reliability.md`, as data: how it is taken out, and which tests fail then.
 *
 * A change names the exact text that it replaces, so that code which has moved on is noticed instead of passed over.
 */

/** Replaces a text that stands exactly once in a file. */
export interface Change {
  /** From the root of the project. */
  readonly file: string
  readonly find: string
  readonly put: string
}

/** Titles of tests by file. `suite > title` where the title alone is not enough; every test that fits must fail. */
export type Tests = Readonly<Record<string, ReadonlyArray<string>>>

export interface Protection {
  /** Numbers of the page's table. */
  readonly pitfalls: ReadonlyArray<number>
  /** What holds while the protection is there. */
  readonly name: string
  readonly takenOut: ReadonlyArray<Change>
  readonly caughtBy: Tests
}

/** The text with the change, or why it cannot be made. */
export const applyChange = (text: string, { file, find, put }: Change): string | { readonly objection: string } => {
  const parts = text.split(find)
  if (parts.length === 2) return parts.join(put)
  const times = parts.length - 1
  return { objection: `${file} has ${times === 0 ? "no" : times} "${find.trim().split("\n")[0]}", expected one` }
}
