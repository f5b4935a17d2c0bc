/**
 * Headers that every answer carries, and limits that every connection has, whatever is served.
 *
 * The headers tell browsers to make nothing of an answer but what it says it is, to keep no copy, and to show it in no
 * frame and to no other site; `/docs`, the one page that is there to be seen, replaces two of them.
 */

export const guardHeaders: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff"
}

/** How long a client may take, in ms, and how many may be connected. */
export interface ConnectionLimits {
  /** For the head of a request, from the connection or the end of the request before. */
  readonly head: number
  /** For a whole request, which has 64 KiB at most. */
  readonly request: number
  /** Between two requests. */
  readonly keepAlive: number
  /** Without sending or taking anything, as when it does not read its answer. */
  readonly idle: number
  /** For the answer, from the head of the request. */
  readonly answer: number
  /** Connections at once; more are closed as they come. */
  readonly connections: number
}

export const connectionLimits: ConnectionLimits = {
  head: 10_000,
  request: 20_000,
  keepAlive: 5_000,
  idle: 60_000,
  answer: 30_000,
  connections: 5_000
}
