/** The pause after a failed attempt in SQL, the twin of `pauseAfter`: the database's clock says when it is over. */
import { Duration } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { firstPause, longestPause } from "../domain/RetryPolicy.ts"

/** An SQL expression: when a row whose column `attempts` does not count this failure yet is tried again. */
export const nextTry = (sql: SqlClient.SqlClient): Statement.Fragment => sql`clock_timestamp() + least(
  ${Duration.toSeconds(firstPause)}::float8 * 2 ^ least(attempts, 30), ${Duration.toSeconds(longestPause)}::float8
) * interval '1 second'`
