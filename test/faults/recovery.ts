/** How long after a fault the work was behind, from what the consumer received. */
import type { Receipt } from "./Tally.ts"

/** Later than this counts as late, ms. */
const late = 250
/** Lateness that begins within this time of the end of the fault, or of earlier lateness, is its consequence, ms. */
const aftermath = 1000

export interface Recovery {
  /** From the end of the fault until nothing that had fallen due was missing any more, ms. */
  readonly recovery: number
  /** The latest receipt after its due time, ms. */
  readonly lateness: number
  /** Transitions and reminders that fell due from the beginning of the fault to the recovery. */
  readonly transitions: number
}

export const measure = (receipts: ReadonlyArray<Receipt>, began: number, over: number): Recovery => {
  const byDue = receipts.filter(({ due }) => due >= began - aftermath).toSorted((a, b) => a.due - b.due)
  let recovered = over
  for (const { at, due } of byDue) {
    if (due > recovered + aftermath) break
    if (at - due > late) recovered = Math.max(recovered, at)
  }
  const concerned = byDue.filter(({ due }) => due <= recovered + aftermath)
  return {
    recovery: recovered - over,
    lateness: concerned.reduce((most, { at, due }) => Math.max(most, at - due), 0),
    transitions: concerned.filter(({ at, due }) => at >= began && due <= recovered).length
  }
}
