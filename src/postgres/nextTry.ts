/** The pause after a failed attempt in SQL: the database's clock says when it is over. */
import { Duration } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { firstPause, longestPause } from "../domain/RetryPolicy.ts"

/** An SQL expression, the twin of the domain's `pauseAfter`: the rest after so many failed attempts. */
export const pauseAfter = (sql: SqlClient.SqlClient, attempts: Statement.Fragment): Statement.Fragment => sql`least(
  ${Duration.toSeconds(firstPause)}::float8 * 2 ^ least(${attempts} - 1, 30), ${Duration.toSeconds(longestPause)}::float8
) * interval '1 second'`

/** An SQL expression: when a row that has failed so often is tried again. */
export const nextTry = (sql: SqlClient.SqlClient, attempts: Statement.Fragment): Statement.Fragment =>
  sql`clock_timestamp() + ${pauseAfter(sql, attempts)}`
