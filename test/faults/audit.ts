/**
 * Holds what the database shows against what the consumer received, and lets `verify` hold the record against the
 * promises. Neither of the two believes the other.
 */
import { Clock, DateTime, Effect, Schedule } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { LedgerRepository } from "../../src/ledger/LedgerRepository.ts"
import { verify } from "../../src/ledger/Verification.ts"
import { guilds, type Load } from "./load.ts"
import type { Tally } from "./Tally.ts"

/** What was found; everything but `checked` is a violation. */
export interface Findings {
  /** Transitions, reminders and versions that the database shows, in the time that was looked at. */
  readonly checked: number
  /** Those of them that the consumer never received, and work that was due and not done. */
  readonly lost: number
  /** Games that were started or completed although the database says that they should not have been. */
  readonly stale: number
  /** What `verify` objects to, and dead letters that nobody expects. */
  readonly objections: number
  /** The first few of all of them, in words. */
  readonly examples: ReadonlyArray<string>
}

/** How long after a fault its work may take before it counts as lost. */
const patience = "40 seconds"
/** How long a confirmed event may take to the consumer. */
const delivery = "10 seconds"
const examplesKept = 8

const looks = Schedule.spaced("50 millis")

/** By the database's clock, in whole milliseconds. */
export const databaseNow = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly now: Date }>`SELECT statement_timestamp() AS now`
  return DateTime.fromDateUnsafe(row?.now ?? new Date(0))
})

/** Waits until everything that was due by an instant is done; answers what is not done in time. */
const settle = Effect.fnUntraced(function* (instant: DateTime.Utc) {
  const sql = yield* SqlClient.SqlClient
  const until = DateTime.toDateUtc(instant)
  // One branch for each partial index, since it is asked often. What is parked has a dead letter, which `verify` tells of.
  const pending = sql<{ readonly game_id: string; readonly what: string }>`
    SELECT game_id, target_status || ' due at ' || transition_time || coalesce(' is ' || hold, '') AS what
    FROM (
      SELECT * FROM game_status_schedule
      WHERE executed = FALSE AND hold IS NULL AND transition_time <= ${until}::timestamptz
      UNION ALL SELECT * FROM game_status_schedule WHERE executed = FALSE AND hold = 'retry'
      UNION ALL SELECT * FROM game_status_schedule WHERE executed = FALSE AND hold = 'waiting'
    ) AS row WHERE transition_time <= ${until}::timestamptz
    UNION ALL
    SELECT game_id, 'reminder due at ' || notification_time || coalesce(' is ' || hold, '')
    FROM (
      SELECT * FROM notification_schedule
      WHERE sent = FALSE AND hold IS NULL AND notification_time <= ${until}::timestamptz
      UNION ALL SELECT * FROM notification_schedule WHERE sent = FALSE AND hold = 'retry'
    ) AS row WHERE notification_time <= ${until}::timestamptz`
  let left: ReadonlyArray<{ readonly game_id: string; readonly what: string }> = []
  yield* pending.pipe(
    Effect.tap((rows) => Effect.sync(() => (left = rows))),
    Effect.repeat({ until: (rows) => rows.length === 0, schedule: looks }),
    Effect.retry(Schedule.spaced("200 millis")),
    Effect.timeoutOption(patience)
  )
  return left.map(({ game_id, what }) => `${game_id}: ${what} was left undone`)
})

interface Expected {
  readonly game: string
  readonly what: string
  readonly received: () => boolean
}

/** Everything that the database shows to have happened since an instant. */
const listDone = Effect.fnUntraced(function* (instant: DateTime.Utc, tally: Tally) {
  const sql = yield* SqlClient.SqlClient
  const since = DateTime.toDateUtc(instant)
  const transitions = yield* sql<{ readonly game_id: string; readonly target_status: string }>`
    SELECT game_id, target_status FROM game_status_schedule
    WHERE executed AND outcome = 'applied' AND executed_at >= ${since}::timestamptz`
  const reminders = yield* sql<{ readonly game_id: string; readonly reminder_minutes: number; readonly due: number }>`
    SELECT game_id, reminder_minutes, floor(extract(epoch FROM notification_time) * 1000)::float8 AS due
    FROM notification_schedule
    WHERE sent AND outcome = 'sent' AND sent_at >= ${since}::timestamptz`
  const versions = yield* sql<{ readonly id: string; readonly guild_id: string; readonly version: number }>`
    SELECT id, guild_id, version FROM game_sessions WHERE updated_at >= ${since}::timestamptz`
  const recorded = yield* sql<{ readonly game_id: string; readonly event_id: string }>`
    SELECT entry.game_id, entry.event_id
    FROM ledger AS batch, unnest(batch.game_ids, batch.event_ids) AS entry (game_id, event_id)
    WHERE batch.recorded_at >= ${since}::timestamptz AND entry.event_id IS NOT NULL`
  return [
    ...transitions.map(({ game_id, target_status }): Expected => ({
      game: game_id,
      what: target_status,
      received: () => tally.hasTransition(game_id, target_status)
    })),
    ...reminders.map(({ due, game_id, reminder_minutes }): Expected => ({
      game: game_id,
      what: `reminder ${reminder_minutes}`,
      received: () => tally.hasReminder(game_id, reminder_minutes, due)
    })),
    ...versions.map(({ guild_id, id, version }): Expected => ({
      game: id,
      what: `one of the versions up to ${version}`,
      received: () => tally.missingVersions(id, guild_id === guilds.api ? 1 : 2, version).length === 0
    })),
    ...recorded.map(({ event_id, game_id }): Expected => ({
      game: game_id,
      what: `event ${event_id} of the ledger`,
      received: () => tally.hasEvent(game_id, event_id)
    }))
  ]
})

const runVerify = Effect.fnUntraced(function* (from: DateTime.Utc) {
  const sql = yield* SqlClient.SqlClient
  const window = { from, to: DateTime.add(yield* DateTime.now, { minutes: 1 }) }
  const report = yield* verify(window).pipe(Effect.provide(LedgerRepository.layer))
  const letters = yield* sql<{ readonly text: string }>`
    SELECT kind || ' ' || error || ': ' || message || ' ' || payload::text AS text
    FROM dead_letters WHERE resolved_at IS NULL`
  return {
    effects: report.effects,
    objections: report.checks.reduce((sum, { count }) => sum + count, letters.length),
    examples: [
      ...report.checks.flatMap(({ examples, name }) =>
        examples.map(({ detail, game_id }) => `verify, ${name}: game ${game_id}: ${detail}`)
      ),
      ...letters.map(({ text }) => `a dead letter that nobody expects: ${text}`)
    ]
  }
})

/** Looks at everything that happened since an instant, while the work goes on. */
export const audit = Effect.fnUntraced(function* (
  since: DateTime.Utc,
  tally: Tally
): Effect.fn.Return<Findings, SqlError.SqlError, SqlClient.SqlClient> {
  const undone = yield* settle(yield* Effect.retry(databaseNow, Schedule.spaced("100 millis")))
  let missing = yield* listDone(since, tally)
  const checked = missing.length
  yield* Effect.sync(() => (missing = missing.filter(({ received }) => !received()))).pipe(
    Effect.repeat({ until: (left) => left.length === 0, schedule: looks }),
    Effect.timeoutOption(delivery)
  )
  const lost = [...undone, ...missing.map(({ game, what }) => `${game}: ${what} was never received`)]
  const verified = yield* runVerify(since)
  return {
    checked,
    lost: lost.length,
    stale: 0,
    objections: verified.objections,
    examples: [...lost.slice(0, examplesKept), ...verified.examples.slice(0, examplesKept)]
  }
})

/**
 * What can be known of all games when no more are planned, and what `verify` says of the whole run. The clock goes on, so
 * what is in its hand is looked at again.
 */
export const finalAudit = Effect.fnUntraced(function* (began: DateTime.Utc, load: Load, tally: Tally) {
  let findings = yield* compareAll(load, tally)
  for (let again = 0; again < 5 && findings.lost + findings.stale > 0; again++) {
    yield* Effect.sleep("1 second")
    findings = yield* compareAll(load, tally)
  }
  const { examples, objections } = yield* runVerify(began)
  return { ...findings, objections, examples: [...findings.examples, ...examples.slice(0, examplesKept)] }
})

const compareAll = Effect.fnUntraced(function* (load: Load, tally: Tally) {
  const sql = yield* SqlClient.SqlClient
  const began = yield* Clock.currentTimeMillis
  const rows = yield* sql<{
    readonly id: string
    readonly target: string
    readonly applied: boolean
    readonly due: number
    readonly by_hand: boolean
  }>`
    SELECT game.id, target, row.executed IS TRUE AND row.outcome IS NOT DISTINCT FROM 'applied' AS applied,
      floor(extract(epoch FROM row.transition_time) * 1000)::float8 AS due,
      game.title LIKE '%by hand' AS by_hand
    FROM game_sessions AS game
    CROSS JOIN unnest(ARRAY['IN_PROGRESS', 'COMPLETED']) AS target
    LEFT JOIN game_status_schedule AS row ON row.game_id = game.id AND row.target_status = target`
  const stale: Array<string> = []
  const lost: Array<string> = []
  const present = new Set<string>()
  for (const { applied, by_hand, due, id, target } of rows) {
    present.add(id)
    // What was received meanwhile is in none of the rows.
    if (!applied && tally.hasTransition(id, target, began)) {
      stale.push(`${id}: became ${target} although its schedule does not say so`)
    }
    if (applied && !tally.hasTransition(id, target)) lost.push(`${id}: ${target} was never received`)
    const startDue = tally.startDue(id)
    if (target === "IN_PROGRESS" && applied && !by_hand && startDue !== null && startDue !== due) {
      stale.push(`${id}: was started for ${startDue}, and its schedule says ${due}`)
    }
  }
  for (const id of load.acknowledged()) {
    if (!present.has(id)) lost.push(`${id}: was created with 201 and is not there`)
  }
  for (const id of load.deleted()) {
    if (present.has(id)) stale.push(`${id}: was deleted with 204 and is still there`)
    else if (!tally.wasDeleted(id)) lost.push(`${id}: was deleted with 204 and no event says so`)
  }
  return {
    checked: rows.length,
    lost: lost.length,
    stale: stale.length,
    objections: 0,
    examples: [...lost.slice(0, examplesKept), ...stale.slice(0, examplesKept)]
  } satisfies Findings
})
