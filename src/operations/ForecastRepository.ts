/** What is planned, counted per minute: the question of capacity, answered from the indexes of what is due. */
import { Context, Duration, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

/** What is due within one minute. */
export interface PlannedMinute {
  /** Its beginning, ms since 1970; what is overdue counts to the minute of the question. */
  readonly at: number
  readonly starts: number
  readonly completions: number
  readonly reminders: number
}

export class ForecastRepository extends Context.Service<
  ForecastRepository,
  {
    /** The minutes of which anything is planned, in order, from now on for so long. What was given up is not planned. */
    readonly listMinutes: (
      reach: Duration.Duration
    ) => Effect.Effect<{ readonly now: number; readonly minutes: ReadonlyArray<PlannedMinute> }, SqlError.SqlError>
  }
>()("kickoff/operations/ForecastRepository") {
  static readonly layer = Layer.effect(
    ForecastRepository,
    Effect.map(SqlClient.SqlClient, (sql) =>
      ForecastRepository.of({
        listMinutes: Effect.fn("ForecastRepository.listMinutes")(function* (reach: Duration.Duration) {
          const until = sql`statement_timestamp() + ${Duration.toSeconds(reach)}::float8 * interval '1 second'`
          const rows = yield* sql<PlannedMinute & { readonly now: number }>`
            WITH planned AS (
              SELECT transition_time AS due, target_status AS what FROM game_status_schedule
              WHERE executed = FALSE AND hold IS NULL AND transition_time < ${until}
              UNION ALL
              SELECT notification_time, 'reminder' FROM notification_schedule
              WHERE sent = FALSE AND hold IS NULL AND notification_time < ${until}
            ), minutes AS (
              SELECT date_trunc('minute', greatest(due, statement_timestamp())) AS minute,
                count(*) FILTER (WHERE what = 'IN_PROGRESS')::int AS starts,
                count(*) FILTER (WHERE what = 'COMPLETED')::int AS completions,
                count(*) FILTER (WHERE what = 'reminder')::int AS reminders
              FROM planned
              GROUP BY 1
            )
            SELECT (extract(epoch FROM statement_timestamp()) * 1000)::float8 AS now,
              coalesce(extract(epoch FROM minute) * 1000, 0)::float8 AS at,
              coalesce(starts, 0) AS starts, coalesce(completions, 0) AS completions, coalesce(reminders, 0) AS reminders
            FROM (SELECT) AS question
            LEFT JOIN minutes ON TRUE
            ORDER BY minute`
          return {
            now: rows[0]?.now ?? 0,
            minutes: rows.flatMap(({ at, completions, reminders, starts }) =>
              at > 0 ? [{ at, starts, completions, reminders }] : []
            )
          }
        })
      })
    )
  )
}
