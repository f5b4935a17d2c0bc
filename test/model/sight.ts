/**
 * What can be seen of every game from outside, in the form in which the model shows its own: rows, events with what
 * became of them, dead letters, ledger.
 *
 * Events are known by the number in which they came into sight: first those that were offered to the broker, in that order,
 * then those that wait. That is the order of their commits, or a fault.
 */
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import type { ScheduleKind } from "../../src/domain/ScheduleKind.ts"
import { sortLetters } from "./model.ts"
import { millisPerStep, minutesPerStep, rowName, targetName, toStep, toStepOrNull } from "./units.ts"

/** A game as it is seen, in the form of the model's `show`. */
export interface Seen {
  readonly exists: boolean
  readonly shown: object
  /** What is planned and what waits, for those who wonder why nothing happens. */
  readonly pending: object
  /** The letters with their ids. */
  readonly letters: ReadonlyArray<{ readonly id: string; readonly shown: object }>
}

/** What the broker was offered, in order, and what of it it took. */
export interface Offers {
  readonly offered: Array<CloudEvent>
  readonly taken: Array<CloudEvent>
}

export interface Observation {
  readonly games: ReadonlyMap<string, Seen>
  /** Whether engines that run by themselves had nothing to do at that moment. */
  readonly quiet: boolean
}

export const makeSight = (sql: SqlClient.SqlClient, broker: Offers) => {
  /** The number of every event that was ever seen, by its game: the order in which it came into sight. */
  const numbers = new Map<string, Map<string, { readonly number: number; readonly event: SeenEvent }>>()
  /** How many of the offered events were looked at. */
  let lookedAt = 0

  const see = (gameId: string, id: string, event: SeenEvent) => {
    const known = numbers.get(gameId) ?? new Map<string, { readonly number: number; readonly event: SeenEvent }>()
    numbers.set(gameId, known)
    if (!known.has(id)) known.set(id, { number: known.size, event })
  }

  const forget = () => {
    numbers.clear()
    lookedAt = 0
  }

  const isPaused = (kind: ScheduleKind) => sql`EXISTS (SELECT FROM pauses WHERE kind = ${kind} AND resumed_at IS NULL)`
  const mayBeTaken = sql`(hold IS NULL OR (hold = 'retry' AND retry_at <= now()))`

  const observe = Effect.gen(function* () {
    const offers = broker.offered.length
    const [tables] = yield* sql<Tables>`
      SELECT
        (SELECT coalesce(jsonb_agg(to_jsonb(row)), '[]') FROM game_sessions AS row) AS games,
        (SELECT coalesce(jsonb_agg(to_jsonb(row)), '[]') FROM game_status_schedule AS row) AS transitions,
        (SELECT coalesce(jsonb_agg(to_jsonb(row)), '[]') FROM notification_schedule AS row) AS reminders,
        (SELECT coalesce(jsonb_agg(to_jsonb(row) ORDER BY id), '[]') FROM outbox AS row) AS outbox,
        (SELECT coalesce(jsonb_agg(to_jsonb(row)), '[]') FROM dead_letters AS row) AS letters,
        (SELECT coalesce(jsonb_agg(to_jsonb(row) ORDER BY id), '[]') FROM ledger AS row) AS ledger,
        (SELECT coalesce(jsonb_agg(id), '[]') FROM (SELECT unnest(event_ids) AS id FROM confirmations) AS row)
          AS confirmed,
        NOT EXISTS (
          SELECT FROM game_status_schedule
          WHERE NOT ${isPaused("status-transition")} AND NOT executed AND transition_time <= now() AND ${mayBeTaken}
        ) AND NOT EXISTS (
          SELECT FROM notification_schedule
          WHERE NOT ${isPaused("notification")} AND NOT sent AND notification_time <= now() AND ${mayBeTaken}
        ) AND NOT EXISTS (SELECT FROM outbox) AS quiet`
    const quiet = tables?.quiet === true && broker.offered.length === offers
    if (tables === undefined) return yield* Effect.die(new Error("no tables"))
    for (; lookedAt < broker.offered.length; lookedAt += 1) {
      const event = broker.offered[lookedAt]
      if (event !== undefined) see(event.subject, event.id, event)
    }
    for (const row of tables.outbox) see(row.game_id, row.event_id, { ...row, time: row.occurred_at })

    const ids = new Set([
      ...tables.games.map(({ id }) => id),
      ...[tables.transitions, tables.reminders, tables.outbox].flat().map(({ game_id }) => game_id),
      ...tables.letters.map(({ game_id }) => game_id),
      ...numbers.keys()
    ])
    return { games: new Map([...ids].map((id) => [id, showSeen(id, tables)])), quiet }
  }).pipe(Effect.orDie)

  const showSeen = (id: string, tables: Tables): Seen => {
    const game = tables.games.find((game) => game.id === id)
    const events = [...(numbers.get(id) ?? [])]
    const numberOf = (eventId: string | null) =>
      eventId === null ? null : (numbers.get(id)?.get(eventId)?.number ?? `unknown event ${eventId}`)
    const taken = broker.taken.filter(({ subject }) => subject === id)
    const waiting = tables.outbox.filter(({ game_id }) => game_id === id)
    const transitions = tables.transitions.filter(({ game_id }) => game_id === id)
    const reminders = tables.reminders.filter(({ game_id }) => game_id === id)
    const rowIds = new Set([...transitions, ...reminders].map((row) => row.id))

    const stateOf = (eventId: string) => {
      if (waiting.some(({ event_id }) => event_id === eventId)) return "waiting"
      if (taken.some((event) => event.id === eventId)) {
        return tables.confirmed.includes(eventId) ? "confirmed" : "published without a record of it"
      }
      return tables.letters.some(({ source_id }) => source_id === eventId) ? "parked" : "lost"
    }
    const letters = tables.letters
      .filter(({ game_id }) => game_id === id)
      .map((letter) => ({
        id: letter.id,
        shown: {
          about: letter.kind === "event" ? `event ${numberOf(letter.source_id)}` : rowName(letter.payload),
          due: toStepOrNull(letter.due_at),
          attempts: letter.attempts,
          resolution: letter.resolution ?? "open",
          by: letter.resolved_by,
          gone: letter.kind !== "event" && !rowIds.has(letter.source_id)
        }
      }))
    const shown = {
      game: game === undefined ? null : showGameRow(game),
      rows: showRows(transitions, reminders),
      events: events.map(([eventId, { event }]) => ({ ...showEvent(event), state: stateOf(eventId) })),
      waiting: waiting.map(({ attempts, event_id }) => ({ event: numberOf(event_id), attempts })),
      published: taken.map((event) => numberOf(event.id)),
      letters: sortLetters(letters.map(({ shown }) => shown)),
      effects: tables.ledger.flatMap((batch) =>
        batch.source_ids.flatMap((_, index) => {
          const outcome = batch.outcomes[index]
          // What was started by hand is on record too, and was no doing of the clock.
          if (batch.game_ids[index] !== id || outcome === "by hand") return []
          return [
            {
              row: targetName(batch.targets[index] ?? ""),
              due: toStep(batch.due_at[index] ?? ""),
              outcome,
              attempts: batch.attempts[index],
              event: numberOf(batch.event_ids[index] ?? null)
            }
          ]
        })
      )
    }
    return {
      exists: game !== undefined,
      shown,
      pending: { game: shown.game, rows: shown.rows, waiting: shown.waiting },
      letters
    }
  }

  return { forget, observe }
}

interface SeenEvent {
  readonly type: string
  readonly time: string
  readonly data: Readonly<Record<string, unknown>>
}

interface ScheduleRow {
  readonly id: string
  readonly game_id: string
  readonly outcome: string | null
  readonly attempts: number
  readonly hold: string | null
}

export interface GameRow {
  readonly id: string
  readonly title: string
  readonly status: string
  readonly scheduled_at: string
  readonly expected_duration_minutes: number
  readonly reminder_minutes: ReadonlyArray<number>
  readonly version: number
}

/** What the tables hold, as JSON. */
interface Tables {
  readonly games: ReadonlyArray<GameRow>
  readonly transitions: ReadonlyArray<
    ScheduleRow & { readonly target_status: string; readonly transition_time: string; readonly executed: boolean }
  >
  readonly reminders: ReadonlyArray<
    ScheduleRow & { readonly reminder_minutes: number; readonly notification_time: string; readonly sent: boolean }
  >
  readonly outbox: ReadonlyArray<{
    readonly event_id: string
    readonly game_id: string
    readonly type: string
    readonly occurred_at: string
    readonly data: Readonly<Record<string, unknown>>
    readonly attempts: number
  }>
  readonly letters: ReadonlyArray<{
    readonly id: string
    readonly kind: string
    readonly source_id: string
    readonly game_id: string
    readonly due_at: string | null
    readonly attempts: number
    readonly payload: { readonly target_status?: string; readonly reminder_minutes?: number }
    readonly resolution: string | null
    readonly resolved_by: string | null
  }>
  readonly ledger: ReadonlyArray<{
    readonly source_ids: ReadonlyArray<string>
    readonly game_ids: ReadonlyArray<string>
    readonly targets: ReadonlyArray<string>
    readonly due_at: ReadonlyArray<string>
    readonly outcomes: ReadonlyArray<string>
    readonly attempts: ReadonlyArray<number>
    readonly event_ids: ReadonlyArray<string | null>
  }>
  readonly confirmed: ReadonlyArray<string>
  readonly quiet: boolean
}

export const showGameRow = (game: GameRow) => ({
  title: game.title,
  status: game.status,
  startsAt: toStep(game.scheduled_at),
  duration: game.expected_duration_minutes / minutesPerStep,
  reminders: game.reminder_minutes.map((minutes) => minutes / minutesPerStep).toSorted((left, right) => left - right),
  version: game.version
})

export const showRows = (transitions: Tables["transitions"], reminders: Tables["reminders"]) =>
  Object.fromEntries(
    [
      ...transitions.map((row) => ({ row, due: row.transition_time, done: row.executed })),
      ...reminders.map((row) => ({ row, due: row.notification_time, done: row.sent }))
    ].map(({ done, due, row }) => [
      rowName(row),
      { due: toStep(due), done, outcome: row.outcome, attempts: row.attempts, hold: row.hold }
    ])
  )

export const isSchedule = (
  body: object
): body is { readonly status_transitions: Tables["transitions"]; readonly notifications: Tables["reminders"] } =>
  "status_transitions" in body && "notifications" in body

export const isGameRow = (body: object): body is GameRow => "scheduled_at" in body && "version" in body

/** Members of an event that hold an instant, and those that hold a number of something. */
const instants = new Set(["scheduled_at", "transition_time", "notification_time"])

const showEvent = ({ data, time, type }: SeenEvent) => ({
  type,
  time: toStep(time),
  ...Object.fromEntries(
    Object.entries(data).flatMap(([name, value]): ReadonlyArray<[string, unknown]> => {
      if (name === "game_id") return []
      if (instants.has(name) && typeof value === "string") return [[name, toStep(value)]]
      if (name === "lateness_ms") return [["lateness", typeof value === "number" ? value / millisPerStep : value]]
      if (name === "reminder_minutes") return [["reminder", Number(value) / minutesPerStep]]
      if (name === "changed" && Array.isArray(value)) return [[name, value.map(String).toSorted()]]
      return [[name, value]]
    })
  )
})
