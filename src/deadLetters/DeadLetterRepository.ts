/**
 * The statements behind the use cases of `DeadLetters.ts`: letters, and the rows and events that they are about.
 *
 * Whoever resolves a letter locks its game first, then its schedule row, then the letter: the order of everybody else.
 * A row that was waited for is read as it is after the wait, so nothing is judged by what somebody has just changed.
 */
import { Context, type DateTime, Effect, Layer, Option, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { type Guilds, narrowTo } from "../domain/Caller.ts"
import { DeadLetter, type DeadLetterId, type DeadLetterKind } from "../domain/DeadLetter.ts"
import type { GameId } from "../domain/Game.ts"
import type { GameStatus } from "../domain/GameStatus.ts"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"

/** Which letters are meant; everything is, unless told otherwise. */
export interface DeadLetterFilter {
  readonly kind?: DeadLetterKind | undefined
  readonly game_id?: GameId | undefined
  /** The guild of the letter's game; of a game that is gone the events alone have one. */
  readonly guild_id?: string | undefined
  /** When the letter was written; inclusive. */
  readonly from?: DateTime.Utc | undefined
  /** Exclusive. */
  readonly to?: DateTime.Utc | undefined
}

/** A letter's place in the list. Microseconds since 1970, because the column has them and a `Date` has not. */
export interface DeadLetterPosition {
  readonly created_micros: bigint
  readonly id: string
}

export const deadLetterStates = ["open", "resolved", "all"] as const
export type DeadLetterState = (typeof deadLetterStates)[number]

export interface DeadLetterQuery extends DeadLetterFilter {
  readonly state: DeadLetterState
  readonly after?: DeadLetterPosition | undefined
  /** Leaves out letters written after this moment, in microseconds since 1970. */
  readonly writtenUntil?: bigint | undefined
  readonly limit: number
}

export interface DeadLetterPage {
  readonly dead_letters: ReadonlyArray<DeadLetter>
  /** Where the next page begins; none on the last page. */
  readonly next: Option.Option<DeadLetterPosition>
}

/** What the letter's game says to a replay. */
export interface GameCondition {
  readonly status: GameStatus
  readonly start_passed: boolean
}

/** What the letter's schedule row says to a replay. */
export interface RowCondition {
  /** The status that the game was to take; null for a reminder. */
  readonly target: GameStatus | null
  readonly done: boolean
  /** Whether the row has another time than the letter. */
  readonly moved: boolean
}

/** How a letter was settled, and by whom. */
export interface Resolution {
  readonly resolution: NonNullable<DeadLetter["resolution"]>
  readonly by: string
}

type Query<A> = Effect.Effect<A, SqlError.SqlError>

export class DeadLetterRepository extends Context.Service<
  DeadLetterRepository,
  {
    /** Bounds the waits for locks in the rest of the transaction. */
    readonly boundLockWaits: Query<void>
    /** The database's clock, in microseconds since 1970. */
    readonly now: Query<bigint>
    /** None also for a letter of another guild; likewise below. */
    readonly find: (id: DeadLetterId, guilds: Guilds) => Query<Option.Option<DeadLetter>>
    /** Letters in the order in which they were written. */
    readonly list: (query: DeadLetterQuery, guilds: Guilds) => Query<DeadLetterPage>
    readonly lockGame: (gameId: string) => Query<Option.Option<GameCondition>>
    /** Locks the schedule row that a letter is about. */
    readonly lockRow: (id: DeadLetterId, kind: ScheduleKind) => Query<Option.Option<RowCondition>>
    readonly lock: (id: DeadLetterId, guilds: Guilds) => Query<Option.Option<DeadLetter>>
    /** Makes the schedule row a fresh one: it is claimed like any other, and wakes the engine when it is due. */
    readonly refresh: (id: DeadLetterId, kind: ScheduleKind) => Query<void>
    /** Puts the event back, the same but for its place in order. */
    readonly restoreEvent: (id: DeadLetterId) => Query<void>
    /** Settles a letter that is open; none if it is not. */
    readonly resolve: (id: DeadLetterId, resolution: Resolution, guilds: Guilds) => Query<Option.Option<DeadLetter>>
  }
>()("kickoff/deadLetters/DeadLetterRepository") {
  static readonly layer = Layer.effect(
    DeadLetterRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const letter = (rows: Query<ReadonlyArray<unknown>>) =>
        Effect.map(Effect.flatMap(rows, decodeLetters), (decoded) => Option.fromUndefinedOr(decoded[0]))

      const first = <A>(rows: Query<ReadonlyArray<A>>) => Effect.map(rows, (found) => Option.fromUndefinedOr(found[0]))

      // Seconds and microseconds apart: a double holds both exactly, and their product for distant years not.
      const instant = (micros: bigint) => sql`(
        to_timestamp(${String(micros / 1_000_000n)}::float8)
          + ${String(micros % 1_000_000n)}::int * interval '1 microsecond')`

      // A game that is gone has no guild any more, but its events say which one it had.
      const inGuilds = (guilds: Guilds) =>
        guilds === "every"
          ? sql`TRUE`
          : sql`coalesce(
              (SELECT game.guild_id FROM game_sessions AS game WHERE game.id = letter.game_id),
              letter.payload #>> '{data,guild_id}'
            ) = ANY(${guilds}::text[])`

      return DeadLetterRepository.of({
        boundLockWaits: Effect.asVoid(sql`SELECT set_config('lock_timeout', '5s', true)`),

        now: Effect.map(
          sql<{ readonly micros: string }>`
            SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint::text AS micros`,
          ([row]) => BigInt(row?.micros ?? 0)
        ),

        find: (id, guilds) =>
          letter(sql`SELECT * FROM dead_letters AS letter WHERE id = ${id}::uuid AND ${inGuilds(guilds)}`),

        list: Effect.fnUntraced(function* (
          { after, from, game_id, guild_id, kind, limit, state, to, writtenUntil }: DeadLetterQuery,
          guilds: Guilds
        ) {
          const conditions = [
            inGuilds(narrowTo(guilds, guild_id)),
            state === "open"
              ? sql`resolved_at IS NULL`
              : state === "resolved"
                ? sql`resolved_at IS NOT NULL`
                : sql`TRUE`,
            ...(kind === undefined ? [] : [sql`kind = ${kind}`]),
            ...(game_id === undefined ? [] : [sql`game_id = ${game_id}::uuid`]),
            ...(from === undefined ? [] : [sql`created_at >= ${toDate(from)}::timestamptz`]),
            ...(to === undefined ? [] : [sql`created_at < ${toDate(to)}::timestamptz`]),
            ...(writtenUntil === undefined ? [] : [sql`created_at <= ${instant(writtenUntil)}`]),
            ...(after === undefined
              ? []
              : [sql`(created_at, id) > (${instant(after.created_micros)}, ${after.id}::uuid)`])
          ]
          const rows = yield* sql<{ readonly created_micros: string; readonly id: string }>`
            SELECT *, (extract(epoch FROM created_at) * 1000000)::bigint::text AS created_micros
            FROM dead_letters AS letter
            WHERE ${sql.and(conditions)}
            ORDER BY created_at, id
            LIMIT ${limit + 1}::int`
          const page = rows.slice(0, limit)
          return {
            dead_letters: yield* decodeLetters(page),
            next: Option.fromUndefinedOr(rows.length > limit ? page.at(-1) : undefined).pipe(
              Option.map((last) => ({ created_micros: BigInt(last.created_micros), id: last.id }))
            )
          }
        }),

        lockGame: (gameId) =>
          first(sql<GameCondition>`
            SELECT status, scheduled_at <= statement_timestamp() AS start_passed
            FROM game_sessions
            WHERE id = ${gameId}::uuid
            FOR NO KEY UPDATE`),

        lockRow: (id, kind) =>
          first(
            kind === "status-transition"
              ? sql<RowCondition>`
                  SELECT row.target_status AS target, row.executed AS done,
                    row.transition_time IS DISTINCT FROM letter.due_at AS moved
                  FROM dead_letters AS letter
                  JOIN game_status_schedule AS row ON row.id = letter.source_id
                  WHERE letter.id = ${id}::uuid
                  FOR NO KEY UPDATE OF row`
              : sql<RowCondition>`
                  SELECT NULL AS target, row.sent AS done,
                    row.notification_time IS DISTINCT FROM letter.due_at AS moved
                  FROM dead_letters AS letter
                  JOIN notification_schedule AS row ON row.id = letter.source_id
                  WHERE letter.id = ${id}::uuid
                  FOR NO KEY UPDATE OF row`
          ),

        lock: (id, guilds) =>
          letter(sql`
            SELECT * FROM dead_letters AS letter WHERE id = ${id}::uuid AND ${inGuilds(guilds)} FOR UPDATE`),

        refresh: (id, kind) =>
          Effect.asVoid(
            kind === "status-transition"
              ? sql`
                  UPDATE game_status_schedule AS row
                  SET hold = NULL, attempts = 0, retry_at = NULL
                  FROM dead_letters AS letter
                  WHERE letter.id = ${id}::uuid AND row.id = letter.source_id`
              : sql`
                  UPDATE notification_schedule AS row
                  SET hold = NULL, attempts = 0, retry_at = NULL
                  FROM dead_letters AS letter
                  WHERE letter.id = ${id}::uuid AND row.id = letter.source_id`
          ),

        restoreEvent: (id) =>
          Effect.asVoid(sql`
            INSERT INTO outbox (event_id, game_id, type, occurred_at, due_at, data, traceparent)
            SELECT source_id, (payload ->> 'game_id')::uuid, payload ->> 'type',
              (payload ->> 'occurred_at')::timestamptz, (payload ->> 'due_at')::timestamptz, (payload -> 'data')::json,
              payload ->> 'traceparent'
            FROM dead_letters
            WHERE id = ${id}::uuid`),

        resolve: (id, { by, resolution }, guilds) =>
          letter(sql`
            UPDATE dead_letters AS letter
            SET resolved_at = statement_timestamp(), resolved_by = ${by}, resolution = ${resolution}
            WHERE id = ${id}::uuid AND resolved_at IS NULL AND ${inGuilds(guilds)}
            RETURNING *`)
      })
    })
  )
}

const toDate = (instant: DateTime.Utc): Date => new Date(instant.epochMilliseconds)

/** The columns are our own, so a row that does not decode is a defect. */
const decode = Schema.decodeUnknownEffect(Schema.Array(DeadLetter))
const decodeLetters = (rows: ReadonlyArray<unknown>) => Effect.orDie(decode(rows))
