/** What is measured: Kickoff or one of its peers, each with a database, an exchange and processes of its own. */
import type { PgConnection } from "@effect/sql-pg"
import { Duration, Effect } from "effect"
import type { SqlError } from "effect/sql"
import { BenchError } from "./BenchError.ts"
import { type ClockOffset, measureOffset, now } from "./clock.ts"
import type { Consumer } from "./consumer.ts"
import { type Histogram, subtract } from "./histogram.ts"
import { Servers } from "./Servers.ts"
import { readFamilies } from "./usage.ts"

type Failure = BenchError | SqlError.SqlError

export interface Subject {
  readonly name: string
  /** Its processes. */
  readonly pids: ReadonlyArray<number>
  readonly database: PgConnection.PgConnection
  readonly consumer: Consumer
  /**
   * A statement that plans games and ends with the answer that is wanted of `planned (id, due_at)`. Its parameters are
   * the whole milliseconds after the start at which each game is due, and those from now to the start; due times are
   * whole milliseconds.
   */
  readonly plan: (answer: string) => string
  /** What makes planning very many games faster, in one transaction with it; it changes nothing of what is measured. */
  readonly bulk: { readonly before: ReadonlyArray<string>; readonly after: ReadonlyArray<string> }
  /** Called when that many games are planned. */
  readonly begin: (games: number) => Effect.Effect<void>
  /** Waits until that many events are confirmed; the instant by the database's clock, if `clock` tells it from ours. */
  readonly lastConfirm: (games: number, clock: ClockOffset) => Effect.Effect<number, Failure>
  /** How late games were committed since the start, s, if the subject exports it. */
  readonly committed?: Effect.Effect<Histogram, Failure>
  /** How late each event was confirmed since the last `settle`, ms, if the subject keeps a record of it. */
  readonly confirmed?: Effect.Effect<ReadonlyArray<number>, Failure>
  /** Waits until everything is done, and forgets it. */
  readonly settle: Effect.Effect<void, Failure>
}

/** One game that was started. Milliseconds. */
export interface Started {
  /** When it was due, after the first one. */
  readonly due: number
  /** Due → applied, as the event says. */
  readonly applied: number
  /** Due → received by the consumer. */
  readonly received: number
}

export interface Round {
  readonly started: ReadonlyArray<Started>
  /** Due → committed, s, if the subject exports it; else empty. */
  readonly committed: Histogram
  /** Due → confirmed, if the subject keeps a record; else empty. */
  readonly confirmed: ReadonlyArray<number>
  /** Events that arrived more than once, the repetitions alone. */
  readonly repeated: number
  /** Games that were started before they were due. */
  readonly early: number
  readonly clock: ClockOffset
}

/** How long after the last due time an event may arrive at most. */
const patience = Duration.seconds(60)

/** The planning must be over by this long before the first game is due, ms. */
const margin = 300

/** The least time from the planning to the start, ms. */
const shortestLead = 1000

/** How long planning took where most games were planned so far, ms; by the statement, which subjects may share. */
const plannings = new WeakMap<Subject["plan"], { readonly games: number; readonly took: number }>()

/** What planning takes however few games there are, and what one game takes before anything is known of it, ms. */
const overhead = 500
const guessedPace = 0.1

/** How much more is expected for each game when there are many more of them than ever before. */
const growth = { from: 3, by: 1.7 }

const expectPlanning = (plan: Subject["plan"], games: number): number => {
  const seen = plannings.get(plan)
  if (seen === undefined) return overhead + guessedPace * games
  const pace = Math.max(0.02, (seen.took - overhead) / seen.games)
  return overhead + (games > growth.from * seen.games ? growth.by : 1) * pace * games
}

/**
 * Plans games, with enough time before the first is due; where it was not enough they are waited for, forgotten, and
 * planned again with more.
 *
 * @param offsets when each game is due, in whole ms after the start
 */
const planGames = Effect.fnUntraced(function* (subject: Subject, offsets: ReadonlyArray<number>, answer: string) {
  const { database } = subject
  const bulk = offsets.length > 5000
  for (let tries = 1; ; tries++) {
    const lead = Math.round(shortestLead + 1.5 ** tries * expectPlanning(subject.plan, offsets.length))
    const clock = yield* measureOffset(database)
    const began = now()
    if (bulk) for (const statement of ["BEGIN", ...subject.bulk.before]) yield* database.query(statement)
    const planned = yield* database.queryValues(subject.plan(answer), [offsets, lead])
    if (bulk) for (const statement of [...subject.bulk.after, "COMMIT"]) yield* database.query(statement)
    yield* database.query("ANALYZE")
    // As if the games had been planned days ago, for everybody: no checkpoint falls into what is measured.
    if (bulk) yield* database.query("CHECKPOINT")
    yield* subject.begin(offsets.length)
    const took = now() - began
    if (offsets.length >= (plannings.get(subject.plan)?.games ?? 0)) {
      plannings.set(subject.plan, { games: offsets.length, took })
    }

    const first = began + clock.offset + lead + offsets.reduce((a, b) => Math.min(a, b))
    if (first - (now() + clock.offset) >= margin) return { planned, clock, first }
    if (tries === 4) {
      return yield* new BenchError({
        detail: `${subject.name}: planning ${offsets.length} games takes longer than the ${lead} ms before they are due`
      })
    }
    yield* subject.lastConfirm(offsets.length, clock)
    yield* subject.settle
    yield* subject.consumer.clear
  }
})

/**
 * Plans games and receives all their events, as another service would.
 *
 * @param meanwhile runs beside, from the start on
 */
export const playRound = Effect.fnUntraced(function* <A = void, E = never>(
  subject: Subject,
  offsets: ReadonlyArray<number>,
  meanwhile?: Effect.Effect<A, E>
): Effect.fn.Return<Round & { readonly meanwhile: A | undefined }, E | Failure> {
  const { committed = Effect.succeed([]), confirmed = Effect.succeed([]), consumer } = subject
  yield* consumer.clear
  const before = yield* committed
  const { clock, planned } = yield* planGames(
    subject,
    offsets,
    "SELECT id, (extract(epoch FROM due_at) * 1000)::float8 FROM planned"
  )
  const dueById = new Map(planned.map(([id, due]) => [String(id), Number(due)]))
  const dues = [...dueById.values()]
  const first = dues.reduce((a, b) => Math.min(a, b))
  const last = dues.reduce((a, b) => Math.max(a, b))
  const from = (instant: number) => Duration.millis(Math.max(0, instant - now() - clock.offset))
  const [deliveries, result] = yield* Effect.all(
    [
      consumer
        .collect(offsets.length, Duration.sum(from(last), patience))
        .pipe(Effect.mapError(({ detail }) => new BenchError({ detail: `${subject.name}: ${detail}` }))),
      meanwhile === undefined ? Effect.undefined : Effect.delay(meanwhile, from(first))
    ],
    { concurrency: 2 }
  )

  const seen = new Set<string>()
  const started: Array<Started> = []
  for (const { at, event } of deliveries) {
    const due = dueById.get(event.subject)
    if (due === undefined) {
      return yield* new BenchError({ detail: `${subject.name} told of a game that nobody planned: ${event.subject}` })
    }
    if (seen.has(event.id)) continue
    seen.add(event.id)
    started.push({ due: due - first, applied: event.data.lateness_ms, received: at + clock.offset - due })
  }
  yield* subject.lastConfirm(offsets.length, clock)
  const record = { committed: subtract(yield* committed, before), confirmed: yield* confirmed }
  yield* subject.settle
  return {
    ...record,
    started,
    repeated: deliveries.length - started.length,
    early: started.filter((game) => game.applied < 0 || game.received < -clock.uncertainty).length,
    clock,
    meanwhile: result
  }
})

/** Processor time of what takes part in a burst, µs per game; NaN where nobody knows. */
export interface Cost {
  readonly program: number
  readonly postgresql: number
  readonly rabbitmq: number
}

const readCpu = Effect.fnUntraced(function* (subject: Subject) {
  return { program: yield* readFamilies(subject.pids), ...(yield* (yield* Servers).cpu) }
})

/**
 * Plans games that are all due at one instant, and waits until the last of their events is confirmed. Nobody consumes
 * meanwhile, because that would take its share of the machine: the events wait in the queue and are counted afterwards.
 */
export const playBurst = Effect.fnUntraced(function* (subject: Subject, games: number) {
  const { consumer } = subject
  return yield* Effect.gen(function* () {
    yield* consumer.clear
    const { clock, planned } = yield* planGames(
      subject,
      Array.from({ length: games }, () => 0),
      "SELECT (extract(epoch FROM min(due_at)) * 1000)::float8 FROM planned"
    )
    const due = Number(planned[0]?.[0])
    const before = yield* readCpu(subject)
    const limit = Duration.sum(Duration.millis(Math.max(0, due - now() - clock.offset) + games), patience)
    const confirmed = yield* subject.lastConfirm(games, clock).pipe(
      Effect.timeoutOrElse({
        duration: limit,
        orElse: () =>
          Effect.flatMap(consumer.waiting, (waiting) =>
            Effect.fail(
              new BenchError({
                detail: `${subject.name}: ${waiting} of ${games} events within ${Duration.format(limit)}`
              })
            )
          )
      })
    )
    const after = yield* readCpu(subject)
    yield* subject.settle
    const told = yield* consumer.waiting
    if (told !== games) {
      yield* new BenchError({ detail: `${subject.name} told ${told} events of ${games} games` })
    }
    const cost = (who: keyof Cost) => ((after[who] - before[who]) * 1e6) / games
    return {
      perSecond: games / ((confirmed - due) / 1000),
      cost: { program: cost("program"), postgresql: cost("postgresql"), rabbitmq: cost("rabbitmq") } satisfies Cost
    }
  }).pipe(consumer.whileAway)
})
