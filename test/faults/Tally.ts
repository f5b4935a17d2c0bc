/**
 * The consumer's own account of what it received. It knows nothing of the ledger and asks nobody: what it counts is what
 * any service bound to the exchange would see.
 */
import { Schema } from "effect"

const Instant = Schema.NullOr(Schema.String)

const Event = Schema.fromJsonString(
  Schema.Struct({
    id: Schema.String,
    type: Schema.String,
    subject: Schema.String,
    time: Schema.String,
    data: Schema.Struct({
      version: Schema.Int,
      transition_time: Schema.optionalKey(Instant),
      notification_time: Schema.optionalKey(Instant),
      reminder_minutes: Schema.optionalKey(Schema.Int)
    })
  })
)
const decode = Schema.decodeUnknownSync(Event)

/** One event, by what may happen only once in the life of a game. */
interface Told {
  readonly what: string
  readonly id: string
  /** Zero for a reminder, which is no step of the game. */
  readonly version: number
  /** When it was received for the first time, milliseconds since 1970. */
  readonly at: number
}

/** What the consumer knows of one game. A long run has half a million of them, and forgets none: hence no sets and maps. */
interface Known {
  /** In the order of their first receipts. */
  readonly told: Array<Told>
  lastVersion: number
  /** When the last change by the API was committed: nothing can be late for longer than it was planned. */
  plannedAt: number
  /** When the clock's start was due, as the event says; null by hand. */
  startDue: number | null
}

/** The first receipt of something that the clock did. Milliseconds since 1970. */
export interface Receipt {
  readonly game: string
  /** When it was due, or planned if that was later. */
  readonly due: number
  readonly at: number
}

/** What contradicts a promise, since the last `begin`. */
export interface Offences {
  twice: number
  early: number
  disordered: number
}

const examplesKept = 20

const millis = (text: string | null | undefined): number | null =>
  text === null || text === undefined ? null : Date.parse(text)

export class Tally {
  readonly #games = new Map<string, Known>()
  #receipts: Array<Receipt> = []
  #offences: Offences = { twice: 0, early: 0, disordered: 0 }
  #events = 0
  readonly #examples: Array<string> = []
  /** Deliveries in all, and those among them that repeated an event by its id. */
  deliveries = 0
  repeated = 0
  /** Transitions and reminders of the clock, each once. */
  transitions = 0

  /** Forgets receipts and offences, to count anew. */
  begin(): void {
    this.#receipts = []
    this.#offences = { twice: 0, early: 0, disordered: 0 }
    this.#events = 0
  }

  get receipts(): ReadonlyArray<Receipt> {
    return this.#receipts
  }

  get offences(): Readonly<Offences> {
    return this.#offences
  }

  /** Different events since `begin`. */
  get events(): number {
    return this.#events
  }

  /** The first few offences in words, each once. */
  takeExamples(): ReadonlyArray<string> {
    return this.#examples.splice(0)
  }

  hasEvent(game: string, id: string): boolean {
    return this.#games.get(game)?.told.some((told) => told.id === id) === true
  }

  /** Of all its events, in the order of their first receipts. */
  eventIds(game: string): ReadonlyArray<string> {
    return (this.#games.get(game)?.told ?? []).map(({ id }) => id)
  }

  hasTransition(game: string, target: string, before = Number.POSITIVE_INFINITY): boolean {
    return this.#wasTold(game, target === "IN_PROGRESS" ? "game.started" : "game.completed", before)
  }

  /** When the start was due by its event; null if it was by hand or has not been received. */
  startDue(game: string): number | null {
    return this.#games.get(game)?.startDue ?? null
  }

  wasDeleted(game: string): boolean {
    return this.#wasTold(game, "game.deleted")
  }

  hasReminder(game: string, minutes: number, due: number): boolean {
    return this.#wasTold(game, `reminder ${minutes} ${due}`)
  }

  /** Which of the versions up to this one no event told of; those below `first` were not the service's. */
  missingVersions(game: string, first: number, last: number): ReadonlyArray<number> {
    const told = this.#games.get(game)?.told ?? []
    const missing: Array<number> = []
    for (let version = first; version <= last; version++) {
      if (!told.some((event) => event.version === version)) missing.push(version)
    }
    return missing
  }

  /** Takes the text of an event, received at this moment. */
  receive(text: string, at: number): void {
    const { data, id, subject, time, type } = decode(text)
    this.deliveries++
    const known = this.#games.get(subject) ?? { told: [], lastVersion: 0, plannedAt: 0, startDue: null }
    this.#games.set(subject, known)
    if (known.told.some((told) => told.id === id)) {
      this.repeated++
      return
    }
    this.#events++

    const due = millis(data.transition_time) ?? millis(data.notification_time)
    const what =
      type === "game.reminder_due"
        ? `reminder ${data.reminder_minutes} ${due}`
        : type === "game.updated"
          ? `${type} ${data.version}`
          : type
    if (this.#wasTold(subject, what)) this.#object("twice", `${subject}: two events tell of ${what}`)
    known.told.push({ what, id, version: type === "game.reminder_due" ? 0 : data.version, at })

    if (due !== null && (at < due || Date.parse(time) < due)) {
      this.#object("early", `${subject}: ${what} was due at ${due}, done at ${time}, received at ${at}`)
    }
    if (data.version < known.lastVersion) {
      this.#object(
        "disordered",
        `${subject}: ${what} of version ${data.version} came after version ${known.lastVersion}`
      )
    }
    known.lastVersion = Math.max(known.lastVersion, data.version)
    if (type === "game.created" || type === "game.updated") known.plannedAt = Date.parse(time)
    if (type === "game.started") known.startDue = due
    if (due === null) return
    this.transitions++
    this.#receipts.push({ game: subject, due: Math.max(due, known.plannedAt), at })
  }

  #wasTold(game: string, what: string, before = Number.POSITIVE_INFINITY): boolean {
    return this.#games.get(game)?.told.some((told) => told.what === what && told.at < before) === true
  }

  #object(offence: keyof Offences, example: string): void {
    this.#offences[offence]++
    if (this.#examples.length < examplesKept) this.#examples.push(example)
  }
}
