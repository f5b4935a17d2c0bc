/**
 * The relay's view of `outbox`: what can be published now, in order, and what became of it.
 *
 * There is no cursor. Numbers are given before commits, so "greater than the last" would skip whoever commits late; what
 * is confirmed is deleted, and what is there is to be published. What is gone leaves entries in the index until the server
 * cleans up; `position.ts` says from where on there can be anything.
 */
import { Context, Duration, Effect, Layer, Option } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import type { CommittedEvent } from "../domain/GameEvent.ts"
import { Replica } from "../observability/Replica.ts"
import { uptimeMillis } from "../observability/uptime.ts"
import { answerDeadline, Database } from "../postgres/Database.ts"
import { nextTry } from "../postgres/nextTry.ts"
import { instantText } from "./gameEventData.ts"
import { beginning, moveOn } from "./position.ts"

/** An event that waits, as the relay needs it. */
export interface WaitingEvent extends CommittedEvent {
  /** Its place in the order; a bigint as text. */
  readonly id: string
  /** How long ago what it tells of was due, when it was read, ms; null for what no clock did. */
  readonly due_ms_ago: number | null
}

export interface OutboxLook {
  /** Whether any event is there, also one that rests after a failure. */
  readonly waiting: boolean
  /** Until the first event that failed is tried again. */
  readonly retry: Option.Option<Duration.Duration>
}

/** What became of an event that was refused. */
export interface RefusedEvent {
  readonly attempts: number
  readonly parked: boolean
}

/** After how many lists in a row the position is moved on; a look does it too. */
const listsPerMove = 10

/** How often a look asks for the first event of all, whatever the position. */
const wholeEvery = Duration.minutes(1)

export class OutboxRepository extends Context.Service<
  OutboxRepository,
  {
    /**
     * The first events that may be published, in order. An event that rests after a failure, and all later ones of its
     * game, are left out, and so are the games that are named.
     */
    readonly list: (
      limit: number,
      exceptGames?: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyArray<WaitingEvent>, SqlError.SqlError>
    /**
     * The latest events, by what they tell of, that may be published out of turn: those that no earlier event of their game
     * is waiting before. Of that many that are looked at.
     */
    readonly listLatest: (
      limit: number,
      exceptGames?: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyArray<WaitingEvent>, SqlError.SqlError>
    readonly look: Effect.Effect<OutboxLook, SqlError.SqlError>
    /** The statement that finds an event that waits, if there is any, and its parameters; for a session outside the pools. */
    readonly firstWaiting: Effect.Effect<readonly [text: string, parameters: ReadonlyArray<string>]>
    /** Forgets what was learned of the table: it may be another one by now, on a server that took over. */
    readonly startOver: Effect.Effect<void>
    /** Forgets events that are confirmed, records that they are, and returns how many were still there. */
    readonly remove: (ids: ReadonlyArray<string>) => Effect.Effect<number, SqlError.SqlError>
    /** Counts an attempt of an event; after the last one it becomes a dead letter and the later ones of its game go on. */
    readonly recordFailure: (
      event: WaitingEvent,
      failure: { readonly error: string; readonly message: string },
      maxAttempts: number
    ) => Effect.Effect<RefusedEvent, SqlError.SqlError>
  }
>()("kickoff/outbox/OutboxRepository") {
  static readonly layer = Layer.effect(
    OutboxRepository,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const replica = yield* Replica
      const answered = (yield* Database).within(answerDeadline)

      let position = beginning
      let last = 0n
      let listsSinceMove = 0
      let wholeAt = Number.NEGATIVE_INFINITY

      const waitingEvent = sql`
        event.id::text AS id, event.event_id, event.game_id, event.type, event.data::text AS data, event.traceparent,
        ${instantText(sql, sql`event.occurred_at`)} AS time,
        (extract(epoch FROM clock_timestamp() - event.due_at) * 1000)::float8 AS due_ms_ago`
      const except = (games: ReadonlyArray<string>) =>
        games.length === 0 ? sql`` : sql`AND event.game_id NOT IN (SELECT unnest(${games}::uuid[]))`

      // What rests is read once and not looked up for each event: where the server takes the outbox for empty, as it was a
      // moment ago, each look-up may read all that rests.
      const select = (limit: number, exceptGames: ReadonlyArray<string>) => sql<WaitingEvent>`
          WITH resting AS MATERIALIZED (
            SELECT game_id, min(id) AS id FROM outbox WHERE retry_at > now() GROUP BY game_id
          )
          SELECT ${waitingEvent}
          FROM outbox AS event
          WHERE event.id >= ${String(position.from)}::bigint
            AND (event.retry_at IS NULL OR event.retry_at <= now())
            AND (
              event.game_id NOT IN (SELECT game_id FROM resting)
              OR event.id < (SELECT resting.id FROM resting WHERE resting.game_id = event.game_id)
            )
            ${except(exceptGames)}
          ORDER BY event.id
          LIMIT ${limit}`

      // A scalar subquery is looked up by index for each event; an anti-join might read the whole outbox for each instead.
      // `+ 0` keeps the index by ids out of it.
      const listLatest = Effect.fn("OutboxRepository.listLatest")(
        (limit: number, exceptGames: ReadonlyArray<string> = []) => sql<WaitingEvent>`
          SELECT ${waitingEvent}
          FROM (
            SELECT * FROM outbox AS event
            WHERE event.retry_at IS NULL ${except(exceptGames)}
            ORDER BY coalesce(event.due_at, event.occurred_at) DESC
            LIMIT ${limit}
          ) AS event
          WHERE (
            SELECT TRUE FROM outbox AS earlier
            WHERE earlier.game_id = event.game_id AND earlier.id + 0 < event.id
            LIMIT 1
          ) IS NULL`,
        answered
      )

      const look = Effect.gen(function* () {
        const now = yield* uptimeMillis
        const whole = now - wholeAt >= Duration.toMillis(wholeEvery)
        const { from } = whole ? beginning : position
        const seenBefore = last
        const [row] = yield* sql<{
          readonly first: string | null
          readonly over: string
          readonly begun: string
          readonly retry: number | null
        }>`
          SELECT
            (SELECT id FROM outbox WHERE id >= ${String(from)}::bigint ORDER BY id LIMIT 1)::text AS first,
            pg_snapshot_xmin(pg_current_snapshot())::text AS over,
            pg_current_xact_id()::text AS begun,
            (extract(epoch FROM (SELECT min(retry_at) FROM outbox WHERE retry_at IS NOT NULL) - clock_timestamp())
              * 1000)::float8 AS retry`
        const { begun = "0", first: id = null, over = "0", retry = null } = row ?? {}
        const first = id === null ? undefined : BigInt(id)
        if (whole) wholeAt = now
        listsSinceMove = 0
        position =
          first !== undefined && first < position.from
            ? beginning
            : moveOn(position, { first, over: BigInt(over), begun: BigInt(begun) }, seenBefore)
        return { waiting: first !== undefined, retry: Option.map(Option.fromNullOr(retry), Duration.millis) }
      }).pipe(answered, Effect.withSpan("OutboxRepository.look"))

      const list = Effect.fn("OutboxRepository.list")(function* (
        limit: number,
        exceptGames: ReadonlyArray<string> = []
      ) {
        if (++listsSinceMove > listsPerMove) yield* look
        const events = yield* select(limit, exceptGames)
        const highest = events.at(-1)
        if (highest !== undefined && BigInt(highest.id) > last) last = BigInt(highest.id)
        return events
      }, answered)

      const firstWaiting: OutboxRepository["Service"]["firstWaiting"] = Effect.sync(() => [
        "SELECT id FROM outbox WHERE id >= $1::bigint ORDER BY id LIMIT 1",
        [String(position.from)]
      ])

      const startOver = Effect.sync(() => {
        position = beginning
        last = 0n
        wholeAt = Number.NEGATIVE_INFINITY
      })

      const remove = Effect.fn("OutboxRepository.remove")(
        (ids: ReadonlyArray<string>) =>
          ids.length === 0
            ? Effect.succeed(0)
            : Effect.map(
                sql<{ readonly count: number }>`
                WITH confirmed AS (
                  DELETE FROM outbox WHERE id = ANY(${ids}::bigint[])
                  RETURNING event_id
                )
                INSERT INTO confirmations (replica, event_ids)
                SELECT ${replica}, array_agg(event_id)
                FROM confirmed
                HAVING count(*) > 0
                RETURNING cardinality(event_ids) AS count`,
                ([row]) => row?.count ?? 0
              ),
        answered
      )

      const recordFailure: OutboxRepository["Service"]["recordFailure"] = Effect.fn("OutboxRepository.recordFailure")(
        (event, failure, maxAttempts) =>
          Effect.map(
            sql<RefusedEvent>`
              WITH refused AS (
                UPDATE outbox
                SET attempts = attempts + 1,
                    retry_at = ${nextTry(sql, sql`attempts + 1`)}
                WHERE id = ${event.id}::bigint AND attempts + 1 < ${maxAttempts}::int
                RETURNING attempts
              ), parked AS (
                DELETE FROM outbox
                WHERE id = ${event.id}::bigint AND attempts + 1 >= ${maxAttempts}::int
                RETURNING *
              ), letter AS (
                INSERT INTO dead_letters (kind, source_id, game_id, due_at, error, message, attempts, payload)
                SELECT 'event', event_id, game_id, due_at, ${failure.error}, ${failure.message}, attempts + 1,
                  to_jsonb(parked)
                FROM parked
              )
              SELECT attempts, FALSE AS parked FROM refused
              UNION ALL
              SELECT attempts + 1, TRUE FROM parked`,
            (rows) => rows[0] ?? { attempts: 0, parked: false }
          ),
        answered
      )

      return OutboxRepository.of({ list, listLatest, look, firstWaiting, startOver, remove, recordFailure })
    })
  )
}
