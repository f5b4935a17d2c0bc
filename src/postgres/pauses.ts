/** Whether a kind of schedule is paused, in SQL: for what claims its rows, and for what tells of them. */
import type { SqlClient, Statement } from "effect/sql"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"

/** A condition that names no row, so the server asks it once for a statement. */
export const isPaused = (sql: SqlClient.SqlClient, kind: ScheduleKind): Statement.Fragment =>
  sql`EXISTS (SELECT FROM pauses WHERE kind = ${kind} AND resumed_at IS NULL)`
