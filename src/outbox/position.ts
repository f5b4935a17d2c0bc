/**
 * Where a look at the outbox may begin, so that it need not pass what was there and is gone.
 *
 * "After the last one that was seen" would skip events: they are numbered when they are written and seen when they are
 * committed, in another order. What is safe is a number below which every event was written by a transaction that is
 * over: it is visible by then, or never will be.
 */

/** What one snapshot of the database says. */
export interface Sight {
  /** The number of the first event at or after the position; none if nothing is there. */
  readonly first: bigint | undefined
  /** Every transaction with a lower id is over. */
  readonly over: bigint
  /**
   * No transaction with this id or a higher one had begun to write. It must have been given after the snapshot was taken:
   * what PostgreSQL calls a snapshot's xmax comes after those that are over alone, and others above it may be writing.
   */
  readonly begun: bigint
}

export interface Position {
  /** No event with a lower number is there, or will be. */
  readonly from: bigint
  /** The next position, once all transactions are over whose id is lower. */
  readonly next: { readonly from: bigint; readonly over: bigint } | undefined
}

/** Before all events: of a bigint there is nothing lower. */
export const beginning: Position = { from: -(2n ** 63n), next: undefined }

const lower = (a: bigint, b: bigint): bigint => (a < b ? a : b)

/**
 * Moves a position on. Whoever writes an event has written something else before, so a lower number than one that is
 * seen belongs to a transaction whose id was given by then. `last` is the highest number that was seen before.
 */
export const moveOn = (position: Position, { begun, first, over }: Sight, last: bigint): Position => {
  const { from, next } = position
  const after = last + 1n
  const head = first ?? (after > from ? after : from)
  if (next === undefined) return { from, next: { from: head, over: begun } }
  return over < next.over ? position : { from: lower(next.from, head), next: { from: head, over: begun } }
}
