/**
 * What must never be shown, wherever it was put: API keys.
 *
 * A client that sends its key in a wrong place, as in a query, must not find it in our logs and traces.
 */

/** What looks like an API key. */
const anyKey = /\bkickoff_[\w-]{43}(?![\w-])/g

/** The text with every API key in it made unreadable. */
export const hideKeys = (text: string): string =>
  text.includes("kickoff_") ? text.replaceAll(anyKey, "kickoff_…") : text
