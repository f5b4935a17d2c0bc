/** What a failure of PostgreSQL means for the work in hand. */
import type { SqlError } from "effect/sql"
import { isConnectionFailure, sqlState } from "./Database.ts"

/**
 * `infrastructure`: server, connection, permissions or schema; nothing is wrong with a row, wait and try everything
 * again. `passing`: somebody was in the way, the same statement will succeed soon. `row`: a row's own data, or what a
 * trigger or constraint has to say to it; the others go on without it.
 */
export type FailureClass = "infrastructure" | "passing" | "row"

/** Classes of SQLSTATE that speak of the server or our place in it: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const infrastructureStates = /^(08|0A|25|26|28|3D|3F|42|53|57P|58|F0)/

export const classify = (error: SqlError.SqlError): FailureClass => {
  switch (error.reason._tag) {
    case "DeadlockError":
    case "SerializationError":
    case "LockTimeoutError":
    case "StatementTimeoutError":
      return "passing"
    default: {
      const state = sqlState(error)
      // Without a state the error is the driver's own: the session broke, whatever the driver calls it.
      return state === undefined || isConnectionFailure(error) || infrastructureStates.test(state)
        ? "infrastructure"
        : "row"
    }
  }
}
