/** How long after a fault the work was behind, from what the consumer received. */
import { quantile } from "../../bench/statistics.ts"
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

/** Of a hundred receipts the latest, ms after it was due. */
export const usualLateness = (receipts: ReadonlyArray<Receipt>): number =>
  receipts.length === 0
    ? 0
    : quantile(
        receipts.map(({ at, due }) => at - due),
        0.99
      )

export const measure = (receipts: ReadonlyArray<Receipt>, began: number, over: number): Recovery => {
  const byDue = receipts.filter(({ due }) => due >= began - aftermath).toSorted((a, b) => a.due - b.due)
  let recovered = over
  for (const { at, due } of byDue) {
    if (due > recovered + aftermath) break
    if (at - due > late) recovered = Math.max(recovered, at)
  }
  return {
    recovery: recovered - over,
    lateness: byDue.reduce((most, { at, due }) => Math.max(most, at - due), 0),
    transitions: byDue.filter(({ at, due }) => at >= began && due <= recovered).length
  }
}
