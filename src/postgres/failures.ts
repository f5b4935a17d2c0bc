/**
 * What a failure of PostgreSQL means for the work in hand, as a table; `docs/reliability.md` shows it to people.
 *
 * The server's word alone does not tell whose fault it is: a full disk may be met by every row, or by one whose trigger
 * says so. Where both can be, the class is `doubtful`, and what becomes of other rows decides.
 */
import { SqlError } from "effect/sql"
import { sqlState } from "./Database.ts"

/**
 * `infrastructure`: connection or server; nothing is wrong with a row, wait and try everything again. `passing`: somebody
 * was in the way, the same statement will most likely succeed at once. `doubtful`: schema, permissions or resources; like
 * infrastructure, unless others go through meanwhile. `row`: a row's own data, or what a trigger or constraint has to say to it;
 * the others go on without it.
 */
export type FailureClass = "infrastructure" | "passing" | "doubtful" | "row"

export interface PostgresFailure {
  readonly failure: string
  /** Beginnings of the SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html */
  readonly states: ReadonlyArray<string>
  readonly class: FailureClass
}

/** The driver's own errors have no SQLSTATE: the session broke, whatever the driver calls it. */
const sessionBroken: PostgresFailure = {
  failure: "connection refused, lost or silent",
  states: [],
  class: "infrastructure"
}

/** The first line with a beginning of the SQLSTATE counts. */
export const postgresFailures: ReadonlyArray<PostgresFailure> = [
  sessionBroken,
  { failure: "server stopping, starting or ending the session", states: ["57P"], class: "infrastructure" },
  { failure: "too many connections", states: ["53300"], class: "infrastructure" },
  { failure: "login or database refused", states: ["28", "3D"], class: "infrastructure" },
  { failure: "deadlock, or the transactions contradict each other", states: ["40"], class: "passing" },
  { failure: "lock or statement timeout", states: ["55P03", "57014"], class: "passing" },
  { failure: "no room: disk, memory, limits", states: ["53", "54"], class: "doubtful" },
  { failure: "table, column, function or privilege missing", states: ["3F", "42"], class: "doubtful" },
  {
    failure: "read-only server, prepared statement or feature not there",
    states: ["0A", "25", "26"],
    class: "doubtful"
  },
  { failure: "the server reaches something, or is damaged", states: ["08", "58", "F0", "XX"], class: "doubtful" },
  { failure: "constraint: check, not null, unique, foreign key", states: ["23"], class: "row" },
  { failure: "data: division by zero, out of range, invalid text", states: ["22"], class: "row" },
  { failure: "an exception that a trigger raises, and all else", states: [""], class: "row" }
]

export const classify = (error: SqlError.SqlError): FailureClass => {
  const state = sqlState(error)
  const known = postgresFailures.find(({ states }) =>
    state === undefined ? states.length === 0 : states.some((beginning) => state.startsWith(beginning))
  )
  // The last line of the table takes every SQLSTATE.
  return (known ?? sessionBroken).class
}

/** Whether somebody was in the way: a lock was not to be had, or was given up for somebody else's. */
export const isHeld = (error: unknown): error is SqlError.SqlError =>
  SqlError.isSqlError(error) && classify(error) === "passing"
