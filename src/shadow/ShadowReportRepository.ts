/**
 * Holds what Kickoff would have done against what really happened: the decisions of a shadow, and the changes that its
 * triggers have noted meanwhile.
 *
 * A change is noted when its statement runs, which others see at the commit, so the other system looks better than it is,
 * never worse. It locks nothing and can run beside everything.
 */
import { Context, Duration, Effect, Layer, Option } from "effect"
import { SqlClient, type SqlError, type Statement } from "effect/sql"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"

/** What is compared, and how strictly. */
export interface Question {
  /** How far the window reaches back; never beyond the beginning of the shadow. */
  readonly reach: Duration.Duration
  /** Up to how much later than its time something is on time. */
  readonly tolerance: Duration.Duration
  /** When what the other system has not done counts as missed. */
  readonly missedAfter: Duration.Duration
  /** How many of the worst cases are told. */
  readonly examples: number
}

/** Instants are ms since 1970, by the database's clock. */
export interface Window {
  readonly since: number
  readonly from: number
  readonly to: number
}

/** How late one of the two was, in ms; null where there is nothing to measure. */
export interface Lateness {
  readonly late: number
  readonly missed: number
  readonly p50_ms: number | null
  readonly p95_ms: number | null
  readonly max_ms: number | null
}

/** What came of all that is alike: starts, completions, reminders. */
export interface Line {
  readonly kind: ScheduleKind
  /** The status that games were to take, or `reminder`. */
  readonly target: string
  /** How many were due and to be done. */
  readonly due: number
  readonly both_on_time: number
  readonly other_system: Lateness & { readonly early: number }
  readonly kickoff: Lateness
  /** Cancelled, moved or deleted after their time, before the other system got to them. */
  readonly overtaken: number
  /** Not done by the other system yet, and not missed yet either. */
  readonly open: number
  /** Reminders, as long as none of the other system's was seen: it may leave no trace of them here. */
  readonly unseen: number
  /** Not to be done any more when their time came. */
  readonly needless: number
  /** Done long before their time, so by hand. */
  readonly by_hand: number
}

/** Something that one of the two missed, or was late or early with. */
export interface Example {
  readonly kind: ScheduleKind
  readonly target: string
  readonly game_id: string
  readonly due_at: number
  readonly kickoff_ms: number | null
  readonly other_system_ms: number | null
  /** The application or role that changed the game; null where nobody has. */
  readonly changed_by: string | null
  /** Why Kickoff would have missed it; null where it would not. */
  readonly missed_because: string | null
}

export interface Comparison {
  readonly window: Window
  readonly lines: ReadonlyArray<Line>
  readonly examples: ReadonlyArray<Example>
}

/** Up to how much before its time a change is the other system's, by a clock that is ahead; earlier ones are by hand. */
const earliness = "1 minute"

type Query<A> = Effect.Effect<A, SqlError.SqlError>

export class ShadowReportRepository extends Context.Service<
  ShadowReportRepository,
  {
    /** None where the database is not in shadow. */
    readonly compare: (question: Question) => Query<Option.Option<Comparison>>
  }
>()("kickoff/shadow/ShadowReportRepository") {
  static readonly layer = Layer.effect(
    ShadowReportRepository,
    Effect.map(SqlClient.SqlClient, (sql) => {
      const seconds = (duration: Duration.Duration) =>
        sql`${Duration.toSeconds(duration)}::float8 * interval '1 second'`
      const instant = (millis: number) => sql`${new Date(millis)}::timestamptz`
      const early = sql.literal(`interval '${earliness}'`)

      const readWindow = (reach: Duration.Duration) =>
        Effect.gen(function* () {
          const [row] = yield* sql<{ readonly begun: boolean }>`SELECT to_regclass('shadow_run') IS NOT NULL AS begun`
          if (row?.begun !== true) return Option.none<Window>()
          const [window] = yield* sql<Window>`
            SELECT (extract(epoch FROM since) * 1000)::float8 AS since,
              (extract(epoch FROM greatest(since, statement_timestamp() - ${seconds(reach)})) * 1000)::float8 AS from,
              (extract(epoch FROM statement_timestamp()) * 1000)::float8 AS to
            FROM shadow_run`
          return Option.fromUndefinedOr(window)
        })

      // One row for each thing that was to be done. A decision is paired with the first change that does the same to its
      // game, until shortly before the next decision on the same row, which was moved then. Whatever was changed without a
      // decision comes last.
      const cases = ({ from, since, to }: Window, missedAfter: Duration.Duration): Statement.Fragment => sql`
        decision AS (
          SELECT *, lead(due_at) OVER (PARTITION BY kind, source_id ORDER BY due_at) AS next_due_at
          FROM shadow_decisions
          WHERE kind IN ('status-transition', 'notification') AND due_at >= ${instant(from)} AND due_at < ${instant(to)}
        ), paired AS (
          SELECT decision.*, change.changed_at, change.changed_by
          FROM decision
          LEFT JOIN LATERAL (
            SELECT changed_at, changed_by FROM shadow_changes AS change
            WHERE change.game_id = decision.game_id AND change.kind = decision.kind AND change.target = decision.target
              AND change.changed_at >= decision.due_at - ${early}
              AND (decision.next_due_at IS NULL OR change.changed_at < decision.next_due_at - ${early})
            ORDER BY change.changed_at LIMIT 1
          ) AS change ON TRUE
        ), judged AS (
          SELECT paired.*,
            CASE
              WHEN paired.outcome IN ('applied', 'sent') THEN CASE
                WHEN paired.changed_at IS NOT NULL THEN 'both'
                WHEN paired.kind = 'notification'
                  AND NOT EXISTS (SELECT FROM shadow_changes WHERE kind = 'notification') THEN 'unseen'
                WHEN paired.due_at >= ${instant(to)} - ${seconds(missedAfter)} AND game.status IN ('SCHEDULED', 'IN_PROGRESS')
                  AND row.due = paired.due_at THEN 'open'
                WHEN cancelled.changed_at IS NOT NULL THEN CASE
                  WHEN cancelled.changed_at > paired.due_at + ${seconds(missedAfter)} THEN 'missed'
                  ELSE 'overtaken'
                END
                WHEN game.id IS NULL OR row.due <> paired.due_at THEN 'overtaken'
                WHEN row.due IS NULL AND game.status = 'SCHEDULED' THEN 'overtaken'
                ELSE 'missed'
              END
              -- The other system was faster, so there was nothing left to do.
              WHEN paired.outcome IN ('superseded', 'skipped') AND paired.changed_at <= paired.decided_at THEN 'both'
              WHEN paired.outcome IN ('superseded', 'skipped') THEN 'needless'
              ELSE 'missed by kickoff'
            END AS verdict
          FROM paired
          LEFT JOIN game_sessions AS game ON game.id = paired.game_id
          LEFT JOIN LATERAL (
            SELECT transition_time AS due FROM game_status_schedule
            WHERE paired.kind = 'status-transition' AND id = paired.source_id
            UNION ALL
            SELECT notification_time FROM notification_schedule
            WHERE paired.kind = 'notification' AND id = paired.source_id
          ) AS row ON TRUE
          LEFT JOIN LATERAL (
            SELECT changed_at FROM shadow_changes AS change
            WHERE change.game_id = paired.game_id AND change.kind = 'status-transition' AND change.target = 'CANCELLED'
              AND change.changed_at >= paired.due_at
            ORDER BY change.changed_at LIMIT 1
          ) AS cancelled ON TRUE
        ), undecided AS (
          SELECT change.*,
            CASE
              WHEN due_at > changed_at + ${early} THEN 'by hand'
              WHEN due_at > changed_at THEN 'early'
              ELSE 'missed by kickoff'
            END AS verdict
          FROM shadow_changes AS change
          WHERE changed_at >= ${instant(from)} AND changed_at < ${instant(to)} AND due_at >= ${instant(since)}
            AND (kind = 'notification' OR target IN ('IN_PROGRESS', 'COMPLETED'))
            AND NOT EXISTS (
              SELECT FROM shadow_decisions AS made
              WHERE made.game_id = change.game_id AND made.kind = change.kind AND made.target = change.target
                AND made.due_at <= change.changed_at + ${early}
            )
        ), compared AS (
          SELECT kind, CASE kind WHEN 'notification' THEN 'reminder' ELSE target END AS target, game_id, due_at, verdict,
            CASE WHEN verdict NOT IN ('needless', 'missed by kickoff')
              THEN extract(epoch FROM decided_at - due_at)::float8 * 1000 END AS kickoff_ms,
            CASE WHEN verdict IN ('both', 'missed by kickoff')
              THEN extract(epoch FROM changed_at - due_at)::float8 * 1000 END AS other_system_ms,
            changed_by,
            CASE WHEN verdict = 'missed by kickoff' THEN CASE outcome
              WHEN 'waiting' THEN 'it would have waited for a start that was planned for later'
              WHEN 'parked' THEN 'it would have become a dead letter: there is no start, or the status is not the clock''s to set'
              ELSE 'it could not be decided: ' || coalesce(detail, outcome)
            END END AS missed_because
          FROM judged
          UNION ALL
          SELECT kind, CASE kind WHEN 'notification' THEN 'reminder' ELSE target END, game_id, due_at, verdict, NULL,
            extract(epoch FROM changed_at - due_at)::float8 * 1000, changed_by,
            CASE WHEN verdict = 'missed by kickoff' THEN CASE
              WHEN kind = 'notification' OR EXISTS (
                SELECT FROM game_status_schedule AS row
                WHERE row.game_id = undecided.game_id AND row.target_status = undecided.target
              ) THEN 'its row was not decided: no process in shadow was there, or the row has another time'
              ELSE 'no row is planned for it, see kickoff backfill'
            END END
          FROM undecided
        )`

      const percentiles = (column: string, verdicts: Statement.Fragment) => {
        const values = sql.literal(column)
        const at = (share: number) =>
          sql`percentile_cont(${share}::float8) WITHIN GROUP (ORDER BY ${values}) FILTER (WHERE ${verdicts})`
        return { p50: at(0.5), p95: at(0.95), max: sql`max(${values}) FILTER (WHERE ${verdicts})` }
      }

      return ShadowReportRepository.of({
        compare: Effect.fn("ShadowReportRepository.compare")(function* (question: Question) {
          const window = yield* readWindow(question.reach)
          if (Option.isNone(window)) return Option.none()
          const compared = cases(window.value, question.missedAfter)
          const tolerance = sql`${Duration.toMillis(question.tolerance)}::float8`
          const theirs = percentiles("other_system_ms", sql`verdict = 'both'`)
          const ours = percentiles("kickoff_ms", sql`TRUE`)
          const lines = yield* sql<
            Omit<Line, "other_system" | "kickoff"> & {
              readonly late: number
              readonly early: number
              readonly missed: number
              readonly p50: number | null
              readonly p95: number | null
              readonly max: number | null
              readonly kickoff_late: number
              readonly kickoff_missed: number
              readonly kickoff_p50: number | null
              readonly kickoff_p95: number | null
              readonly kickoff_max: number | null
            }
          >`
            WITH ${compared}
            SELECT kind, target,
              count(*) FILTER (WHERE verdict NOT IN ('needless', 'by hand'))::int AS due,
              count(*) FILTER (
                WHERE verdict = 'both' AND abs(other_system_ms) <= ${tolerance} AND kickoff_ms <= ${tolerance}
              )::int AS both_on_time,
              count(*) FILTER (WHERE verdict = 'both' AND other_system_ms > ${tolerance})::int AS late,
              count(*) FILTER (WHERE verdict IN ('both', 'early') AND other_system_ms < -${tolerance})::int AS early,
              count(*) FILTER (WHERE verdict = 'missed')::int AS missed,
              ${theirs.p50} AS p50, ${theirs.p95} AS p95, ${theirs.max} AS max,
              count(*) FILTER (WHERE kickoff_ms > ${tolerance})::int AS kickoff_late,
              count(*) FILTER (WHERE verdict = 'missed by kickoff')::int AS kickoff_missed,
              ${ours.p50} AS kickoff_p50, ${ours.p95} AS kickoff_p95, ${ours.max} AS kickoff_max,
              count(*) FILTER (WHERE verdict = 'overtaken')::int AS overtaken,
              count(*) FILTER (WHERE verdict = 'open')::int AS open,
              count(*) FILTER (WHERE verdict = 'unseen')::int AS unseen,
              count(*) FILTER (WHERE verdict = 'needless')::int AS needless,
              count(*) FILTER (WHERE verdict = 'by hand')::int AS by_hand
            FROM compared
            GROUP BY kind, target
            ORDER BY kind DESC, target DESC`
          const examples = yield* sql<Example>`
            WITH ${compared}
            SELECT kind, target, game_id, (extract(epoch FROM due_at) * 1000)::float8 AS due_at, kickoff_ms,
              CASE WHEN verdict <> 'missed' THEN other_system_ms END AS other_system_ms, changed_by, missed_because
            FROM compared
            WHERE verdict IN ('missed', 'missed by kickoff') OR kickoff_ms > ${tolerance}
              OR (verdict IN ('both', 'early') AND abs(other_system_ms) > ${tolerance})
            ORDER BY verdict = 'missed by kickoff' DESC, kickoff_ms > ${tolerance} DESC NULLS LAST,
              verdict = 'missed' DESC, abs(other_system_ms) DESC NULLS LAST, due_at, game_id
            LIMIT ${question.examples}`
          return Option.some({
            window: window.value,
            lines: lines.map(
              ({
                early,
                kickoff_late,
                kickoff_max,
                kickoff_missed,
                kickoff_p50,
                kickoff_p95,
                late,
                max,
                missed,
                p50,
                p95,
                ...line
              }): Line => ({
                ...line,
                other_system: { late, early, missed, p50_ms: p50, p95_ms: p95, max_ms: max },
                kickoff: {
                  late: kickoff_late,
                  missed: kickoff_missed,
                  p50_ms: kickoff_p50,
                  p95_ms: kickoff_p95,
                  max_ms: kickoff_max
                }
              })
            ),
            examples
          })
        })
      })
    })
  )
}
