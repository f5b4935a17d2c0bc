/** How long after a fault the work was behind, from what the consumer received. */
import { quantile } from "../../bench/statistics.ts"
import type { Receipt } from "./Tally.ts"

/** What is missing for longer after it was due is behind, ms. */
const late = 250
/** What was due so long before a fault may have been in hand when it began, ms. */
const inHand = 1000

export interface Recovery {
  /**
   * From the end of the fault until nothing was missing that had fallen due more than 250 ms ago, ms; zero if that was
   * so all the time.
   */
  readonly recovery: number
  /** The latest receipt after its due time, ms, also after the recovery. */
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
  const byDue = receipts.filter(({ due }) => due >= began - inHand).toSorted((a, b) => a.due - b.due)
  // What was killed makes nothing late before that: the first moment to ask for what is missing.
  const first = over + late
  let recovered = first
  for (const { at, due } of byDue) {
    if (due > recovered - late) break
    recovered = Math.max(recovered, at)
  }
  const end = recovered === first ? over : recovered
  return {
    recovery: end - over,
    lateness: byDue.reduce((most, { at, due }) => Math.max(most, at - due), 0),
    transitions: byDue.filter(({ at, due }) => at >= began && due <= end).length
  }
}
