/**
 * The reference model: what the service promises about one game, in memory and without time, locks or SQL.
 *
 * It is written from the promises, the bookkeeping table and the rules of events, not from the code, and it knows nothing
 * of other games: whatever happens to a game depends on that game alone. Instants are steps of ten minutes.
 */
import type { Engine, Kind, RowName, Status } from "./commands.ts"

/** Tries of a row or event before an engine gives it up: one gives up at once, the other tries again. */
export const maxAttempts: Readonly<Record<Engine, number>> = { A: 1, B: 2 }

/** Steps after which an idempotency key is forgotten: 24 hours. */
export const keyLife = 144

export interface Row {
  /** Which row of this name it is: another application may delete one and insert another. */
  readonly born: number
  due: number
  done: boolean
  outcome: "applied" | "superseded" | "sent" | "skipped" | null
  attempts: number
  hold: "retry" | "waiting" | "parked" | null
  /** When the last attempt failed. */
  failedAt: number | null
}

export interface Told {
  readonly type: string
  /** The members of `data`, and `time`. */
  readonly data: Readonly<Record<string, unknown>>
  state: "waiting" | "confirmed" | "parked"
  attempts: number
  failedAt: number | null
}

export interface Letter {
  /** The name of the row, or `event` and its number. */
  readonly about: string
  /** Which row of that name; null for an event. */
  readonly born: number | null
  readonly due: number | null
  readonly attempts: number
  resolution: "open" | "replayed" | "discarded" | "superseded"
  /** Who settled it: a client, or whoever made the row a fresh one. */
  by: "api" | "schedule change" | null
}

/** What the clock did, as the ledger has it. */
export interface Effected {
  readonly row: RowName
  readonly due: number
  readonly outcome: string
  /** Attempts that had failed before. */
  readonly attempts: number
  /** The number of the event that tells of it. */
  readonly event: number | null
}

export interface Game {
  exists: boolean
  title: string
  status: Status
  startsAt: number
  duration: number
  reminders: ReadonlyArray<number>
  version: number
  rows: Partial<Record<RowName, Row>>
  births: number
  poisoned: boolean
  /** All events in the order in which they were committed. */
  events: Array<Told>
  /** Numbers of the events that wait, in the order in which they are to be published. */
  waiting: Array<number>
  /** Numbers of the events that were published, in that order. */
  published: Array<number>
  letters: Array<Letter>
  effects: Array<Effected>
}

/** What a game is made of. */
export type Fields = Readonly<Pick<Game, "title" | "status" | "startsAt" | "duration" | "reminders">>

export interface Patch {
  readonly title?: string
  readonly status?: Status
  readonly startsAt?: number
  readonly duration?: number
  readonly reminders?: ReadonlyArray<number>
}

/** A planned row of a game, as another application inserts it. */
export interface PlannedRow {
  readonly row: RowName
  readonly due: number
}

/** What happens to one game, in absolute times and with the version and the letter that are meant. */
export type Act =
  | { readonly _tag: "Repeat" }
  | { readonly _tag: "Edit"; readonly patch: Patch; readonly ifMatch: number | null }
  | { readonly _tag: "Cancel"; readonly ifMatch: number | null }
  | { readonly _tag: "Delete"; readonly ifMatch: number | null }
  | { readonly _tag: "Settle"; readonly verb: "replay" | "discard"; readonly letter: number }
  | { readonly _tag: "InsertRow"; readonly row: RowName; readonly due: number }
  | { readonly _tag: "MoveRow"; readonly row: RowName; readonly due: number }
  | { readonly _tag: "MarkRow"; readonly row: RowName; readonly done: boolean }
  | { readonly _tag: "DeleteRow"; readonly row: RowName }
  | { readonly _tag: "UpdateGame"; readonly patch: Omit<Patch, "duration" | "reminders"> }
  | { readonly _tag: "Backfill" }
  | { readonly _tag: "Poison"; readonly on: boolean }

/** What a caller is told: of an API the status and what matters of the body, of SQL whether it was done. */
export type Answer = Readonly<Record<string, unknown>>

const done: Answer = { sql: "done" }

export const kindOf = (row: RowName): Kind => (row === "start" || row === "end" ? "status-transition" : "notification")
export const reminderRow = (reminder: number): RowName => `reminder ${reminder}` as RowName
export const reminderOf = (row: RowName): number => Number(row.slice(-1))

/** The game as the API shows it. */
export const showGame = ({ duration, reminders, startsAt, status, title, version }: Game) => ({
  title,
  status,
  startsAt,
  duration,
  reminders: reminders.toSorted((left, right) => left - right),
  version
})

/** A letter as people can tell it from others. */
export const showLetter = (game: Game, { about, attempts, born, by, due, resolution }: Letter) => ({
  about,
  due,
  attempts,
  resolution,
  by,
  /** Whether what it is about is there no longer. */
  gone: born !== null && game.rows[about as RowName]?.born !== born
})

/** Everything that can be seen of a game from outside, without the order of what has none. */
export const show = (game: Game) => ({
  game: game.exists ? showGame(game) : null,
  rows: Object.fromEntries(
    Object.entries(game.rows).map(([name, { attempts, done, due, hold, outcome }]) => [
      name,
      { due, done, outcome, attempts, hold }
    ])
  ),
  events: game.events.map(({ data, state, type }) => ({ type, ...data, state })),
  waiting: game.waiting.map((event) => ({ event, attempts: game.events[event]?.attempts })),
  published: game.published,
  letters: sortLetters(game.letters.map((letter) => showLetter(game, letter))),
  effects: game.effects
})

/** Letters that were written at one moment have no order. */
export const sortLetters = <A>(letters: ReadonlyArray<A>): ReadonlyArray<A> =>
  letters.toSorted((left, right) => (JSON.stringify(left) < JSON.stringify(right) ? -1 : 1))

const change = (game: Game, edit: (draft: Game) => void): Game => {
  const draft = structuredClone(game)
  edit(draft)
  return draft
}

const tell = (game: Game, now: number, type: string, more: Readonly<Record<string, unknown>> = {}): number => {
  const { startsAt, status, title, version } = game
  game.events.push({
    type,
    data: {
      time: now,
      title,
      guild_id: "guild",
      channel_id: null,
      host_id: null,
      status,
      scheduled_at: startsAt,
      version,
      ...more
    },
    state: "waiting",
    attempts: 0,
    failedAt: null
  })
  const event = game.events.length - 1
  game.waiting.push(event)
  return event
}

const supersede = (game: Game, by: Letter["by"], which: (letter: Letter) => boolean) => {
  for (const letter of game.letters) {
    if (letter.resolution === "open" && which(letter)) Object.assign(letter, { resolution: "superseded", by })
  }
}

const isAboutRow = (letter: Letter) => letter.born !== null
const isAboutTransition = ({ about }: Letter) => about === "start" || about === "end"

/** A row that is as if it had just been planned; whatever was given up about it is pointless. */
const makeFresh = (game: Game, name: RowName, row: Row) => {
  if (row.hold === "parked")
    supersede(game, "schedule change", ({ about, born }) => about === name && born === row.born)
  row.hold = null
  row.attempts = 0
  row.failedAt = null
}

const insert = (game: Game, name: RowName, due: number): Row => {
  const row: Row = { born: game.births++, due, done: false, outcome: null, attempts: 0, hold: null, failedAt: null }
  game.rows[name] = row
  return row
}

/** Plans a row anew, whatever became of it before. */
const plan = (game: Game, name: RowName, due: number) => {
  const row = game.rows[name]
  if (row === undefined) insert(game, name, due)
  else {
    makeFresh(game, name, row)
    row.due = due
    row.done = false
    row.outcome = null
  }
}

const drop = (game: Game, name: RowName) => {
  const row = game.rows[name]
  if (row === undefined) return
  supersede(game, "api", ({ about, born }) => about === name && born === row.born)
  delete game.rows[name]
}

/** The rows of a game by their names. */
export const rowsOf = (game: Game): ReadonlyArray<[RowName, Row]> =>
  // The keys are those of the type, which Object.entries forgets.
  Object.entries(game.rows) as Array<[RowName, Row]>

const dropPending = (game: Game, kind: Kind) => {
  for (const [name, row] of rowsOf(game)) if (kindOf(name) === kind && !row.done) drop(game, name)
}

const planTransitions = (game: Game) => {
  plan(game, "start", game.startsAt)
  plan(game, "end", game.startsAt + game.duration)
}

/** One that was sent is sent again only if its time has changed; one that is due at this moment stays. */
const planReminders = (game: Game, now: number) => {
  const wanted = new Map(game.reminders.map((reminder) => [reminderRow(reminder), game.startsAt - reminder]))
  for (const [name, row] of rowsOf(game)) {
    if (kindOf(name) !== "notification") continue
    const due = wanted.get(name)
    const stays = due !== undefined && (row.done || due === row.due || due > now)
    if (!stays) drop(game, name)
  }
  for (const [name, due] of wanted) if (due > now && game.rows[name]?.due !== due) plan(game, name, due)
}

/** A start was executed: a completion that waits for it waits no longer. */
const release = (game: Game) => {
  const end = game.rows.end
  if (end?.hold === "waiting") end.hold = null
}

/** A game as it comes into being: by the API with its plans, by SQL as its writer says. */
export const create = (fields: Fields, now: number, by: "api" | ReadonlyArray<PlannedRow>): Game => {
  const game: Game = {
    ...fields,
    reminders: [...new Set(fields.reminders)],
    exists: true,
    version: 1,
    rows: {},
    births: 0,
    poisoned: false,
    events: [],
    waiting: [],
    published: [],
    letters: [],
    effects: []
  }
  if (by === "api") {
    planTransitions(game)
    planReminders(game, now)
    tell(game, now, "game.created")
  } else {
    for (const { due, row } of by) insert(game, row, due)
  }
  return game
}

const successors: Readonly<Record<Status, ReadonlyArray<Status>>> = {
  SCHEDULED: ["IN_PROGRESS", "CANCELLED"],
  IN_PROGRESS: ["COMPLETED", "CANCELLED"],
  COMPLETED: [],
  CANCELLED: []
}

const eventOf: Readonly<Record<Exclude<Status, "SCHEDULED">, string>> = {
  IN_PROGRESS: "game.started",
  COMPLETED: "game.completed",
  CANCELLED: "game.cancelled"
}

/** Nothing follows it. */
export const isFinal = (status: Status) => successors[status].length === 0

/** The names that the fields have outside. */
const fieldNames = {
  title: "title",
  startsAt: "scheduled_at",
  duration: "expected_duration_minutes",
  reminders: "reminder_minutes"
} as const

const sameReminders = (left: ReadonlyArray<number>, right: ReadonlyArray<number>) =>
  new Set(left).size === new Set(right).size && left.every((reminder) => right.includes(reminder))

/** What of a patch differs from the game. */
const changesOf = (game: Game, patch: Patch): Patch =>
  Object.fromEntries(
    Object.entries(patch).filter(([name, value]) =>
      name === "reminders"
        ? !sameReminders(value as ReadonlyArray<number>, game.reminders)
        : value !== game[name as keyof Patch]
    )
  )

const edit = (game: Game, given: Patch, ifMatch: number | null, now: number): readonly [Game, Answer] => {
  const refused = (status: number) => [game, { status }] as const
  if (!game.exists) return refused(404)
  if (ifMatch !== null && ifMatch !== game.version) return refused(412)
  const patch = changesOf(game, given)
  const after = patch.status ?? game.status
  if (Object.keys(patch).length === 0) return [game, { status: 200, game: showGame(game) }]
  if (patch.status !== undefined && !successors[game.status].includes(patch.status)) return refused(409)
  if (patch.startsAt !== undefined && after !== "SCHEDULED") return refused(409)
  if ((patch.duration !== undefined || patch.reminders !== undefined) && isFinal(after)) return refused(409)

  const changed = change(game, (draft) => {
    Object.assign(draft, patch, patch.reminders === undefined ? {} : { reminders: [...new Set(patch.reminders)] })
    draft.version += 1
    if (patch.status !== undefined) {
      supersede(draft, "api", isAboutRow)
      dropPending(draft, "notification")
      if (draft.status === "IN_PROGRESS") {
        const start = draft.rows.start ?? insert(draft, "start", now)
        if (!start.done) makeFresh(draft, "start", start)
        start.done = true
        start.outcome = "applied"
        plan(draft, "end", now + draft.duration)
      } else dropPending(draft, "status-transition")
      tell(draft, now, eventOf[draft.status as keyof typeof eventOf], { transition_time: null, lateness: null })
    } else if (draft.status === "SCHEDULED") {
      const moved = patch.startsAt !== undefined
      if (moved || patch.duration !== undefined) {
        supersede(draft, "api", moved ? isAboutRow : isAboutTransition)
        planTransitions(draft)
      }
      if (moved || patch.duration !== undefined || patch.reminders !== undefined) planReminders(draft, now)
    } else if (draft.status === "IN_PROGRESS" && patch.duration !== undefined) {
      supersede(draft, "api", isAboutTransition)
      const end = draft.rows.end
      if (end !== undefined && !end.done) {
        makeFresh(draft, "end", end)
        end.due += draft.duration - game.duration
      }
    }
    const names = Object.entries(fieldNames).flatMap(([name, outside]) => (name in patch ? [outside] : []))
    if (names.length > 0) tell(draft, now, "game.updated", { changed: names.toSorted() })
  })
  return [changed, { status: 200, game: showGame(changed) }]
}

const remove = (game: Game, ifMatch: number | null, now: number): readonly [Game, Answer] => {
  if (!game.exists) return [game, { status: 404 }]
  if (ifMatch !== null && ifMatch !== game.version) return [game, { status: 412 }]
  return [
    change(game, (draft) => {
      draft.version += 1
      supersede(draft, "api", isAboutRow)
      tell(draft, now, "game.deleted")
      draft.rows = {}
      draft.exists = false
    }),
    { status: 204 }
  ]
}

/** Whether what was given up about a row is still wanted. */
const isWanted = (game: Game, name: RowName, row: Row, letter: Letter, now: number): boolean => {
  if (row.born !== letter.born || row.done || row.due !== letter.due) return false
  if (kindOf(name) === "notification") return game.status === "SCHEDULED" && game.startsAt > now
  if (name === "start") return game.status === "SCHEDULED"
  return game.status === "IN_PROGRESS" || game.status === "SCHEDULED"
}

const settle = (game: Game, verb: "replay" | "discard", index: number, now: number): readonly [Game, Answer] => {
  if (game.letters[index]?.resolution !== "open") return [game, { status: 409 }]
  const settled = change(game, (draft) => {
    const letter = draft.letters[index]
    if (letter === undefined) return
    letter.by = "api"
    if (verb === "discard") {
      letter.resolution = "discarded"
      return
    }
    letter.resolution = "replayed"
    if (letter.born === null) {
      const number = Number(letter.about.slice("event ".length))
      const event = draft.events[number]
      if (event === undefined) return
      event.state = "waiting"
      event.attempts = 0
      event.failedAt = null
      draft.waiting.push(number)
      return
    }
    const name = letter.about as RowName
    const row = draft.rows[name]
    if (!draft.exists || row === undefined || !isWanted(draft, name, row, letter, now)) letter.resolution = "superseded"
    else {
      row.hold = null
      row.attempts = 0
    }
  })
  return [settled, { status: 200, resolution: settled.letters[index]?.resolution }]
}

/** What another application does to a row of the schedule. */
const write = (game: Game, name: RowName, writing: (draft: Game, row: Row) => void): readonly [Game, Answer] => [
  change(game, (draft) => {
    const row = draft.rows[name]
    if (row !== undefined) writing(draft, row)
  }),
  done
]

/** What something does to a game, and what its author is told. */
export const perform = (game: Game, act: Act, now: number): readonly [Game, Answer] => {
  switch (act._tag) {
    case "Repeat":
      return [game, game.exists ? { status: 201, game: showGame(game) } : { status: 409 }]
    case "Edit":
      return edit(game, act.patch, act.ifMatch, now)
    case "Cancel":
      return edit(game, { status: "CANCELLED" }, act.ifMatch, now)
    case "Delete":
      return remove(game, act.ifMatch, now)
    case "Settle":
      return settle(game, act.verb, act.letter, now)
    case "InsertRow":
      if (!game.exists) return [game, { sql: "no such game" }]
      return [
        change(game, (draft) => {
          if (draft.rows[act.row] === undefined) insert(draft, act.row, act.due)
        }),
        done
      ]
    case "MoveRow":
      return write(game, act.row, (draft, row) => {
        if (row.due !== act.due) {
          makeFresh(draft, act.row, row)
          row.due = act.due
        }
        if (act.row === "start" && row.done) release(draft)
      })
    case "MarkRow":
      return write(game, act.row, (draft, row) => {
        if (row.done !== act.done) {
          makeFresh(draft, act.row, row)
          row.done = act.done
          row.outcome = null
        }
        if (act.row === "start" && row.done) release(draft)
      })
    case "DeleteRow":
      return write(game, act.row, (draft) => {
        delete draft.rows[act.row]
      })
    case "UpdateGame":
      return [
        game.exists
          ? change(game, (draft) => {
              Object.assign(draft, act.patch)
              draft.version += 1
            })
          : game,
        done
      ]
    case "Backfill":
      return [
        change(game, (draft) => {
          if (!draft.exists || isFinal(draft.status)) return
          const { startsAt } = draft
          if (draft.status === "SCHEDULED" && draft.rows.start === undefined) insert(draft, "start", startsAt)
          if (draft.rows.end === undefined) insert(draft, "end", startsAt + draft.duration)
          for (const reminder of draft.status === "SCHEDULED" ? draft.reminders : []) {
            const name = reminderRow(reminder)
            if (startsAt - reminder > now && draft.rows[name] === undefined) insert(draft, name, startsAt - reminder)
          }
        }),
        done
      ]
    default:
      return [change(game, (draft) => void (draft.poisoned = act.on)), done]
  }
}

/** What a due row does to its game, by the game's status. */
type Judgement = "effect" | "void" | "waits" | "hopeless"

const judge = (game: Game, name: RowName, now: number): Judgement => {
  if (kindOf(name) === "notification") return game.status === "SCHEDULED" && game.startsAt > now ? "effect" : "void"
  if (name === "start") return game.status === "SCHEDULED" ? "effect" : "void"
  if (game.status !== "SCHEDULED") return game.status === "IN_PROGRESS" ? "effect" : "void"
  return game.rows.start?.done === false ? "waits" : "hopeless"
}

const park = (game: Game, name: RowName, row: Row) => {
  row.hold = "parked"
  game.letters.push({ about: name, born: row.born, due: row.due, attempts: row.attempts, resolution: "open", by: null })
}

/** Records what became of a due row; the game is changed already. */
const finish = (game: Game, name: RowName, row: Row, outcome: NonNullable<Row["outcome"]>, event: number | null) => {
  game.effects.push({ row: name, due: row.due, outcome, attempts: row.attempts, event })
  row.done = true
  row.outcome = outcome
  row.attempts = 0
  row.hold = null
  row.failedAt = null
  if (name === "start") release(game)
}

const fail = (game: Game, name: RowName, row: Row, now: number, engine: Engine) => {
  row.attempts += 1
  row.failedAt = now
  if (row.attempts >= maxAttempts[engine]) park(game, name, row)
  else row.hold = "retry"
}

/** What an engine does with one due row. */
const process = (game: Game, name: RowName, now: number, engine: Engine): Game =>
  change(game, (draft) => {
    const row = draft.rows[name]
    if (row === undefined) return
    const judgement = judge(draft, name, now)
    const reminds = kindOf(name) === "notification"
    if (judgement === "waits") row.hold = "waiting"
    else if (judgement === "hopeless") park(draft, name, row)
    else if (judgement === "void") finish(draft, name, row, reminds ? "skipped" : "superseded", null)
    else if (draft.poisoned) fail(draft, name, row, now, engine)
    else if (reminds) {
      const told = { reminder: reminderOf(name), notification_time: row.due, lateness: now - row.due }
      finish(draft, name, row, "sent", tell(draft, now, "game.reminder_due", told))
    } else {
      draft.status = name === "start" ? "IN_PROGRESS" : "COMPLETED"
      draft.version += 1
      const told = { transition_time: row.due, lateness: now - row.due }
      finish(draft, name, row, "applied", tell(draft, now, eventOf[draft.status], told))
    }
  })

const isDue = (row: Row, now: number) => !row.done && row.due <= now

const dueRows = (game: Game, kind: Kind, now: number, which: (row: Row) => boolean): ReadonlyArray<RowName> =>
  rowsOf(game).flatMap(([name, row]) => (kindOf(name) === kind && isDue(row, now) && which(row) ? [name] : []))

/**
 * What a single batch may take of a game: one row, of the transitions the start before the end, of the reminders the
 * earliest. Nothing that rests after a failure.
 */
const batchOf = (game: Game, kind: Kind, now: number): ReadonlyArray<RowName> => {
  const due = dueRows(game, kind, now, (row) => row.hold === null)
  if (due.includes("start")) return ["start"]
  const earliest = Math.min(...due.map((name) => game.rows[name]?.due ?? 0))
  return due.filter((name) => game.rows[name]?.due === earliest)
}

/** Whether a single batch with this game in it is refused by the database. */
export const refusesBatch = (game: Game, kind: Kind, now: number): boolean =>
  game.poisoned && batchOf(game, kind, now).some((name) => judge(game, name, now) === "effect")

/** What may become of a game in a single batch of an engine that has the database to itself. */
export const claim = (game: Game, kind: Kind, now: number, engine: Engine): ReadonlyArray<Game> => {
  const batch = batchOf(game, kind, now)
  return batch.length === 0 ? [game] : batch.map((name) => process(game, name, now, engine))
}

/** The same while others are at work: it may get no row, or another one, because it passes over what somebody holds. */
export const claimAmid = (game: Game, kind: Kind, now: number, engine: Engine): ReadonlyArray<Game> => [
  game,
  ...dueRows(game, kind, now, (row) => row.hold === null)
    .filter((name) => !game.poisoned || judge(game, name, now) !== "effect")
    .map((name) => process(game, name, now, engine))
]

/**
 * What may become of a game in one step of a loop: any row that may be taken, also one whose rest after a failure is over.
 * Of a kind that is paused none may, but what waits in vain is put back among those that would be.
 */
export const advance = (game: Game, kind: Kind, now: number, engine: Engine, paused: boolean): ReadonlyArray<Game> => [
  ...(paused
    ? []
    : dueRows(game, kind, now, (row) => row.hold === null || (row.hold === "retry" && (row.failedAt ?? now) < now)).map(
        (name) => process(game, name, now, engine)
      )),
  ...(isStranded(game) && kind === "status-transition"
    ? [change(game, (draft) => void (draft.rows.end !== undefined && (draft.rows.end.hold = null)))]
    : [])
]

/** A completion that waits for a start that will never be executed. */
const isStranded = (game: Game): boolean =>
  game.rows.end?.hold === "waiting" && !game.rows.end.done && judge(game, "end", Infinity) !== "waits"

/** Whether a loop has anything to do with the game. */
export const isQuiet = (game: Game, kind: Kind, now: number, paused: boolean): boolean =>
  advance(game, kind, now, "A", paused).length === 0

/** Whether engines that were told of everything have done all they can; a stranded completion is the backstop's. */
export const isSettled = (game: Game, kind: Kind, now: number, paused: boolean): boolean =>
  isQuiet(isStranded(game) ? change(game, (draft) => void delete draft.rows.end) : game, kind, now, paused)

/** The next thing the relay does with the events of a game, or undefined if it rests. */
export const relay = (game: Game, now: number, engine: Engine, refused: boolean): Game | undefined => {
  const [number] = game.waiting
  const next = number === undefined ? undefined : game.events[number]
  if (number === undefined || next === undefined || (next.failedAt !== null && next.failedAt >= now)) return undefined
  return change(game, (draft) => {
    const event = draft.events[number]
    if (event === undefined) return
    if (!refused) {
      event.state = "confirmed"
      draft.waiting.shift()
      draft.published.push(number)
      return
    }
    event.attempts += 1
    event.failedAt = now
    if (event.attempts < maxAttempts[engine]) return
    event.state = "parked"
    draft.waiting.shift()
    const due = event.data["transition_time"] ?? event.data["notification_time"] ?? null
    const about = `event ${number}`
    const { attempts } = event
    draft.letters.push({ about, born: null, due: due as number | null, attempts, resolution: "open", by: null })
  })
}
