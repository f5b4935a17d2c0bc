/**
 * Schedules whose due rows are decided and not applied: what Kickoff would do with them is recorded, and when.
 *
 * It stands behind the same loop as the real thing, and locks nothing. The other system may be late, so a game counts as
 * started once its start was decided. A row is decided once for each time that it is given, whoever of several processes
 * comes first.
 */
import { Duration, Effect, Layer, Option } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { Replica } from "../observability/Replica.ts"
import { answerDeadline, Database } from "../postgres/Database.ts"
import type { DueRepository, DueRow, FailedRow, From, LeftRow, Processed } from "../scheduling/DueRepository.ts"
import { NotificationRepository, notificationTable } from "../scheduling/NotificationRepository.ts"
import { bound, margin, type ScheduleTable } from "../scheduling/ScheduleRepository.ts"
import { StatusTransitionRepository, statusTransitionTable } from "../scheduling/StatusTransitionRepository.ts"

interface ShadowedSchedule extends ScheduleTable {
  /** What would become of the row `chosen` of the `game`, as an outcome of its kind. */
  readonly judgement: (sql: SqlClient.SqlClient) => Statement.Fragment
}

/**
 * How many times as many rows as are asked for one statement decides. It starts anew before those that are decided, which
 * stay pending, so that many small ones would read the same rows again and again.
 */
const eagerness = 10

const makeShadow = Effect.fnUntraced(function* (
  options: ShadowedSchedule
): Effect.fn.Return<DueRepository, never, Database | SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const replica = yield* Replica
  const answered = (yield* Database).within(answerDeadline)
  const { kind } = options
  const table = sql(options.table)
  const due = sql(options.due)
  const target = sql`row.${sql(options.target)}::text`

  const undecided = sql`
    row.${sql(options.done)} = FALSE AND row.hold IS NULL AND NOT EXISTS (
      SELECT FROM shadow_decisions AS made
      WHERE made.kind = ${kind} AND made.due_at = row.${due} AND made.source_id = row.id
    )`

  // What is decided stays pending for as long as the other system leaves it so. It is passed over by its time: a row that
  // is planned more than an hour into the past is not seen.
  const begin = (from: From) => sql`
    greatest(
      ${bound(from)}::timestamptz,
      (SELECT since FROM shadow_run WHERE single),
      (SELECT max(due_at) FROM shadow_decisions WHERE kind = ${kind}) - interval '1 hour'
    )`

  const look = Effect.fn("ShadowScheduleRepository.look")((from: From) =>
    Effect.map(
      sql<{ readonly fresh: number | null; readonly now: number }>`
        SELECT
          (extract(epoch FROM (
            SELECT row.${due} FROM ${table} AS row
            WHERE ${undecided} AND row.${due} >= ${begin(from)}
            ORDER BY row.${due} LIMIT 1
          ) - clock_timestamp()) * 1000)::float8 AS fresh,
          (extract(epoch FROM statement_timestamp()) * 1000)::float8 AS now`,
      ([row]) => {
        const { fresh = null, now = 0 } = row ?? {}
        return {
          fresh: Option.map(Option.fromNullOr(fresh), Duration.millis),
          retry: Option.none(),
          stalled: false,
          // A pause stops what is done, and nothing is done here.
          paused: false,
          from: now + Math.min(fresh ?? 0, 0) - margin,
          now
        }
      }
    )
  )

  // Recorded in one order by all, who so never wait for each other in a circle.
  const decide = (condition: Statement.Fragment, limit: number) => sql<Processed>`
    WITH due AS MATERIALIZED (
      SELECT row.id, row.game_id, ${target} AS target, row.${due} AS due_at
      FROM ${table} AS row
      WHERE ${condition} AND ${undecided} AND row.${due} <= now()
      ORDER BY row.${due}
      LIMIT ${limit}
    ), chosen AS (
      SELECT DISTINCT ON (game_id) *
      FROM due
      ORDER BY game_id, (target <> 'IN_PROGRESS'), due_at
    ), decided AS (
      INSERT INTO shadow_decisions (kind, due_at, source_id, game_id, target, outcome, game_status, replica)
      SELECT ${kind}, chosen.due_at, chosen.id, chosen.game_id, chosen.target, ${options.judgement(sql)}, game.status,
        ${replica}
      FROM chosen
      JOIN game_sessions AS game ON game.id = chosen.game_id
      ORDER BY chosen.due_at, chosen.id
      ON CONFLICT DO NOTHING
      RETURNING *
    )
    SELECT source_id AS id, game_id, target, due_at::text AS due_at, 'shadowed' AS outcome,
      (extract(epoch FROM decided_at - due_at) * 1000)::float8 AS lateness_ms,
      NULL AS planned_in, NULL AS traceparent
    FROM decided`

  const applyDue = Effect.fn("ShadowScheduleRepository.applyDue")((limit: number, from: From) =>
    decide(sql`row.${due} >= ${begin(from)}`, eagerness * limit)
  )

  const applyThese = Effect.fn("ShadowScheduleRepository.applyThese")((rows: ReadonlyArray<DueRow>) =>
    decide(
      sql`(row.id, row.${due}) IN (
        SELECT * FROM unnest(${rows.map((row) => row.id)}::uuid[], ${rows.map((row) => row.due)}::timestamptz[]))`,
      rows.length
    )
  )

  const listDue = Effect.fn("ShadowScheduleRepository.listDue")(
    (limit: number) => sql<DueRow>`
      SELECT row.id, row.${due}::text AS due FROM ${table} AS row
      WHERE ${undecided} AND row.${due} <= now() AND row.${due} >= ${begin(undefined)}
      ORDER BY row.${due} LIMIT ${limit}`
  )

  const findLeft = Effect.fn("ShadowScheduleRepository.findLeft")((overdueFor: Duration.Duration, from: From) =>
    Effect.map(
      sql<LeftRow>`
        SELECT row.id, row.game_id, ${target} AS target, row.${due}::text AS due FROM ${table} AS row
        WHERE ${undecided}
          AND row.${due} <= now() - ${Duration.toSeconds(overdueFor)}::float8 * interval '1 second'
          AND row.${due} >= ${begin(from)}
        ORDER BY row.${due} LIMIT 1`,
      (rows) => Option.fromNullishOr(rows[0])
    )
  )

  const recordFailure: DueRepository["recordFailure"] = Effect.fn("ShadowScheduleRepository.recordFailure")(
    (row, failure) =>
      Effect.map(
        sql<FailedRow>`
          INSERT INTO shadow_decisions (kind, due_at, source_id, game_id, target, outcome, game_status, detail, replica)
          SELECT ${kind}, row.${due}, row.id, row.game_id, ${target}, 'failed', game.status,
            ${`${failure.error}: ${failure.message}`}, ${replica}
          FROM ${table} AS row
          JOIN game_sessions AS game ON game.id = row.game_id
          WHERE row.id = ${row.id} AND row.${due} = ${row.due}::timestamptz AND ${undecided}
          ON CONFLICT DO NOTHING
          RETURNING game_id, target, due_at::text AS due_at, 1 AS attempts, TRUE AS parked, NULL AS planned_in`,
        (rows) => Option.fromNullishOr(rows[0])
      )
  )

  return {
    kind,
    channel: options.channel,
    look: (from) => answered(look(from)),
    applyDue: (limit, from) => answered(applyDue(limit, from)),
    applyThese: (rows) => answered(applyThese(rows)),
    listDue: (limit) => answered(listDue(limit)),
    // Nothing is tried twice: a row that cannot be decided is recorded as one that failed.
    listRetries: () => Effect.succeed<ReadonlyArray<DueRow>>([]),
    recordFailure: (row, failure, maxAttempts) => answered(recordFailure(row, failure, maxAttempts)),
    findLeft: (overdueFor, from) => answered(findLeft(overdueFor, from)),
    releaseStalled: Effect.void
  }
})

/** What {@link StatusTransitionRepository} would do. */
export const statusTransitions: Layer.Layer<StatusTransitionRepository, never, Database | SqlClient.SqlClient> =
  Layer.effect(
    StatusTransitionRepository,
    makeShadow({
      ...statusTransitionTable,
      judgement: (sql) => sql`
        CASE
          WHEN chosen.target NOT IN ('IN_PROGRESS', 'COMPLETED') THEN 'parked'
          WHEN chosen.target = 'IN_PROGRESS' AND game.status = 'SCHEDULED' THEN 'applied'
          WHEN chosen.target = 'IN_PROGRESS' THEN 'superseded'
          WHEN game.status = 'IN_PROGRESS' THEN 'applied'
          WHEN game.status <> 'SCHEDULED' THEN 'superseded'
          ELSE coalesce((
            SELECT CASE
              WHEN EXISTS (
                SELECT FROM shadow_decisions AS made
                WHERE made.kind = 'status-transition' AND made.due_at = start.transition_time
                  AND made.source_id = start.id AND made.outcome = 'applied'
              ) THEN 'applied'
              WHEN start.executed THEN 'parked'
              ELSE 'waiting'
            END
            FROM game_status_schedule AS start
            WHERE start.game_id = chosen.game_id AND start.target_status = 'IN_PROGRESS'
          ), 'parked')
        END`
    })
  )

/** What {@link NotificationRepository} would do. */
export const notifications: Layer.Layer<NotificationRepository, never, Database | SqlClient.SqlClient> = Layer.effect(
  NotificationRepository,
  makeShadow({
    ...notificationTable,
    judgement: (sql) =>
      sql`CASE WHEN game.status = 'SCHEDULED' AND game.scheduled_at > now() THEN 'sent' ELSE 'skipped' END`
  })
)
