/**
 * Tells what happened to a game, what will happen and when, and why something that one might expect will not.
 *
 * Pure: it is given what is on record. Each row of a schedule gets one sentence, so that none is left unexplained.
 */
import { Option } from "effect"
import { counted } from "../domain/counted.ts"
import { formatMillis as time } from "../domain/Instant.ts"
import type { EffectFacts, GameHistory, PauseFacts, RowFacts } from "./GameHistoryRepository.ts"

export interface Moment {
  /** ms since 1970 */
  readonly at: number
  readonly what: string
}

export interface Explanation {
  /** What is on record, oldest first. */
  readonly history: ReadonlyArray<Moment>
  /** What is still to come, and what keeps the rest from coming. */
  readonly outlook: ReadonlyArray<Moment>
  /** Things that nobody may have meant. */
  readonly remarks: ReadonlyArray<string>
}

/** How long something due may take before it deserves a remark, ms. */
const patience = 5000

const nameOf = ({ kind, target }: Pick<RowFacts, "kind" | "target">): string =>
  kind === "notification"
    ? `the reminder ${counted(Number(target), "minute")} before`
    : target === "IN_PROGRESS"
      ? "the start"
      : target === "COMPLETED"
        ? "the completion"
        : `the change to ${target}`

const capital = (text: string) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`

const lateness = (from: number, to: number): string => `${Math.max(0, Math.round(to - from))} ms`

const toldOf = (effect: EffectFacts, waiting: ReadonlySet<string>): string => {
  if (effect.event_id === null) return ""
  if (effect.confirmed_at !== null) {
    return `; its event ${effect.event_id} was confirmed ${lateness(effect.at, effect.confirmed_at)} later`
  }
  return waiting.has(effect.event_id)
    ? `; its event ${effect.event_id} waits in the outbox`
    : `; no confirm of its event ${effect.event_id} is on record`
}

/** The pause that kept a row from being done at an instant. */
const pauseAt = (pauses: ReadonlyArray<PauseFacts>, kind: RowFacts["kind"], at: number): PauseFacts | undefined =>
  pauses.find(
    (pause) => pause.kind === kind && pause.paused_at <= at && (pause.resumed_at === null || pause.resumed_at > at)
  )

/** `anna had paused its kind until 2026-12-31T20:00:00.000Z: a new bot` */
const pausedBy = ({ paused_by, reason, resumed_at }: PauseFacts): string =>
  `${paused_by} ${resumed_at === null ? "has paused its kind" : `had paused its kind until ${time(resumed_at)}`}${reason === null ? "" : `: ${reason}`}`

const happened = (effect: EffectFacts, { pauses, planned, waiting }: Surroundings): string => {
  const name = capital(nameOf(effect))
  // A game may be planned for a time that has passed, and then waits since it was planned.
  const since = Math.max(effect.due, planned)
  // Due during one pause and done after another: what matters is the last that it had to wait for.
  const pause = pauses.findLast(
    ({ kind, paused_at, resumed_at }) =>
      kind === effect.kind && paused_at <= effect.at && resumed_at !== null && resumed_at > since
  )
  const because = pause === undefined ? "" : ` (${pausedBy(pause)})`
  switch (effect.outcome) {
    case "superseded":
      return `${name} had no effect: the game's status no longer allowed it`
    case "skipped":
      return `${name} was skipped: the game was not scheduled any more, or its start had passed`
    case "by hand":
      return `${name} was done by hand, by a change of the game's status`
    default:
      return `${name} took effect by ${effect.replica}, ${lateness(effect.due, effect.at)} after its time${because}${toldOf(effect, waiting)}`
  }
}

/** What else there was while an effect took place. */
interface Surroundings {
  readonly waiting: ReadonlySet<string>
  readonly pauses: ReadonlyArray<PauseFacts>
  /** When the game was planned, ms since 1970; long ago if that is not known any more. */
  readonly planned: number
}

const hasRow = (history: GameHistory, target: string) => history.rows.some((row) => !row.done && row.target === target)

const toCome = (row: RowFacts, { now, pauses }: GameHistory): Moment => {
  const name = capital(nameOf(row))
  const paused = pauseAt(pauses, row.kind, now) !== undefined
  if (row.hold === "retry") {
    return { at: row.retry_at ?? row.due, what: `${name} failed ${counted(row.attempts, "time")} and is tried again` }
  }
  if (row.hold === "parked") return { at: row.due, what: `${name} was given up, see its dead letter` }
  if (row.hold === "waiting") return { at: row.due, what: `${name} is due and waits for the start, which is not done` }
  if (row.due <= now) return { at: row.due, what: `${name} is due${paused ? ", and its kind is paused" : ""}` }
  return { at: row.due, what: `${name}${paused ? ", unless its kind is still paused then" : ""}` }
}

const remarksOn = (history: GameHistory): ReadonlyArray<string> => {
  const { game, now, pauses, rows, shadow } = history
  const pending = rows.filter((row) => !row.done && (row.hold === null || row.hold === "retry"))
  const open = pauses.filter(({ kind, resumed_at }) => resumed_at === null && pending.some((row) => row.kind === kind))
  const overdue = pending.filter(
    (row) => row.hold === null && !shadow && row.due < now - patience && pauseAt(pauses, row.kind, now) === undefined
  )
  return [
    ...(shadow
      ? ["The database is in shadow: what is due is left to another system. `kickoff shadow report` compares"]
      : []),
    ...open.map(
      (pause) =>
        `Nothing of the kind ${pause.kind} is done since ${time(pause.paused_at)}, because ${pausedBy(pause)}. \`kickoff resume ${pause.kind}\` lets it go on`
    ),
    ...overdue.map(
      (row) =>
        `${capital(nameOf(row))} has been due for ${Math.round((now - row.due) / 1000)} s: no process with its role is working, or somebody holds a lock on its row or the game`
    ),
    ...Option.match(game, {
      onNone: () => ["The game is not there: it was deleted, or never existed"],
      onSome: ({ scheduled_at, status }) => [
        ...(status === "SCHEDULED" && !hasRow(history, "IN_PROGRESS")
          ? ["It is scheduled and no start is planned: `kickoff backfill` plans it"]
          : []),
        ...(status === "IN_PROGRESS" && !hasRow(history, "COMPLETED")
          ? ["It is in progress and no completion is planned: `kickoff backfill` plans it"]
          : []),
        ...rows
          .filter(
            (row) =>
              row.target === "IN_PROGRESS" &&
              !row.done &&
              status === "SCHEDULED" &&
              Math.abs(row.due - scheduled_at) >= 1
          )
          .map(
            (row) =>
              `Its start is planned for ${time(row.due)}, not for its scheduled_at ${time(scheduled_at)}: the row decides`
          )
      ]
    }),
    ...history.events
      .filter(({ attempts }) => attempts > 0)
      .map(
        ({ attempts, event_id, type }) =>
          `Its event ${event_id} (${type}) was refused ${counted(attempts, "time")} and holds back the later ones`
      )
  ]
}

export const explain = (history: GameHistory): Explanation => {
  const { effects, events, game, letters, pauses, rows } = history
  const waiting = new Set(events.map(({ event_id }) => event_id))
  const planned = Option.match(game, { onNone: () => Number.NEGATIVE_INFINITY, onSome: ({ created_at }) => created_at })
  const recorded = new Set(effects.map(({ due, target }) => `${target} ${due}`))
  const moments: ReadonlyArray<Moment> = [
    ...Option.match(game, {
      onNone: () => [],
      onSome: ({ created_at }) => [{ at: created_at, what: "The game was planned" }]
    }),
    ...effects.map((effect) => ({ at: effect.at, what: happened(effect, { pauses, planned, waiting }) })),
    // By hand, by other applications, or longer ago than the ledger was read.
    ...rows
      .filter((row) => row.done && !recorded.has(`${row.target} ${row.due}`))
      .map((row) => ({
        at: row.done_at ?? row.due,
        what: `${capital(nameOf(row))} is done${row.outcome === null ? ", not by the clock" : ` (${row.outcome})`}`
      })),
    ...letters.flatMap((letter) => [
      {
        at: letter.created_at,
        what: `Given up after ${counted(letter.attempts, "attempt")} (${letter.kind}, dead letter ${letter.id}): ${letter.error}: ${letter.message}`
      },
      ...(letter.resolved_at === null
        ? []
        : [
            {
              at: letter.resolved_at,
              what: `Dead letter ${letter.id} was ${letter.resolution} by ${letter.resolved_by}`
            }
          ])
    ])
  ]
  return {
    history: moments.toSorted((a, b) => a.at - b.at),
    outlook: [
      ...rows.filter(({ done }) => !done).map((row) => toCome(row, history)),
      ...events.map(({ event_id, occurred_at, retry_at, type }) => ({
        at: retry_at ?? occurred_at,
        what: `The event ${event_id} (${type}) waits to be published`
      }))
    ].toSorted((a, b) => a.at - b.at),
    remarks: remarksOn(history)
  }
}
