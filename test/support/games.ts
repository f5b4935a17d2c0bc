/** Games and schedule rows by plain SQL, as another application would write them, and what became of them. */
import { Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"

/** Inserts a game that is due to start in so many milliseconds (negative: was due) and returns its id. No schedule rows. */
export const insertGame = (startsInMs: number, options: { readonly status?: string; readonly title?: string } = {}) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ readonly id: string }>`
      INSERT INTO game_sessions (guild_id, title, status, scheduled_at)
      VALUES ('guild', ${options.title ?? "a game"}, ${options.status ?? "SCHEDULED"},
        clock_timestamp() + ${startsInMs}::float8 * interval '1 millisecond')
      RETURNING id`
    return row?.id ?? ""
  })

/** Inserts a row of `game_status_schedule`, due in so many milliseconds, and returns its id. */
export const insertTransition = (gameId: string, target: string, dueInMs: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ readonly id: string }>`
      INSERT INTO game_status_schedule (game_id, target_status, transition_time)
      VALUES (${gameId}, ${target}, clock_timestamp() + ${dueInMs}::float8 * interval '1 millisecond')
      RETURNING id`
    return row?.id ?? ""
  })

/** Inserts a row of `notification_schedule`, due in so many milliseconds, and returns its id. */
export const insertReminder = (gameId: string, minutes: number, dueInMs: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ readonly id: string }>`
      INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
      VALUES (${gameId}, ${minutes}, clock_timestamp() + ${dueInMs}::float8 * interval '1 millisecond')
      RETURNING id`
    return row?.id ?? ""
  })

/** The row of a game, with all columns. */
export const getGame = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{
      readonly guild_id: string
      readonly title: string
      readonly status: string
      readonly version: number
    }>`
      SELECT * FROM game_sessions WHERE id = ${id}`
    if (row === undefined) return yield* Effect.die(new Error(`no game ${id}`))
    return row
  })

/** The status rows of a game by their target. */
export const getTransitions = (gameId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{
      readonly id: string
      readonly target_status: string
      readonly executed: boolean
      readonly outcome: string | null
      readonly hold: string | null
      readonly attempts: number
    }>`SELECT * FROM game_status_schedule WHERE game_id = ${gameId}`
    return new Map(rows.map((row) => [row.target_status, row]))
  })

/** The events of a game in their order, as they wait in the outbox. */
export const listEvents = (gameId: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    return yield* sql<{
      readonly event_id: string
      readonly type: string
      readonly data: Readonly<Record<string, unknown>>
    }>`SELECT * FROM outbox WHERE game_id = ${gameId} ORDER BY id`
  })

/** Looks until the result satisfies the condition; the test's own timeout is the limit. */
export const eventually = <A, E, R>(look: Effect.Effect<A, E, R>, condition: (value: A) => boolean) =>
  look.pipe(
    Effect.filterOrFail(condition, () => "not yet" as const),
    Effect.retry({ schedule: Schedule.spaced("5 millis"), while: (error) => error === "not yet" })
  )
