/**
 * Reads and prunes the record of what was done (`ledger`) and what the broker confirmed (`confirmations`).
 *
 * Each check is one statement that finds what contradicts a promise. None of them locks anything.
 */
import { Context, DateTime, Duration, Effect, Layer } from "effect"
import { SqlClient, type SqlError, type Statement } from "effect/sql"

/** Something that contradicts a promise; which of the members are known depends on the check. */
export interface Offender {
  readonly game_id: string | null
  readonly source_id: string | null
  readonly detail: string
}

/** The offenders of a check: how many there are, and the first few. */
export interface Findings {
  readonly count: number
  readonly examples: ReadonlyArray<Offender>
}

export interface Window {
  readonly from: DateTime.Utc
  readonly to: DateTime.Utc
}

/** How many of the rows of a check are shown. */
const shown = 20

/** How long something due may wait before it counts as overdue: longer than any pause between two looks at a held row. */
const patience = "5 seconds"

/** The same for a completion whose start is gone: longer than the longest backstop, by which it is released. */
const releasePatience = "3 minutes"

type Check = (window: Window) => Effect.Effect<Findings, SqlError.SqlError>

export class LedgerRepository extends Context.Service<
  LedgerRepository,
  {
    /** How many rows took effect in the window. */
    readonly countEffects: (window: Window) => Effect.Effect<number, SqlError.SqlError>
    /** Rows that took effect more than once for the same due time. */
    readonly findRepeated: Check
    /** Rows that took effect before they were due. */
    readonly findEarly: Check
    /** Rows that are due and not done, and that nothing holds back, or that wait for what will not come. */
    readonly findOverdue: Check
    /** Rows that are due and would be overdue if their kind were not paused. */
    readonly findPaused: Check
    /** Rows that are done without a record of it. */
    readonly findUnrecorded: Check
    /** Effects whose event is neither confirmed nor waiting nor a dead letter. */
    readonly findUntold: Check
    /** Games whose status asks for a pending row that is not there. */
    readonly findUnplanned: Check
    /** Parked rows without a dead letter, and dead letters without a row. */
    readonly findOrphans: Check
    /** Open dead letters: what waits for somebody to decide. */
    readonly findUndecided: Check
    /** Parked rows, and events of the window, whose dead letter was discarded: nobody will do them any more. */
    readonly findGivenUp: Check
    /** Forgets a batch of what is older, and returns how many rows that were; zero when there is nothing left. */
    readonly prune: (retention: Duration.Duration) => Effect.Effect<number, SqlError.SqlError>
  }
>()("kickoff/ledger/LedgerRepository") {
  static readonly layer = Layer.effect(
    LedgerRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      /** The offenders that a query selects as `game_id`, `source_id`, `detail`. */
      const find = (query: Statement.Fragment) =>
        Effect.map(
          sql<Offender & { readonly count: number }>`
            SELECT game_id, source_id, detail, (count(*) OVER ())::int AS count
            FROM (${query}) AS offender
            LIMIT ${shown}`,
          (rows): Findings => ({
            count: rows[0]?.count ?? 0,
            examples: rows.map(({ detail, game_id, source_id }) => ({ game_id, source_id, detail }))
          })
        )

      const bounds = ({ from, to }: Window) => sql`
        recorded_at >= ${toDate(from)}::timestamptz AND recorded_at < ${toDate(to)}::timestamptz`

      /** The ledger's batches in the window, one row per schedule row. */
      const effects = (window: Window) => sql`
        SELECT batch.recorded_at, batch.replica, batch.kind, entry.*
        FROM ledger AS batch
        CROSS JOIN LATERAL unnest(
          batch.source_ids, batch.game_ids, batch.targets, batch.due_at, batch.outcomes, batch.event_ids
        ) AS entry (source_id, game_id, target, due, outcome, event_id)
        WHERE ${bounds(window)} AND entry.outcome IN ('applied', 'sent')`

      /** The rows of both schedules under one set of names. */
      const rows = sql`
        SELECT 'status-transition' AS kind, id, game_id, target_status AS target, transition_time AS due,
          executed AS done, executed_at AS done_at, outcome, hold
        FROM game_status_schedule
        UNION ALL
        SELECT 'notification', id, game_id, reminder_minutes::text, notification_time, sent, sent_at, outcome, hold
        FROM notification_schedule`

      /** Rows that have been due for a while, and could have been done if it was not for a pause that is open. */
      const due = sql`
        FROM (${rows}) AS row
        WHERE done = FALSE AND (hold IS NULL OR hold = 'retry')
          AND greatest(due, (SELECT max(resumed_at) FROM pauses WHERE pauses.kind = row.kind))
            < statement_timestamp() - ${patience}::interval`

      const paused = sql`kind IN (SELECT kind FROM pauses WHERE resumed_at IS NULL)`

      return LedgerRepository.of({
        countEffects: (window) =>
          Effect.map(
            sql<{ readonly count: number }>`SELECT count(*)::int AS count FROM (${effects(window)}) AS effect`,
            ([row]) => row?.count ?? 0
          ),

        findRepeated: (window) =>
          find(sql`
            SELECT game_id, source_id, kind || ' ' || target || ' took effect ' || count(*) || ' times for ' || due AS detail
            FROM (${effects(window)}) AS effect
            GROUP BY game_id, source_id, kind, target, due
            HAVING count(*) > 1`),

        findEarly: (window) =>
          find(sql`
            SELECT game_id, source_id, kind || ' ' || target || ' was due at ' || due || ' and done at ' || recorded_at AS detail
            FROM (${effects(window)}) AS effect
            WHERE due > recorded_at`),

        findOverdue: () =>
          find(sql`
            SELECT game_id, id AS source_id, kind || ' ' || target || ' has been due since ' || due AS detail
            ${due} AND NOT ${paused}
            UNION ALL
            SELECT game_id, id, 'status-transition ' || target_status || ', due at ' || transition_time ||
              ', waits for a start that is not to come'
            FROM game_status_schedule AS completion
            WHERE executed = FALSE AND hold = 'waiting'
              AND transition_time < statement_timestamp() - ${releasePatience}::interval
              AND NOT EXISTS (
                SELECT FROM game_status_schedule AS start
                WHERE start.game_id = completion.game_id AND start.target_status = 'IN_PROGRESS' AND start.executed = FALSE
              )`),

        findPaused: () =>
          find(sql`
            SELECT game_id, id AS source_id, kind || ' ' || target || ', due at ' || due || ', waits because ' || (
              SELECT format('%s has paused its kind since %s%s', paused_by, paused_at, ': ' || reason)
              FROM pauses WHERE pauses.kind = row.kind AND resumed_at IS NULL
            ) AS detail
            ${due} AND ${paused}`),

        // What is missing comes first and once, here and below: a join of all with all may compare each with each, when the
        // planner does not know how many there are by now.
        findUnrecorded: (window) =>
          find(sql`
            WITH done AS (
              SELECT game_id, id, kind || ' ' || target || ' was done at ' || done_at || ' and is not in the ledger' AS detail
              FROM (${rows}) AS row
              WHERE done AND done_at >= ${toDate(window.from)}::timestamptz AND done_at < ${toDate(window.to)}::timestamptz
            ), missing AS MATERIALIZED (
              SELECT id FROM done EXCEPT SELECT unnest(source_ids) FROM ledger WHERE ${bounds(widened(window))}
            )
            SELECT game_id, id AS source_id, detail FROM missing JOIN done USING (id)`),

        findUntold: (window) =>
          find(sql`
            WITH effect AS (${effects(window)}), missing AS MATERIALIZED (
              SELECT event_id FROM effect WHERE event_id IS NOT NULL
              EXCEPT
              (
                SELECT unnest(event_ids) FROM confirmations WHERE confirmed_at >= ${toDate(window.from)}::timestamptz
                UNION ALL SELECT event_id FROM outbox
                UNION ALL SELECT source_id FROM dead_letters WHERE kind = 'event'
              )
            )
            SELECT game_id, source_id,
              kind || ' ' || target || ' of ' || recorded_at || ' lost its event ' || event_id AS detail
            FROM missing JOIN effect USING (event_id)`),

        findUnplanned: () =>
          find(sql`
            SELECT game.id AS game_id, NULL::uuid AS source_id,
              'a game that is ' || game.status || ' has no pending row for ' || wanted.target AS detail
            FROM game_sessions AS game
            JOIN (VALUES ('SCHEDULED', 'IN_PROGRESS'), ('SCHEDULED', 'COMPLETED'), ('IN_PROGRESS', 'COMPLETED'))
              AS wanted (status, target) ON wanted.status = game.status
            LEFT JOIN game_status_schedule AS row
              ON row.game_id = game.id AND row.target_status = wanted.target AND row.executed = FALSE
            WHERE row.id IS NULL`),

        findOrphans: () =>
          find(sql`
            SELECT row.game_id, row.id AS source_id, row.kind || ' ' || row.target || ' is parked without a dead letter' AS detail
            FROM (${rows}) AS row
            WHERE row.hold = 'parked' AND row.done = FALSE
              AND NOT EXISTS (SELECT FROM dead_letters AS letter WHERE letter.source_id = row.id)
            UNION ALL
            SELECT letter.game_id, letter.source_id, 'dead letter ' || letter.id || ' is about a row that is gone'
            FROM dead_letters AS letter
            LEFT JOIN (${rows}) AS row ON row.id = letter.source_id
            WHERE letter.resolved_at IS NULL AND letter.kind <> 'event' AND row.id IS NULL`),

        findUndecided: () =>
          find(sql`
            SELECT game_id, source_id, kind || ', attempt ' || attempts || ': ' || error || ', ' || message AS detail
            FROM dead_letters
            WHERE resolved_at IS NULL`),

        findGivenUp: ({ from, to }) =>
          find(sql`
            SELECT row.game_id, row.id AS source_id,
              row.kind || ' ' || row.target || ', due at ' || row.due || ', was discarded by ' || letter.resolved_by AS detail
            FROM (${rows}) AS row
            JOIN (
              SELECT DISTINCT ON (source_id) source_id, resolution, resolved_by
              FROM dead_letters WHERE kind <> 'event'
              ORDER BY source_id, created_at DESC
            ) AS letter ON letter.source_id = row.id
            WHERE row.hold = 'parked' AND row.done = FALSE AND letter.resolution = 'discarded'
            UNION ALL
            SELECT game_id, source_id, 'event ' || (payload ->> 'type') || ' was discarded by ' || resolved_by
            FROM dead_letters
            WHERE kind = 'event' AND resolution = 'discarded'
              AND resolved_at >= ${toDate(from)}::timestamptz AND resolved_at < ${toDate(to)}::timestamptz`),

        // The letter of a row that is still parked says why it is, however old.
        prune: (retention) =>
          Effect.map(
            sql<{ readonly count: number }>`
              WITH cutoff AS (
                SELECT statement_timestamp() - ${Duration.toSeconds(retention)}::float8 * interval '1 second' AS instant
              ), entries AS (
                DELETE FROM ledger WHERE id IN (
                  SELECT id FROM ledger WHERE recorded_at < (SELECT instant FROM cutoff)
                  ORDER BY recorded_at LIMIT ${batch} FOR UPDATE SKIP LOCKED
                ) RETURNING id
              ), confirmed AS (
                DELETE FROM confirmations WHERE id IN (
                  SELECT id FROM confirmations WHERE confirmed_at < (SELECT instant FROM cutoff)
                  ORDER BY confirmed_at LIMIT ${batch} FOR UPDATE SKIP LOCKED
                ) RETURNING id
              ), letters AS (
                DELETE FROM dead_letters WHERE id IN (
                  SELECT letter.id FROM dead_letters AS letter
                  WHERE letter.resolved_at < (SELECT instant FROM cutoff)
                    AND NOT EXISTS (SELECT FROM (${rows}) AS row WHERE row.id = letter.source_id AND row.hold = 'parked')
                  LIMIT ${batch} FOR UPDATE OF letter SKIP LOCKED
                ) RETURNING id
              ), breaks AS (
                DELETE FROM pauses WHERE id IN (
                  SELECT id FROM pauses WHERE resumed_at < (SELECT instant FROM cutoff)
                  LIMIT ${batch} FOR UPDATE SKIP LOCKED
                ) RETURNING id
              )
              SELECT ((SELECT count(*) FROM entries) + (SELECT count(*) FROM confirmed)
                + (SELECT count(*) FROM letters) + (SELECT count(*) FROM breaks))::int AS count`,
            ([row]) => row?.count ?? 0
          )
      })
    })
  )
}

/** How many rows of a table one statement forgets: few enough to be done in milliseconds. */
const batch = 1000

/** One batch takes clock readings for its rows and for its record, and a window may begin or end in between. */
const widened = ({ from, to }: Window): Window => ({
  from: DateTime.subtract(from, { minutes: 1 }),
  to: DateTime.add(to, { minutes: 1 })
})

const toDate = (instant: DateTime.Utc): Date => new Date(instant.epochMilliseconds)
