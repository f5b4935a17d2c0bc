/** What is measured: Kickoff or one of its peers, each with a database, an exchange and a process of its own. */
import type { PgConnection } from "@effect/sql-pg"
import { Duration, Effect } from "effect"
import type { SqlError } from "effect/sql"
import { BenchError } from "./BenchError.ts"
import { measureOffset, now } from "./clock.ts"
import type { Consumer } from "./consumer.ts"

export interface Subject {
  readonly name: string
  readonly database: PgConnection.PgConnection
  readonly consumer: Consumer
  /**
   * One statement that plans games; its parameters are the whole milliseconds after the start at which each is due, and
   * those from now to the start. It answers each game's id and due time, which is a whole millisecond.
   */
  readonly plan: string
  /** Called when the games are planned. */
  readonly begin: Effect.Effect<void>
  /** Waits until everything is done, and forgets it. */
  readonly settle: Effect.Effect<void, BenchError | SqlError.SqlError>
}

/** One game that was started. Milliseconds. */
export interface Started {
  readonly game_id: string
  /** Due → applied, as the event says. */
  readonly applied: number
  /** Due → received by the consumer. */
  readonly received: number
}

export interface Round {
  readonly started: ReadonlyArray<Started>
  /** Events that arrived more than once, the repetitions alone. */
  readonly repeated: number
  /** Games that were started before they were due. */
  readonly early: number
  /** Within which the database's clock and ours are known to agree, after correction, ms. */
  readonly uncertainty: number
  /** What was added to our clock to get the database's, ms. */
  readonly offset: number
  /** How long planning took, ms. */
  readonly planning: number
}

/** How long after the last due time an event may arrive at most. */
const patience = Duration.seconds(30)

/** The planning must be over by this long before the first game is due, ms. */
const margin = 300

/**
 * Plans games and waits for all their events.
 *
 * @param offsets when each game is due, in whole ms after the start
 * @param lead from now to the start, ms; long enough for planning them
 * @param meanwhile runs beside, from the start on
 */
export const playRound = Effect.fnUntraced(function* <A = void, E = never>(
  subject: Subject,
  offsets: ReadonlyArray<number>,
  lead: number,
  meanwhile?: Effect.Effect<A, E>
): Effect.fn.Return<Round & { readonly meanwhile: A | undefined }, E | BenchError | SqlError.SqlError> {
  const { consumer, database } = subject
  yield* consumer.clear
  const { offset, uncertainty } = yield* measureOffset(database)
  const began = now()
  const planned = yield* database.queryValues(subject.plan, [offsets, lead])
  const dueById = new Map(planned.map(([id, due]) => [String(id), Number(due)]))
  yield* database.query("ANALYZE")
  yield* subject.begin
  const planning = now() - began

  const dues = [...dueById.values()]
  const first = dues.reduce((a, b) => Math.min(a, b))
  const last = dues.reduce((a, b) => Math.max(a, b))
  const spare = first - (now() + offset)
  if (spare < margin) {
    return yield* new BenchError({
      detail: `Planning ${offsets.length} games took all of the ${lead} ms before the first one is due`
    })
  }
  const limit = Duration.sum(Duration.millis(last - now() - offset), patience)
  const [deliveries, result] = yield* Effect.all(
    [
      consumer
        .collect(offsets.length, limit)
        .pipe(Effect.mapError(({ detail }) => new BenchError({ detail: `${subject.name}: ${detail}` }))),
      meanwhile === undefined ? Effect.undefined : Effect.delay(meanwhile, Duration.millis(first - now() - offset))
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
    started.push({ game_id: event.subject, applied: event.data.lateness_ms, received: at + offset - due })
  }
  yield* subject.settle
  return {
    started,
    repeated: deliveries.length - started.length,
    early: started.filter((game) => game.applied < 0 || game.received < -uncertainty).length,
    uncertainty,
    offset,
    planning,
    meanwhile: result
  }
})
