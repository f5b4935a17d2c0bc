/**
 * What the database says of itself and of our objects in it, for {@link diagnose}. It changes nothing.
 *
 * Every statement is of a kind that a role without special rights may run; what others do is shown to such a role only as
 * far as the server allows, so `pg_monitor` sees more.
 */
import { Context, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

export interface ServerFacts {
  /** Like 180004. */
  readonly version: number
  readonly in_recovery: boolean
  readonly role: string
  readonly replication_role: string
  readonly autovacuum: boolean
  /** Share of the queue of notifications that is taken, from 0 to 1. */
  readonly notification_queue: number
  /** Whether another system does the work in this database, and Kickoff only records what it would do. */
  readonly shadow: boolean
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

/** The same as {@link privileges} of the tables that there are in a shadow alone. */
const shadowPrivileges: Readonly<Record<string, ReadonlyArray<string>>> = {
  shadow_run: ["SELECT"],
  shadow_decisions: ["SELECT", "INSERT"],
  shadow_changes: ["SELECT"]
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

export class DiagnosisRepository extends Context.Service<
  DiagnosisRepository,
  {
    readonly server: Effect.Effect<ServerFacts, SqlError.SqlError>
    /** The triggers of our tables. */
    readonly triggers: Effect.Effect<ReadonlyArray<TriggerFacts>, SqlError.SqlError>
    readonly indexes: Effect.Effect<ReadonlyArray<IndexFacts>, SqlError.SqlError>
    /** Privileges that this role lacks, as `INSERT on outbox`. */
    readonly missingPrivileges: Effect.Effect<ReadonlyArray<string>, SqlError.SqlError>
  }
>()("kickoff/operations/DiagnosisRepository") {
  static readonly layer = Layer.effect(
    DiagnosisRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const names = Object.keys(privileges)
      const needed = Object.entries({ ...privileges, ...shadowPrivileges }).flatMap(([name, privileges]) =>
        privileges.map((privilege) => ({ name, privilege }))
      )

      return DiagnosisRepository.of({
        server: Effect.map(
          sql<ServerFacts>`
            SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS in_recovery,
              current_user::text AS role, current_setting('session_replication_role') AS replication_role,
              current_setting('autovacuum')::boolean AS autovacuum, pg_notification_queue_usage() AS notification_queue,
              to_regclass('shadow_run') IS NOT NULL AS shadow`,
          ([row]) =>
            row ?? {
              version: 0,
              in_recovery: false,
              role: "",
              replication_role: "",
              autovacuum: true,
              notification_queue: 0,
              shadow: false
            }
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

        missingPrivileges: Effect.map(
          sql<{ readonly missing: string }>`
            SELECT wanted.privilege || ' on ' || wanted.name AS missing
            FROM unnest(
              ${needed.map(({ name }) => name)}::text[],
              ${needed.map(({ privilege }) => privilege)}::text[]
            ) AS wanted (name, privilege)
            WHERE to_regclass(wanted.name) IS NOT NULL
              AND NOT CASE wanted.privilege
                WHEN 'UPDATE' THEN has_any_column_privilege(wanted.name, 'UPDATE')
                ELSE has_table_privilege(wanted.name, wanted.privilege)
              END`,
          (rows) => rows.map(({ missing }) => missing)
        )
      })
    })
  )
}
