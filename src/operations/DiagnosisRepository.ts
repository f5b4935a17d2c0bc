/**
 * What the database says of itself and of our objects in it, for {@link diagnose}. It changes nothing.
 *
 * Every statement is of a kind that a role without special rights may run; what others do is shown to such a role only as
 * far as the server allows, so `pg_monitor` sees more.
 */
import { Context, Duration, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { relayLock } from "../outbox/relayLock.ts"
import { sqlState } from "../postgres/Database.ts"
import { migrationsTable } from "../postgres/migrations.ts"

export interface ServerFacts {
  /** Like 180004. */
  readonly version: number
  readonly in_recovery: boolean
  readonly role: string
  readonly replication_role: string
  readonly autovacuum: boolean
  /** Share of the queue of notifications that is taken, from 0 to 1. */
  readonly notification_queue: number
}

export interface TriggerFacts {
  readonly table: string
  readonly name: string
  readonly enabled: boolean
}

export interface IndexFacts {
  readonly name: string
  readonly valid: boolean
}

export interface TableFacts {
  readonly name: string
  readonly autovacuum: boolean
  readonly live: number
  readonly dead: number
}

/** Something that keeps old versions of rows from being cleaned up. */
export interface HolderFacts {
  readonly kind: "transaction" | "prepared transaction" | "replication slot" | "standby"
  /** The application, transaction, slot or standby by name. */
  readonly name: string
  readonly pid: number | null
  /** For how long, where that is known, in seconds. */
  readonly seconds: number | null
}

export interface WorkFacts {
  readonly overdue_transitions: number
  readonly overdue_reminders: number
  /** Age of the oldest event that waits, in seconds; null if none does. */
  readonly oldest_event: number | null
  readonly open_letters: number
  readonly relays: number
  /** Parts of Kickoff that have a session, like `relay` or `status-transitions`. */
  readonly parts: ReadonlyArray<string>
}

/** A table, and what the running service must be allowed to do with it. */
export const privileges: Readonly<Record<string, ReadonlyArray<string>>> = {
  game_sessions: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  game_status_schedule: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  notification_schedule: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  outbox: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  dead_letters: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  idempotency_keys: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  // A column's UPDATE is enough to lock a row, which is all that is done: docs/security.md.
  ledger: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  confirmations: ["SELECT", "INSERT", "UPDATE", "DELETE"],
  pauses: ["SELECT", "INSERT", "UPDATE", "DELETE"]
}

/** How many overdue rows are counted at most. */
const most = 10_000

/** How long something due may take before it counts as overdue. */
const patience = Duration.seconds(5)

export class DiagnosisRepository extends Context.Service<
  DiagnosisRepository,
  {
    readonly server: Effect.Effect<ServerFacts, SqlError.SqlError>
    /** The id of the newest migration that was applied; 0 if there was none. */
    readonly appliedMigration: Effect.Effect<number, SqlError.SqlError>
    /** The triggers of our tables. */
    readonly triggers: Effect.Effect<ReadonlyArray<TriggerFacts>, SqlError.SqlError>
    readonly indexes: Effect.Effect<ReadonlyArray<IndexFacts>, SqlError.SqlError>
    readonly tables: Effect.Effect<ReadonlyArray<TableFacts>, SqlError.SqlError>
    /** Privileges that this role lacks, as `INSERT on outbox`. */
    readonly missingPrivileges: Effect.Effect<ReadonlyArray<string>, SqlError.SqlError>
    /** Who keeps old row versions for longer than this. */
    readonly holders: (longerThan: Duration.Duration) => Effect.Effect<ReadonlyArray<HolderFacts>, SqlError.SqlError>
    readonly work: Effect.Effect<WorkFacts, SqlError.SqlError>
    /** The database's time, ms since 1970. */
    readonly now: Effect.Effect<number, SqlError.SqlError>
  }
>()("kickoff/operations/DiagnosisRepository") {
  static readonly layer = Layer.effect(
    DiagnosisRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const names = Object.keys(privileges)

      const overdue = (table: string, due: string, done: string) => sql`
        SELECT count(*)::int FROM (
          SELECT FROM ${sql(table)}
          WHERE ${sql(done)} = FALSE AND hold IS NULL
            AND ${sql(due)} < now() - ${Duration.toSeconds(patience)}::float8 * interval '1 second'
          LIMIT ${most}
        ) AS overdue`

      return DiagnosisRepository.of({
        server: Effect.map(
          sql<ServerFacts>`
            SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS in_recovery,
              current_user::text AS role, current_setting('session_replication_role') AS replication_role,
              current_setting('autovacuum')::boolean AS autovacuum, pg_notification_queue_usage() AS notification_queue`,
          ([row]) =>
            row ?? {
              version: 0,
              in_recovery: false,
              role: "",
              replication_role: "",
              autovacuum: true,
              notification_queue: 0
            }
        ),

        appliedMigration: sql<{ readonly id: number }>`
          SELECT coalesce(max(migration_id), 0)::int AS id FROM ${sql(migrationsTable)}`.pipe(
          Effect.map(([row]) => row?.id ?? 0),
          Effect.catchTag("SqlError", (error) => (sqlState(error) === "42P01" ? Effect.succeed(0) : Effect.fail(error)))
        ),

        triggers: sql<TriggerFacts>`
          SELECT class.relname AS table, trigger.tgname AS name, trigger.tgenabled IN ('O', 'A') AS enabled
          FROM pg_trigger AS trigger
          JOIN pg_class AS class ON class.oid = trigger.tgrelid
          WHERE NOT trigger.tgisinternal AND pg_table_is_visible(class.oid) AND class.relname = ANY(${names}::text[])`,

        indexes: sql<IndexFacts>`
          SELECT class.relname AS name, index.indisvalid AND index.indisready AS valid
          FROM pg_index AS index
          JOIN pg_class AS class ON class.oid = index.indexrelid
          JOIN pg_class AS owner ON owner.oid = index.indrelid
          WHERE pg_table_is_visible(owner.oid) AND owner.relname = ANY(${names}::text[])`,

        tables: sql<TableFacts>`
          SELECT class.relname AS name,
            coalesce((
              SELECT option_value::boolean FROM pg_options_to_table(class.reloptions)
              WHERE option_name = 'autovacuum_enabled'
            ), TRUE) AS autovacuum,
            coalesce(statistics.n_live_tup, 0)::float8 AS live, coalesce(statistics.n_dead_tup, 0)::float8 AS dead
          FROM pg_class AS class
          LEFT JOIN pg_stat_user_tables AS statistics ON statistics.relid = class.oid
          WHERE class.relkind = 'r' AND pg_table_is_visible(class.oid) AND class.relname = ANY(${names}::text[])`,

        missingPrivileges: Effect.map(
          sql<{ readonly missing: string }>`
            SELECT wanted.privilege || ' on ' || wanted.name AS missing
            FROM unnest(
              ${names.flatMap((name) => (privileges[name] ?? []).map(() => name))}::text[],
              ${names.flatMap((name) => privileges[name] ?? [])}::text[]
            ) AS wanted (name, privilege)
            WHERE to_regclass(wanted.name) IS NOT NULL
              AND NOT CASE wanted.privilege
                WHEN 'UPDATE' THEN has_any_column_privilege(wanted.name, 'UPDATE')
                ELSE has_table_privilege(wanted.name, wanted.privilege)
              END`,
          (rows) => rows.map(({ missing }) => missing)
        ),

        holders: (longerThan) => {
          const limit = sql`${Duration.toSeconds(longerThan)}::float8 * interval '1 second'`
          return sql<HolderFacts>`
            SELECT 'transaction' AS kind, coalesce(nullif(application_name, ''), 'an unnamed application') AS name, pid,
              extract(epoch FROM now() - xact_start)::float8 AS seconds
            FROM pg_stat_activity
            WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND xact_start < now() - ${limit}
              AND pid <> pg_backend_pid() AND backend_type = 'client backend'
            UNION ALL
            SELECT 'prepared transaction', gid, NULL, extract(epoch FROM now() - prepared)::float8
            FROM pg_prepared_xacts WHERE prepared < now() - ${limit}
            UNION ALL
            SELECT 'replication slot', slot_name::text, NULL, NULL
            FROM pg_replication_slots WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL)`
        },

        work: Effect.map(
          sql<WorkFacts>`
            SELECT
              (${overdue("game_status_schedule", "transition_time", "executed")}) AS overdue_transitions,
              (${overdue("notification_schedule", "notification_time", "sent")}) AS overdue_reminders,
              (SELECT extract(epoch FROM clock_timestamp() - occurred_at)::float8 FROM outbox ORDER BY id LIMIT 1)
                AS oldest_event,
              (SELECT count(*)::int FROM dead_letters WHERE resolved_at IS NULL) AS open_letters,
              (
                SELECT count(*)::int FROM pg_locks
                WHERE locktype = 'advisory' AND granted AND objsubid = 1
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND (classid::bigint << 32) | objid::bigint = ${relayLock}::bigint
              ) AS relays,
              ARRAY(
                SELECT DISTINCT substring(application_name FROM '^kickoff:([^@]+)')
                FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE 'kickoff:%' AND pid <> pg_backend_pid()
              ) AS parts`,
          ([row]) =>
            row ?? {
              overdue_transitions: 0,
              overdue_reminders: 0,
              oldest_event: null,
              open_letters: 0,
              relays: 0,
              parts: []
            }
        ),

        now: Effect.map(
          sql<{ readonly now: number }>`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now`,
          ([row]) => row?.now ?? 0
        )
      })
    })
  )
}
