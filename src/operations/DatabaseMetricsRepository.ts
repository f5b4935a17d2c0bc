/**
 * What the database says of the work that waits, and of its own state: for the metrics, and for whoever looks by hand.
 *
 * No question reads more than so many rows, by an index, whatever lies in the tables: what is more is the server's own
 * estimate. So the answers are exact where an operator looks closely, and cheap where the tables are huge.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient, type SqlError, type Statement } from "effect/sql"
import type { DeadLetterKind } from "../domain/DeadLetter.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import { isPaused } from "../postgres/pauses.ts"
import { privileges } from "./DiagnosisRepository.ts"

/** Most rows that are counted one by one. */
export const countedExactly = 10_000

/** Most of those who hold vacuum back that are named. */
export const namedHolders = 20

/** The tables of Kickoff. */
export const tables = Object.keys(privileges)

/** Rows of one kind of schedule. */
export interface Backlog {
  readonly kind: ScheduleKind
  /** Rows that are still to be done and do not rest; beyond {@link countedExactly} an estimate of the server. */
  readonly pending: number
  /** Those of them that are due by now, up to {@link countedExactly}. */
  readonly overdue: number
  /** Seconds until the earliest of them is due, negative if it is; null if there is none. */
  readonly next_due: number | null
  /** When that is, ms since 1970. */
  readonly next_at: number | null
  /** Rows that failed and are tried again, up to {@link countedExactly}. */
  readonly retrying: number
  /** Completions that wait for their start, up to {@link countedExactly}. */
  readonly waiting: number
  /** Whether the kind is paused, so that nothing of it is done. */
  readonly paused: boolean
  /** Where the next question about this kind may begin, ms since 1970: what was pending is not earlier. */
  readonly from: number
}

export interface OutboxDepth {
  /** Events that are committed and not confirmed; beyond {@link countedExactly} an estimate of the server. */
  readonly events: number
  /** Those of them that were refused and are tried again, up to {@link countedExactly}. */
  readonly refused: number
  /** How long the first of them has been there, seconds; 0 if there is none. */
  readonly oldest: number
}

export interface TableFacts {
  readonly table: string
  readonly autovacuum: boolean
  readonly dead: number
  readonly live: number
}

/** A snapshot or transaction that vacuum must respect: it removes nothing that is newer. */
export interface Holder {
  readonly kind: "transaction" | "prepared transaction" | "replication slot"
  /** Of a transaction the application, or what else it is; of the others their own name. */
  readonly name: string
  readonly pid: number | null
  /** How many transactions have begun since; null for a slot that keeps nothing but old catalogues. */
  readonly age: number | null
  /** Since when it is held, seconds; null where the database does not tell this role, and for a slot. */
  readonly held: number | null
  /** Whether it is a slot that nobody reads from. */
  readonly abandoned: boolean
}

/** For a look at the schedules that takes nothing for granted. */
export const fromTheBeginning: Readonly<Record<ScheduleKind, number>> = { "status-transition": -1, notification: -1 }

type Query<A> = Effect.Effect<A, SqlError.SqlError>

export class DatabaseMetricsRepository extends Context.Service<
  DatabaseMetricsRepository,
  {
    /** The database's clock, ms since 1970. */
    readonly now: Query<number>
    /** What waits in the two schedules. Rows that are due before the instants (ms since 1970) are taken not to be there. */
    readonly listBacklogs: (from: Readonly<Record<ScheduleKind, number>>) => Query<ReadonlyArray<Backlog>>
    readonly outbox: Query<OutboxDepth>
    /** Letters that are open, up to {@link countedExactly} together. */
    readonly countOpenLetters: Query<ReadonlyMap<DeadLetterKind, number>>
    /** Rows by the server's own statistics, which may be a minute old. */
    readonly listTables: Query<ReadonlyArray<TableFacts>>
    /** Everybody else who has a transaction open, the oldest first, up to {@link namedHolders}. */
    readonly listHolders: Query<ReadonlyArray<Holder>>
  }
>()("kickoff/operations/DatabaseMetricsRepository") {
  static readonly layer = Layer.effect(
    DatabaseMetricsRepository,
    Effect.map(SqlClient.SqlClient, (sql) => {
      const instant = (from: number) => (from < 0 ? "-infinity" : new Date(Math.floor(from)).toISOString())

      /** The backlog of one schedule, as a row. */
      const backlog = (options: {
        readonly kind: ScheduleKind
        readonly table: string
        readonly due: string
        readonly done: string
        readonly from: number
      }) => {
        const table = sql(options.table)
        const due = sql(options.due)
        const pending = sql`${sql(options.done)} = FALSE`
        const count = (hold: Statement.Fragment, column: string) => sql`(
          SELECT count(*) FROM (
            SELECT FROM ${table} WHERE ${pending} AND ${hold} ORDER BY ${sql(column)} LIMIT ${countedExactly}::int
          ) AS resting)::float8`
        return sql`
          SELECT ${options.kind}::text AS kind,
            count(*)::float8 AS counted,
            (SELECT reltuples FROM pg_class WHERE oid = to_regclass(${`${options.table}_due_idx`}::text))::float8 AS estimate,
            count(*) FILTER (WHERE due <= statement_timestamp())::float8 AS overdue,
            (extract(epoch FROM min(due) - clock_timestamp()))::float8 AS next_due,
            (extract(epoch FROM min(due)) * 1000)::float8 AS next_at,
            (extract(epoch FROM least(min(due), statement_timestamp())) * 1000)::float8 AS earliest,
            ${count(sql`hold = 'retry'`, "retry_at")} AS retrying,
            ${options.kind === "status-transition" ? count(sql`hold = 'waiting'`, "game_id") : sql`0::float8`} AS waiting,
            ${isPaused(sql, options.kind)} AS paused
          FROM (
            SELECT ${due} AS due FROM ${table}
            WHERE ${pending} AND hold IS NULL AND ${due} >= ${instant(options.from)}::timestamptz
            ORDER BY ${due} LIMIT ${countedExactly}::int
          ) AS head`
      }

      return DatabaseMetricsRepository.of({
        now: Effect.map(
          sql<{ readonly now: number }>`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now`,
          ([row]) => row?.now ?? Number.NaN
        ),

        listBacklogs: (from) =>
          Effect.map(
            sql<Omit<Backlog, "pending" | "from"> & Counted & { readonly earliest: number }>`
              ${backlog({
                kind: "status-transition",
                table: "game_status_schedule",
                due: "transition_time",
                done: "executed",
                from: from["status-transition"]
              })}
              UNION ALL
              ${backlog({
                kind: "notification",
                table: "notification_schedule",
                due: "notification_time",
                done: "sent",
                from: from["notification"]
              })}`,
            (rows) => rows.map((row) => ({ ...row, pending: estimated(row), from: row.earliest - margin }))
          ),

        outbox: Effect.map(
          sql<Omit<OutboxDepth, "events"> & Counted>`
            SELECT
              (SELECT count(*) FROM (SELECT FROM outbox ORDER BY id LIMIT ${countedExactly}::int) AS head)::float8
                AS counted,
              pg_stat_get_live_tuples(to_regclass('outbox'))::float8 AS estimate,
              (SELECT count(*) FROM (
                SELECT FROM outbox WHERE retry_at IS NOT NULL ORDER BY retry_at LIMIT ${countedExactly}::int
              ) AS refused)::float8 AS refused,
              coalesce(extract(epoch FROM clock_timestamp() - (SELECT occurred_at FROM outbox ORDER BY id LIMIT 1)), 0)
                ::float8 AS oldest`,
          ([row]) => ({
            events: row === undefined ? 0 : estimated(row),
            refused: row?.refused ?? 0,
            oldest: Math.max(0, row?.oldest ?? 0)
          })
        ),

        countOpenLetters: Effect.map(
          sql<{ readonly kind: DeadLetterKind; readonly letters: number }>`
            SELECT kind, count(*)::float8 AS letters
            FROM (
              SELECT kind FROM dead_letters WHERE resolved_at IS NULL
              ORDER BY created_at, id LIMIT ${countedExactly}::int
            ) AS open
            GROUP BY kind`,
          (rows) => new Map(rows.map(({ kind, letters }) => [kind, letters]))
        ),

        listTables: sql<TableFacts>`
          SELECT known.name AS table,
            coalesce((
              SELECT option_value::boolean FROM pg_options_to_table(class.reloptions)
              WHERE option_name = 'autovacuum_enabled'
            ), TRUE) AS autovacuum,
            pg_stat_get_dead_tuples(class.oid)::float8 AS dead, pg_stat_get_live_tuples(class.oid)::float8 AS live
          FROM unnest(${tables}::text[]) AS known (name)
          JOIN pg_class AS class ON class.oid = to_regclass(known.name)`,

        // Vacuum itself holds nothing back, and a transaction of another database nothing of ours.
        listHolders: sql<Holder>`
          SELECT kind, name, pid, age, held, abandoned
          FROM (
            SELECT 'transaction' AS kind, coalesce(nullif(application_name, ''), backend_type, 'without a name') AS name, pid,
              greatest(age(backend_xmin), age(backend_xid))::float8 AS age,
              (extract(epoch FROM clock_timestamp() - xact_start))::float8 AS held, FALSE AS abandoned
            FROM pg_stat_activity AS session
            WHERE pid <> pg_backend_pid() AND (datid IS NULL OR datname = current_database())
              AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
              AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS vacuum WHERE vacuum.pid = session.pid)
            UNION ALL
            SELECT 'prepared transaction', gid, NULL, age(transaction), extract(epoch FROM clock_timestamp() - prepared), FALSE
            FROM pg_prepared_xacts
            WHERE database = current_database()
            UNION ALL
            SELECT 'replication slot', slot_name, NULL, age(xmin), NULL, NOT active
            FROM pg_replication_slots
            WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
          ) AS holders
          ORDER BY age DESC NULLS LAST, held DESC NULLS LAST
          LIMIT ${namedHolders}`
      })
    })
  )
}

/** How much earlier than necessary a question begins, ms: instants are rounded on their way, and its clock goes on. */
const margin = 1000

interface Counted {
  readonly counted: number
  readonly estimate: number | null
}

const estimated = ({ counted, estimate }: Counted): number =>
  counted < countedExactly ? counted : Math.max(counted, estimate ?? 0)
