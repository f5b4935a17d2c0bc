/**
 * The SQL that every schedule table shares: the look at what is due, and the bookkeeping of failures.
 *
 * A kind adds its table, its columns, and the one statement that claims and applies a batch. Every condition here is one
 * that the table's partial indexes answer.
 */
import { Duration, Effect, Option } from "effect"
import { SqlClient, type SqlError, type Statement } from "effect/sql"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import type { Channel } from "../postgres/channels.ts"
import { answerDeadline, Database } from "../postgres/Database.ts"
import { nextTry, pauseAfter } from "../postgres/nextTry.ts"
import { isPaused } from "../postgres/pauses.ts"
import type { DueRepository, DueRow, Except, FailedRow, From, LeftRow, Processed } from "./DueRepository.ts"

/** The table of a kind of schedule, and its columns. */
export interface ScheduleTable {
  readonly kind: ScheduleKind
  readonly channel: Channel
  readonly table: string
  /** The column with the due time. */
  readonly due: string
  /** The column that says that the row is done. */
  readonly done: string
  /** The column that says what is to happen: it is reported and logged. */
  readonly target: string
}

interface Options extends ScheduleTable {
  /** Whether rows may be put aside as `waiting`; the table then has an index that finds them. */
  readonly waits: boolean
  /**
   * Claims the rows of `game_sessions AS game` and of the table `AS row` that satisfy a condition, earliest first, and
   * applies them: one statement.
   */
  readonly apply: (
    condition: Statement.Fragment,
    limit: number
  ) => Effect.Effect<ReadonlyArray<Processed>, SqlError.SqlError>
  readonly releaseStalled: Effect.Effect<void, SqlError.SqlError>
}

/** How much earlier than necessary a look begins, ms: instants are rounded on their way, and its clock goes on. */
export const margin = 1000

/** The earliest instant that is looked at, as the database reads it. */
export const bound = (from: From): string =>
  from === undefined || from < 0 ? "-infinity" : new Date(Math.floor(from)).toISOString()

/** Every answer is awaited for a limited time, so that a server that vanished cannot hold the loop. */
export const makeScheduleRepository = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<DueRepository, never, Database | SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const answered = (yield* Database).within(answerDeadline)
  const table = sql(options.table)
  const due = sql(options.due)
  const done = sql(options.done)
  const fresh = sql`row.${done} = FALSE AND row.hold IS NULL`
  const retrying = sql`row.${done} = FALSE AND row.hold = 'retry'`
  const paused = isPaused(sql, options.kind)

  const unlisted = (except: Except) =>
    except.length === 0
      ? sql``
      : sql`AND (row.id, row.${due}) NOT IN (
          SELECT * FROM unnest(${except.map((row) => row.id)}::uuid[], ${except.map((row) => row.due)}::timestamptz[]))`

  const millisUntil = (instant: Statement.Fragment) =>
    sql`(extract(epoch FROM (${instant}) - clock_timestamp()) * 1000)::float8`

  const untilFresh = (from: From, except: Except) =>
    millisUntil(sql`
      SELECT row.${due} FROM ${table} AS row
      WHERE NOT ${paused} AND ${fresh} AND row.${due} >= ${bound(from)}::timestamptz ${unlisted(except)}
      ORDER BY row.${due} LIMIT 1`)

  const look = Effect.fn("ScheduleRepository.look")((from: From, except: Except) =>
    Effect.map(
      sql<{
        readonly fresh: number | null
        readonly listed?: number | null
        readonly retry: number | null
        readonly stalled: boolean
        readonly paused: boolean
        readonly now: number
      }>`
        SELECT
          ${untilFresh(from, except)} AS fresh,
          ${except.length === 0 ? sql`` : sql`${untilFresh(from, [])} AS listed,`}
          ${millisUntil(sql`
            SELECT retry_at FROM ${table} AS row WHERE NOT ${paused} AND ${retrying} ORDER BY retry_at LIMIT 1`)} AS retry,
          ${options.waits ? sql`EXISTS (SELECT FROM ${table} WHERE ${done} = FALSE AND hold = 'waiting')` : sql`FALSE`} AS stalled,
          ${paused} AS paused,
          (extract(epoch FROM statement_timestamp()) * 1000)::float8 AS now`,
      ([row]) => {
        const { fresh = null, listed = fresh, now = 0, paused = false, retry = null, stalled = false } = row ?? {}
        return {
          fresh: Option.map(Option.fromNullOr(fresh), Duration.millis),
          retry: Option.map(Option.fromNullOr(retry), Duration.millis),
          stalled,
          paused,
          from: now + Math.min(listed ?? 0, 0) - margin,
          now
        }
      }
    )
  )

  const apply = (condition: Statement.Fragment, limit: number) =>
    options.apply(sql`NOT ${paused} AND ${condition}`, limit)

  const applyDue = Effect.fn("ScheduleRepository.applyDue")((limit: number, from: From, except: Except) =>
    apply(
      sql`${fresh} AND row.${due} <= now() AND row.${due} >= ${bound(from)}::timestamptz ${unlisted(except)}`,
      limit
    )
  )

  const applyThese = Effect.fn("ScheduleRepository.applyThese")((rows: ReadonlyArray<DueRow>) =>
    apply(
      sql`(row.id, row.${due}) IN (
          SELECT * FROM unnest(${rows.map((row) => row.id)}::uuid[], ${rows.map((row) => row.due)}::timestamptz[]))
        AND row.${done} = FALSE AND (row.hold IS NULL OR row.hold = 'retry') AND row.${due} <= now()`,
      rows.length
    )
  )

  const listDue = Effect.fn("ScheduleRepository.listDue")(
    (limit: number, except: Except, from: From) => sql<DueRow>`
      SELECT row.id, row.${due}::text AS due FROM ${table} AS row
      WHERE ${fresh} AND row.${due} <= now() AND row.${due} >= ${bound(from)}::timestamptz ${unlisted(except)}
      ORDER BY row.${due} LIMIT ${limit}`
  )

  // Rows that somebody holds are passed over: a few of them would keep all others from ever being listed.
  const listRetries = Effect.fn("ScheduleRepository.listRetries")(
    (limit: number) => sql<DueRow>`
      SELECT row.id, row.${due}::text AS due FROM ${table} AS row
      JOIN game_sessions AS game ON game.id = row.game_id
      WHERE ${retrying} AND row.retry_at <= now()
      ORDER BY row.retry_at LIMIT ${limit}
      FOR NO KEY UPDATE OF row, game SKIP LOCKED`
  )

  const findLeft = Effect.fn("ScheduleRepository.findLeft")(
    (overdueFor: Duration.Duration, from: From, except: Except) =>
      Effect.map(
        sql<LeftRow>`
        SELECT row.id, row.game_id, row.${sql(options.target)}::text AS target, row.${due}::text AS due
        FROM ${table} AS row
        JOIN game_sessions AS game ON game.id = row.game_id
        WHERE ${fresh}
          AND row.${due} <= now() - ${Duration.toSeconds(overdueFor)}::float8 * interval '1 second'
          AND row.${due} >= ${bound(from)}::timestamptz ${unlisted(except)}
        ORDER BY row.${due}
        LIMIT 1
        FOR NO KEY UPDATE OF row, game SKIP LOCKED`,
        (rows) => Option.fromNullishOr(rows[0])
      )
  )

  const tries = sql`(row.attempts + claimed.counted::int)`

  const recordFailure: DueRepository["recordFailure"] = Effect.fn("ScheduleRepository.recordFailure")(
    (row, failure, maxAttempts, certain = true) =>
      Effect.map(
        sql<FailedRow>`
          WITH claimed AS (
            SELECT row.id, ${certain}::boolean OR row.hold IS NULL OR EXISTS (
              SELECT FROM ledger
              WHERE recorded_at > row.retry_at - ${pauseAfter(sql, sql`row.attempts`)}
                AND kind = ${options.kind} AND outcomes && ARRAY['applied', 'sent']
            ) AS counted
            FROM ${table} AS row
            WHERE row.id = ${row.id} AND row.${due} = ${row.due}::timestamptz
              AND (${fresh} OR (${retrying} AND retry_at <= now()))
            FOR NO KEY UPDATE SKIP LOCKED
          ), failed AS (
            UPDATE ${table} AS row
            SET attempts = ${tries},
                hold = CASE WHEN ${tries} >= ${maxAttempts}::int THEN 'parked' ELSE 'retry' END,
                retry_at = CASE WHEN ${tries} >= ${maxAttempts}::int THEN NULL ELSE ${nextTry(sql, tries)} END
            FROM claimed
            WHERE row.id = claimed.id
            RETURNING row.*
          ), letter AS (
            INSERT INTO dead_letters (kind, source_id, game_id, due_at, error, message, attempts, payload)
            SELECT ${options.kind}, id, game_id, ${due}, ${failure.error}, ${failure.message}, attempts, to_jsonb(failed)
            FROM failed
            WHERE hold = 'parked'
          )
          SELECT game_id, ${sql(options.target)}::text AS target, ${due}::text AS due_at, attempts, counted,
                 hold = 'parked' AS parked, traceparent AS planned_in
          FROM failed
          JOIN claimed USING (id)`,
        (rows) => Option.fromNullishOr(rows[0])
      )
  )

  return {
    kind: options.kind,
    channel: options.channel,
    look: (from, except = []) => answered(look(from, except)),
    applyDue: (limit, from, except = []) => answered(applyDue(limit, from, except)),
    applyThese: (rows) => answered(applyThese(rows)),
    listDue: (limit, except = [], from) => answered(listDue(limit, except, from)),
    listRetries: (limit) => answered(listRetries(limit)),
    recordFailure: (row, failure, maxAttempts, certain) => answered(recordFailure(row, failure, maxAttempts, certain)),
    findLeft: (overdueFor, from, except = []) => answered(findLeft(overdueFor, from, except)),
    releaseStalled: answered(options.releaseStalled)
  }
})

/**
 * An SQL expression for the `traceparent` of what a batch does with the row `judged`: that of whoever planned it, or where
 * spans are exported, that of the row's own span. The span is made later, under the same id, which is random as the event's.
 */
export const ownTraceparent = (sql: SqlClient.SqlClient, exported: boolean): Statement.Fragment =>
  exported
    ? sql`
      CASE WHEN judged.traceparent IS NOT NULL THEN
        left(judged.traceparent, 36) || left(judged.event_id::text, 8) || right(judged.event_id::text, 8)
          || right(judged.traceparent, 3)
      END`
    : sql`judged.traceparent`

/**
 * The statement that writes a batch into the ledger: one row with parallel arrays. It reads what the kind's statement
 * calls `judged` (id, game_id, outcome, attempts).
 */
export const recordBatch = (
  sql: SqlClient.SqlClient,
  batch: {
    readonly replica: string
    readonly kind: ScheduleKind
    readonly target: Statement.Fragment
    readonly due: Statement.Fragment
    /** The id of the event that tells of it; null if nothing does. */
    readonly event: Statement.Fragment
    /** Which of the judged rows are done, and so recorded. */
    readonly done: Statement.Fragment
  }
): Statement.Fragment => sql`
  INSERT INTO ledger (replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
  SELECT ${batch.replica}, ${batch.kind}, array_agg(judged.id), array_agg(judged.game_id), array_agg(${batch.target}),
    array_agg(${batch.due}), array_agg(judged.outcome), array_agg(judged.attempts), array_agg(${batch.event})
  FROM judged
  WHERE ${batch.done}
  HAVING count(*) > 0`
