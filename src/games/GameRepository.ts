/**
 * The statements behind the use cases of `Games.ts`: games, the rows of their two schedules, idempotency keys.
 *
 * Everything that writes expects to run in a transaction that has locked the game first: the schedule rows come second,
 * as in the engine, and the letters about them third, as in the triggers. Times come from the database; `statement_timestamp()`, because the lock may have been waited for.
 */
import { Context, type DateTime, Effect, Layer, Option, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { type Guilds, narrowTo } from "../domain/Caller.ts"
import type { DeadLetterKind } from "../domain/DeadLetter.ts"
import { Game, type GameId } from "../domain/Game.ts"
import type { GameStatus } from "../domain/GameStatus.ts"
import { Reminder } from "../domain/Reminder.ts"
import { Replica } from "../observability/Replica.ts"
import { currentTraceparent } from "../observability/traceContext.ts"
import { StatusTransition } from "../domain/StatusTransition.ts"
import { insertGameEvent } from "../outbox/OutboxEventStore.ts"

/** The columns that a use case writes; absent ones keep their value, or take the column's default. */
export interface GameColumns {
  readonly guild_id?: string
  readonly channel_id?: string | null
  readonly host_id?: string | null
  readonly title?: string
  readonly description?: string | null
  readonly location?: string | null
  readonly status?: GameStatus
  readonly scheduled_at?: Date
  readonly expected_duration_minutes?: number
  readonly max_players?: number | null
  readonly reminder_minutes?: ReadonlyArray<number>
}

/** A game's place in the list. Microseconds since 1970, because the column has them and a `Date` has not. */
export interface GamePosition {
  readonly scheduled_micros: bigint
  readonly id: string
}

export interface GameFilter {
  readonly guild_id?: string | undefined
  readonly status?: GameStatus | undefined
  /** Inclusive. */
  readonly from?: DateTime.Utc | undefined
  /** Exclusive. */
  readonly to?: DateTime.Utc | undefined
  readonly after?: GamePosition | undefined
  readonly limit: number
}

export interface GamePage {
  readonly games: ReadonlyArray<Game>
  /** Where the next page begins; none on the last page. */
  readonly next: Option.Option<GamePosition>
}

export interface GameSchedule {
  readonly status_transitions: ReadonlyArray<StatusTransition>
  readonly notifications: ReadonlyArray<Reminder>
}

/** How many rows were planned, for how many games. */
export interface Backfilled {
  readonly games: number
  readonly transitions: number
  readonly reminders: number
}

/** What an idempotency key was used for. */
export interface KeyUse {
  readonly request_hash: string
  readonly game_id: GameId
}

type Query<A> = Effect.Effect<A, SqlError.SqlError>

export class GameRepository extends Context.Service<
  GameRepository,
  {
    /** Bounds the waits for locks in the rest of the transaction, so that somebody else's cannot hold up a request. */
    readonly boundLockWaits: Query<void>
    /** None also for a game of another guild. */
    readonly find: (id: GameId, guilds: Guilds) => Query<Option.Option<Game>>
    /**
     * Locks the game until the end of the transaction; `deletion` keeps out those who add schedule rows as well. A game
     * of another guild is neither locked nor waited for.
     */
    readonly lock: (id: GameId, reason: "change" | "deletion", guilds: Guilds) => Query<Option.Option<Game>>
    readonly list: (filter: GameFilter, guilds: Guilds) => Query<GamePage>
    readonly schedule: (id: GameId) => Query<GameSchedule>
    /** Creates a game with its schedule and the event that tells of it: one statement, so it needs no transaction. */
    readonly create: (columns: GameColumns, id: Option.Option<GameId>) => Query<Game>
    /** Writes the columns and steps the version. */
    readonly update: (id: GameId, columns: GameColumns) => Query<Game>
    readonly remove: (id: GameId) => Query<void>

    /** Plans start and completion from the game's columns, whatever became of earlier plans. */
    readonly planTransitions: (id: GameId) => Query<void>
    /**
     * Plans the reminders that are still in the future. One that was sent is sent again only if its time has changed;
     * one that is due at this moment stays; those that are not wanted any more go.
     */
    readonly planReminders: (id: GameId, by: string) => Query<void>
    /** Moves the pending completion of a running game. */
    readonly moveCompletion: (id: GameId, minutes: number) => Query<void>
    /** Marks the start as done and plans the completion from now. */
    readonly recordStart: (id: GameId) => Query<void>
    readonly dropPendingTransitions: (id: GameId) => Query<void>
    readonly dropPendingReminders: (id: GameId) => Query<void>
    /** Plans what games of any origin lack: rows that their status asks for, and reminders that are still to come. */
    readonly backfill: Query<Backfilled>
    /**
     * Resolves the open dead letters that a change of the game has made pointless. It locks the rows before, and so waits
     * for who is moving one or giving it up.
     */
    readonly supersedeDeadLetters: (id: GameId, kinds: ReadonlyArray<DeadLetterKind>, by: string) => Query<void>

    /** Takes an unused or forgotten key and reserves a game's id for it; waits for a request that is just taking it. */
    readonly takeKey: (key: string, requestHash: string) => Query<Option.Option<GameId>>
    readonly findKey: (key: string) => Query<Option.Option<KeyUse>>
    /** Deletes a few keys that nobody can use any more. */
    readonly pruneKeys: Query<void>
  }
>()("kickoff/games/GameRepository") {
  static readonly layer = Layer.effect(
    GameRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const replica = yield* Replica

      const games = (rows: Query<ReadonlyArray<unknown>>) => Effect.flatMap(rows, decodeGames)
      const game = (rows: Query<ReadonlyArray<unknown>>) =>
        Effect.map(games(rows), (decoded) => Option.fromUndefinedOr(decoded[0]))
      const theGame = (rows: Query<ReadonlyArray<unknown>>) =>
        Effect.flatMap(game(rows), (found) => Effect.orDie(Effect.fromOption(found)))

      const inGuilds = (guilds: Guilds) =>
        guilds === "every"
          ? sql`TRUE`
          : guilds.length === 1
            ? // For one guild there is an index in the order of the list.
              sql`guild_id = ${guilds[0]}`
            : sql`guild_id = ANY(${guilds}::text[])`

      // What the columns of the row `game` ask for.
      const plannedTransitions = sql`SELECT game.id, planned.target_status, planned.transition_time`
      const eachTransition = sql`
        CROSS JOIN LATERAL (VALUES
          ('IN_PROGRESS', game.scheduled_at),
          ('COMPLETED', game.scheduled_at + make_interval(mins => game.expected_duration_minutes))
        ) AS planned (target_status, transition_time)`
      const wantedReminders = sql`
        SELECT DISTINCT game.id AS game_id, minutes AS reminder_minutes,
          game.scheduled_at - make_interval(mins => minutes) AS notification_time`
      const eachReminder = sql`unnest(game.reminder_minutes) AS minutes`
      // The transitions that a status asks for.
      const wantedTransitions = sql`
        (VALUES ('SCHEDULED', 'IN_PROGRESS'), ('SCHEDULED', 'COMPLETED'), ('IN_PROGRESS', 'COMPLETED'))
          AS wanted (status, target_status)`

      return GameRepository.of({
        boundLockWaits: Effect.asVoid(sql`SELECT set_config('lock_timeout', '5s', true)`),

        find: (id, guilds) => game(sql`SELECT * FROM game_sessions WHERE id = ${id}::uuid AND ${inGuilds(guilds)}`),

        lock: (id, reason, guilds) =>
          game(
            sql`
              SELECT * FROM game_sessions WHERE id = ${id}::uuid AND ${inGuilds(guilds)}
              ${reason === "change" ? sql`FOR NO KEY UPDATE` : sql`FOR UPDATE`}`
          ),

        list: Effect.fnUntraced(function* ({ after, from, guild_id, limit, status, to }, guilds) {
          const conditions = [
            inGuilds(narrowTo(guilds, guild_id)),
            ...(status === undefined ? [] : [sql`status = ${status}`]),
            ...(from === undefined ? [] : [sql`scheduled_at >= ${toDate(from)}::timestamptz`]),
            ...(to === undefined ? [] : [sql`scheduled_at < ${toDate(to)}::timestamptz`]),
            // Seconds and microseconds apart: a double holds both exactly, and their product for distant years not.
            ...(after === undefined
              ? []
              : [
                  sql`(scheduled_at, id) > (
                    to_timestamp(${String(after.scheduled_micros / 1_000_000n)}::float8)
                      + ${String(after.scheduled_micros % 1_000_000n)}::int * interval '1 microsecond',
                    ${after.id}::uuid
                  )`
                ])
          ]
          const rows = yield* sql<{ readonly scheduled_micros: string; readonly id: string }>`
            SELECT *, (extract(epoch FROM scheduled_at) * 1000000)::bigint::text AS scheduled_micros
            FROM game_sessions
            WHERE ${sql.and(conditions)}
            ORDER BY scheduled_at, id
            LIMIT ${limit + 1}::int`
          const page = rows.slice(0, limit)
          return {
            games: yield* decodeGames(page),
            next: Option.fromUndefinedOr(rows.length > limit ? page.at(-1) : undefined).pipe(
              Option.map((last) => ({ scheduled_micros: BigInt(last.scheduled_micros), id: last.id }))
            )
          }
        }),

        schedule: Effect.fnUntraced(function* (id) {
          const transitions = yield* sql`
            SELECT * FROM game_status_schedule WHERE game_id = ${id}::uuid ORDER BY transition_time, target_status DESC`
          const reminders = yield* sql`
            SELECT * FROM notification_schedule WHERE game_id = ${id}::uuid ORDER BY notification_time, id`
          return {
            status_transitions: yield* decodeTransitions(transitions),
            notifications: yield* decodeReminders(reminders)
          }
        }),

        create: Effect.fnUntraced(function* (columns, id) {
          const traceparent = yield* currentTraceparent
          return yield* theGame(sql`
            WITH game AS (
              INSERT INTO game_sessions ${sql.insert({
                ...columns,
                ...Option.match(id, { onNone: () => ({}), onSome: (id) => ({ id }) })
              })}
              RETURNING *
            ), transitions AS (
              INSERT INTO game_status_schedule (game_id, target_status, transition_time, traceparent)
              ${plannedTransitions}, ${traceparent}::text FROM game ${eachTransition}
            ), reminders AS (
              INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time, traceparent)
              SELECT *, ${traceparent}::text FROM (${wantedReminders} FROM game, ${eachReminder}) AS wanted
              WHERE notification_time > statement_timestamp()
            ), told AS (
              ${insertGameEvent(sql, "game.created", traceparent)} FROM game
            )
            SELECT * FROM game`)
        }),

        update: (id, columns) =>
          theGame(sql`
            UPDATE game_sessions
            SET ${sql.update({ ...columns })}, version = version + 1, updated_at = statement_timestamp()
            WHERE id = ${id}::uuid
            RETURNING *`),

        remove: (id) => Effect.asVoid(sql`DELETE FROM game_sessions WHERE id = ${id}::uuid`),

        // The hold is lifted here as well: the trigger does it only where the time or the flag really changes.
        planTransitions: Effect.fnUntraced(function* (id) {
          const traceparent = yield* currentTraceparent
          yield* sql`
            INSERT INTO game_status_schedule AS row (game_id, target_status, transition_time, traceparent)
            ${plannedTransitions}, ${traceparent}::text FROM game_sessions AS game ${eachTransition}
            WHERE game.id = ${id}::uuid
            ON CONFLICT (game_id, target_status) DO UPDATE
            SET transition_time = EXCLUDED.transition_time, traceparent = EXCLUDED.traceparent, executed = FALSE,
              hold = NULL, attempts = 0, retry_at = NULL`
        }),

        planReminders: Effect.fnUntraced(function* (id, by) {
          const traceparent = yield* currentTraceparent
          const wanted = sql`
            ${wantedReminders} FROM game_sessions AS game, ${eachReminder}
            WHERE game.id = ${id}::uuid`
          yield* sql`
            WITH gone AS (
              DELETE FROM notification_schedule AS row
              WHERE row.game_id = ${id}::uuid AND NOT EXISTS (
                SELECT FROM (${wanted}) AS wanted
                WHERE wanted.reminder_minutes = row.reminder_minutes
                  AND (row.sent OR wanted.notification_time = row.notification_time
                    OR wanted.notification_time > statement_timestamp())
              )
              RETURNING row.id
            )
            UPDATE dead_letters AS letter
            SET resolved_at = statement_timestamp(), resolved_by = ${by}, resolution = 'superseded'
            FROM gone
            WHERE letter.source_id = gone.id AND letter.resolved_at IS NULL`
          yield* sql`
            INSERT INTO notification_schedule AS row (game_id, reminder_minutes, notification_time, traceparent)
            SELECT game_id, reminder_minutes, notification_time, ${traceparent}::text
            FROM (${wanted}) AS wanted
            WHERE notification_time > statement_timestamp()
            ON CONFLICT (game_id, reminder_minutes) DO UPDATE
            SET notification_time = EXCLUDED.notification_time, traceparent = EXCLUDED.traceparent, sent = FALSE,
              hold = NULL, attempts = 0, retry_at = NULL
            WHERE row.notification_time <> EXCLUDED.notification_time`
        }),

        moveCompletion: Effect.fnUntraced(function* (id, minutes) {
          const traceparent = yield* currentTraceparent
          yield* sql`
            UPDATE game_status_schedule
            SET transition_time = transition_time + make_interval(mins => ${minutes}::int),
              traceparent = ${traceparent}::text
            WHERE game_id = ${id}::uuid AND target_status = 'COMPLETED' AND executed = FALSE`
        }),

        recordStart: Effect.fnUntraced(function* (id) {
          yield* sql`
            WITH started AS (
              INSERT INTO game_status_schedule
                (game_id, target_status, transition_time, executed, executed_at, outcome)
              VALUES (${id}::uuid, 'IN_PROGRESS', statement_timestamp(), TRUE, statement_timestamp(), 'applied')
              ON CONFLICT (game_id, target_status) DO UPDATE
              SET executed = TRUE, executed_at = EXCLUDED.executed_at, outcome = EXCLUDED.outcome
              RETURNING id, transition_time
            )
            INSERT INTO ledger (replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
            SELECT ${replica}, 'status-transition', ARRAY[id], ARRAY[${id}::uuid], ARRAY['IN_PROGRESS'],
              ARRAY[transition_time], ARRAY['by hand'], ARRAY[0], ARRAY[NULL::uuid]
            FROM started`
          const traceparent = yield* currentTraceparent
          yield* sql`
            INSERT INTO game_status_schedule (game_id, target_status, transition_time, traceparent)
            SELECT id, 'COMPLETED', statement_timestamp() + make_interval(mins => expected_duration_minutes),
              ${traceparent}::text
            FROM game_sessions
            WHERE id = ${id}::uuid
            ON CONFLICT (game_id, target_status) DO UPDATE
            SET transition_time = EXCLUDED.transition_time, traceparent = EXCLUDED.traceparent, executed = FALSE,
              hold = NULL, attempts = 0, retry_at = NULL`
        }),

        // Games that lack something are locked in one order, and read as they are then: one that is being cancelled gets
        // no rows, and one that is being deleted does not make the others fail.
        backfill: Effect.map(
          sql<Backfilled>`
            WITH game AS MATERIALIZED (
              SELECT game.* FROM game_sessions AS game
              WHERE game.status IN ('SCHEDULED', 'IN_PROGRESS') AND (
                EXISTS (
                  SELECT FROM ${wantedTransitions}
                  WHERE wanted.status = game.status AND NOT EXISTS (
                    SELECT FROM game_status_schedule AS row
                    WHERE row.game_id = game.id AND row.target_status = wanted.target_status
                  )
                ) OR EXISTS (
                  SELECT FROM ${eachReminder}
                  WHERE game.status = 'SCHEDULED'
                    AND game.scheduled_at - make_interval(mins => minutes) > statement_timestamp()
                    AND NOT EXISTS (
                      SELECT FROM notification_schedule AS row
                      WHERE row.game_id = game.id AND row.reminder_minutes = minutes
                    )
                )
              )
              ORDER BY game.id
              FOR NO KEY UPDATE
            ), transitions AS (
              INSERT INTO game_status_schedule (game_id, target_status, transition_time)
              ${plannedTransitions}
              FROM game ${eachTransition}
              JOIN ${wantedTransitions} ON wanted.status = game.status AND wanted.target_status = planned.target_status
              ON CONFLICT (game_id, target_status) DO NOTHING
              RETURNING game_id
            ), reminders AS (
              INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
              SELECT * FROM (${wantedReminders} FROM game, ${eachReminder} WHERE game.status = 'SCHEDULED') AS wanted
              WHERE notification_time > statement_timestamp()
              ON CONFLICT (game_id, reminder_minutes) DO NOTHING
              RETURNING game_id
            )
            SELECT
              (SELECT count(*) FROM transitions)::int AS transitions,
              (SELECT count(*) FROM reminders)::int AS reminders,
              (SELECT count(DISTINCT game_id) FROM (TABLE transitions UNION ALL TABLE reminders) AS planned)::int
                AS games`,
          ([row]) => row ?? { games: 0, transitions: 0, reminders: 0 }
        ),

        dropPendingTransitions: (id) =>
          Effect.asVoid(sql`DELETE FROM game_status_schedule WHERE game_id = ${id}::uuid AND executed = FALSE`),

        dropPendingReminders: (id) =>
          Effect.asVoid(sql`DELETE FROM notification_schedule WHERE game_id = ${id}::uuid AND sent = FALSE`),

        // Two statements: what was waited for in the first is seen by the second.
        supersedeDeadLetters: Effect.fnUntraced(function* (id, kinds, by) {
          yield* sql`
            WITH transitions AS (
              SELECT FROM game_status_schedule
              WHERE game_id = ${id}::uuid AND 'status-transition' = ANY(${kinds}::text[])
              FOR NO KEY UPDATE
            ), reminders AS (
              SELECT FROM notification_schedule
              WHERE game_id = ${id}::uuid AND 'notification' = ANY(${kinds}::text[])
              FOR NO KEY UPDATE
            )
            SELECT (SELECT count(*) FROM transitions) + (SELECT count(*) FROM reminders) AS locked`
          yield* sql`
            UPDATE dead_letters
            SET resolved_at = statement_timestamp(), resolved_by = ${by}, resolution = 'superseded'
            WHERE game_id = ${id}::uuid AND resolved_at IS NULL AND kind = ANY(${kinds}::text[])`
        }),

        takeKey: (key, requestHash) =>
          Effect.map(
            sql<{ readonly game_id: GameId }>`
              INSERT INTO idempotency_keys AS used (key, request_hash, game_id)
              VALUES (${key}, ${requestHash}, time_ordered_id())
              ON CONFLICT (key) DO UPDATE
              SET request_hash = EXCLUDED.request_hash, game_id = EXCLUDED.game_id, created_at = statement_timestamp()
              WHERE used.created_at < statement_timestamp() - interval '24 hours'
              RETURNING game_id`,
            (rows) => Option.fromUndefinedOr(rows[0]?.game_id)
          ),

        findKey: (key) =>
          Effect.map(sql<KeyUse>`SELECT request_hash, game_id FROM idempotency_keys WHERE key = ${key}`, (rows) =>
            Option.fromUndefinedOr(rows[0])
          ),

        // An hour more than the promise, so that no key goes between being refused and being read.
        pruneKeys: Effect.asVoid(sql`
          DELETE FROM idempotency_keys
          WHERE key IN (
            SELECT key FROM idempotency_keys
            WHERE created_at < statement_timestamp() - interval '25 hours'
            ORDER BY created_at
            LIMIT 10
            FOR UPDATE SKIP LOCKED
          )`)
      })
    })
  )
}

const toDate = (instant: DateTime.Utc): Date => new Date(instant.epochMilliseconds)

/** The columns are our own, so a row that does not decode is a defect. */
const decodeRows = <S extends Schema.ConstraintDecoder<unknown>>(row: S) => {
  const decode = Schema.decodeUnknownEffect(Schema.Array(row))
  return (rows: ReadonlyArray<unknown>) => Effect.orDie(decode(rows))
}
const decodeGames = decodeRows(Game)
const decodeTransitions = decodeRows(StatusTransition)
const decodeReminders = decodeRows(Reminder)
