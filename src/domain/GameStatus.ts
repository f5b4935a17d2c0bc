/**
 * A game's status and the state machine, as data.
 *
 * `SCHEDULED → IN_PROGRESS | CANCELLED`, `IN_PROGRESS → COMPLETED | CANCELLED`; the others are final.
 */
import { Schema } from "effect"

export const GameStatus = Schema.Literals(["SCHEDULED", "IN_PROGRESS", "COMPLETED", "CANCELLED"])
export type GameStatus = typeof GameStatus.Type

const successors: Readonly<Record<GameStatus, ReadonlyArray<GameStatus>>> = {
  SCHEDULED: ["IN_PROGRESS", "CANCELLED"],
  IN_PROGRESS: ["COMPLETED", "CANCELLED"],
  COMPLETED: [],
  CANCELLED: []
}

/** Whether a game may go from one status to another. A status is no successor of itself. */
export const canBecome = (from: GameStatus, to: GameStatus): boolean => successors[from].includes(to)

/** A final status is never left again. */
export const isFinal = (status: GameStatus): boolean => successors[status].length === 0
