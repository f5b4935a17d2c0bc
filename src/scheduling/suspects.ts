/**
 * Looks through batches that failed for the rows that made them fail, a part at a time, so that others go on beside it.
 *
 * What fails is cut and goes to the end of the queue, so the many that are innocent are done before the search comes down
 * to single rows. Nothing is locked meanwhile; a row that somebody moves or does in between is simply not found.
 */
import { Array, Effect, Result } from "effect"
import type { SqlError } from "effect/sql"
import { classify } from "../postgres/failures.ts"
import type { DueRow } from "./DueRepository.ts"

/** Into how many parts rows are cut that failed together: with more of them, less work is done in vain. */
const parts = 4

/** No more rows are taken under suspicion while there are so many, so that a table of bad rows cannot fill the memory. */
const enough = 4000

/** One batch that failed. */
interface Search {
  /** How many rows went through, of the batch and of the sample before it. */
  handled: number
  /** Parts that are still to be tried. */
  open: number
  readonly culprits: Array<{ readonly row: DueRow; readonly error: SqlError.SqlError }>
}

interface Part {
  readonly rows: ReadonlyArray<DueRow>
  readonly search: Search
}

/** Whether one of the rows may be at fault. */
export const isAboutRows = (error: SqlError.SqlError): boolean => classify(error) !== "infrastructure"

export interface Suspects {
  /** The rows under suspicion; batches of others leave them out. */
  readonly rows: () => ReadonlyArray<DueRow>
  /** Whether there is room for another batch. */
  readonly hasRoom: () => boolean
  /** Whether a part waits to be tried. */
  readonly areThere: () => boolean
  /** Takes the rows of a batch that failed under suspicion; `handled` others have gone through while it did. */
  readonly add: (rows: ReadonlyArray<DueRow>, handled: number) => void
  /**
   * Tries the next part. Fails where the server is at fault: at once if that is certain, and otherwise when a whole batch
   * was tried and none of it went through.
   */
  readonly tryNext: Effect.Effect<void, SqlError.SqlError>
}

/** `apply` applies rows together and returns how many were dealt with; `blame` counts the failure of a single one. */
export const makeSuspects = (
  apply: (rows: ReadonlyArray<DueRow>) => Effect.Effect<number, SqlError.SqlError>,
  blame: (row: DueRow, error: SqlError.SqlError) => Effect.Effect<void, SqlError.SqlError>
): Suspects => {
  const waiting: Array<Part> = []
  const suspected = new Map<string, DueRow>()

  const release = (rows: ReadonlyArray<DueRow>) => {
    for (const { id } of rows) suspected.delete(id)
  }

  const cut = (rows: ReadonlyArray<DueRow>, search: Search) => {
    for (const part of Array.chunksOf(rows, Math.ceil(rows.length / parts))) {
      search.open += 1
      waiting.push({ rows: part, search })
    }
  }

  /** What is not for certain a row's own counts only where others went through; where none did, it is the server's. */
  const conclude = Effect.fnUntraced(
    function* ({ culprits, handled }: Search) {
      const blamed = handled > 0 ? culprits : culprits.filter(({ error }) => classify(error) === "row")
      for (const { error, row } of blamed) yield* blame(row, error)
      const other = culprits.find((culprit) => !blamed.includes(culprit))
      if (other !== undefined) yield* other.error
    },
    (effect, { culprits }) =>
      Effect.ensuring(
        effect,
        Effect.sync(() => release(culprits.map(({ row }) => row)))
      )
  )

  return {
    rows: () => [...suspected.values()],
    hasRoom: () => suspected.size < enough,
    areThere: () => waiting.length > 0,
    add: (rows, handled) => {
      for (const row of rows) suspected.set(row.id, row)
      cut(rows, { handled, open: 0, culprits: [] })
    },
    tryNext: Effect.gen(function* () {
      const [part] = waiting
      if (part === undefined) return
      const { rows, search } = part
      const result = yield* Effect.result(apply(rows))
      // It is tried again when the server is back.
      if (Result.isFailure(result) && !isAboutRows(result.failure)) yield* result.failure
      waiting.shift()
      search.open -= 1
      const [row] = rows
      if (Result.isSuccess(result)) {
        search.handled += result.success
        release(rows)
      } else if (rows.length === 1 && row !== undefined) search.culprits.push({ row, error: result.failure })
      else cut(rows, search)
      if (search.open === 0) yield* conclude(search)
    })
  }
}
