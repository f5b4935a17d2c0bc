/**
 * The pauses of kinds of schedule, and the transactions that a new one has to wait for.
 *
 * What claims rows asks for pauses itself, in `ScheduleRepository.ts`.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { Pause } from "../domain/Pause.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"

/** An open pause, and whether it is the one that was asked for. */
export interface OpenedPause {
  readonly pause: Pause
  /** Whether there was none before. */
  readonly fresh: boolean
}

type Query<A> = Effect.Effect<A, SqlError.SqlError>

const tables: Readonly<Record<ScheduleKind, string>> = {
  "status-transition": "game_status_schedule",
  notification: "notification_schedule"
}

export class PauseRepository extends Context.Service<
  PauseRepository,
  {
    /** Those that are open. */
    readonly listOpen: Query<ReadonlyArray<Pause>>
    /** Opens a pause of each kind that has none; one that is open stays as it is. */
    readonly open: (
      kinds: ReadonlyArray<ScheduleKind>,
      by: string,
      reason: string | null
    ) => Query<ReadonlyArray<OpenedPause>>
    /** Ends the pauses of these kinds, and returns them. */
    readonly close: (kinds: ReadonlyArray<ScheduleKind>, by: string) => Query<ReadonlyArray<Pause>>
    /** Transactions of others under way that may change rows of these kinds. */
    readonly listWriters: (kinds: ReadonlyArray<ScheduleKind>) => Query<ReadonlyArray<string>>
  }
>()("kickoff/operations/PauseRepository") {
  static readonly layer = Layer.effect(
    PauseRepository,
    Effect.map(SqlClient.SqlClient, (sql) =>
      PauseRepository.of({
        listOpen: Effect.flatMap(sql`SELECT * FROM pauses WHERE resumed_at IS NULL ORDER BY paused_at, kind`, decode),

        // The update changes nothing; it is what makes RETURNING show a row that was there. Only such a row has an xmax.
        open: (kinds, by, reason) =>
          sql<{ readonly fresh: boolean }>`
            INSERT INTO pauses (kind, paused_by, reason)
            SELECT kind, ${by}, ${reason} FROM unnest(${kinds}::text[]) AS kind
            ON CONFLICT (kind) WHERE resumed_at IS NULL DO UPDATE SET kind = excluded.kind
            RETURNING *, xmax = 0 AS fresh`.pipe(
            Effect.flatMap((rows) =>
              Effect.map(decode(rows), (pauses) =>
                pauses.map((pause, index) => ({ pause, fresh: rows[index]?.fresh === true }))
              )
            )
          ),

        close: (kinds, by) =>
          Effect.flatMap(
            sql`
              UPDATE pauses SET resumed_at = now(), resumed_by = ${by}
              WHERE kind = ANY(${kinds}::text[]) AND resumed_at IS NULL
              RETURNING *`,
            decode
          ),

        listWriters: (kinds) =>
          Effect.map(
            sql<{ readonly transaction: string }>`
              SELECT DISTINCT virtualtransaction AS transaction FROM pg_locks
              WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND relation IN (SELECT to_regclass(name)::oid FROM unnest(${kinds.map((kind) => tables[kind])}::text[]) AS name)`,
            (rows) => rows.map(({ transaction }) => transaction)
          )
      })
    )
  )
}

/** The columns are our own, so a row that does not decode is a defect. */
const decodePauses = Schema.decodeUnknownEffect(Schema.Array(Pause))
const decode = (rows: ReadonlyArray<unknown>) => Effect.orDie(decodePauses(rows))
