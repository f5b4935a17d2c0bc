/** What a connection that failed has to say, as a person may read it. */

/** Refused on every address of a name, an error has no message of its own. */
export const describeError = (error: Error): string =>
  error instanceof AggregateError && error.message === ""
    ? error.errors.map((each) => (each instanceof Error ? describeError(each) : String(each))).join(", ")
    : error.message
