/**
 * Publishes what is committed, in order per game, and forgets it when the broker has confirmed it.
 *
 * One relay is active at a time, by an advisory lock on a session of its own. Two that overlap for a moment, because the
 * lock was lost, publish the same events under the same ids: consumers know them by their id.
 */
import { Clock, Duration, Effect, Metric, Option, Queue, type Redacted, Semaphore } from "effect"
import { GameEventType } from "../domain/GameEvent.ts"
import { type PublishError, Publisher } from "../messaging/Publisher.ts"
import { Health } from "../observability/Health.ts"
import * as Metrics from "../observability/Metrics.ts"
import { inTrace, SpanExport } from "../observability/traceContext.ts"
import { channels } from "../postgres/channels.ts"
import { isAnswer } from "../postgres/Database.ts"
import { deafPoll, type Hint, Listener } from "../postgres/Listener.ts"
import { makeOutages } from "../postgres/outages.ts"
import { heartbeat, keepSession } from "../postgres/Session.ts"
import { Settings } from "../Settings.ts"
import { OutboxRepository, type WaitingEvent } from "./OutboxRepository.ts"
import { OutboxSignal } from "./OutboxSignal.ts"
import { tracePublishing } from "./publishTrace.ts"
import { relayLock } from "./relayLock.ts"

/** Most events that are read, and so under way, at once. */
const window = 1000

/** Batches that are under way at once, so that broker and database are both busy, and what is new waits for neither. */
const lanes = 2

/** Most events that are read out of turn for each batch of a backlog: the latest, so that they need not wait for its end. */
const latest = 100

/**
 * Most events of one game in a batch. They go one after the other, so a game with thousands of them would hold up the
 * events of all the others.
 */
const perGame = 50

/** What makes the relay list what may be published. */
type WakeUp = "timer" | Hint["cause"] | "backstop"

/** How long the relay rests at most while events are there that cannot be published. */
const impatience = Duration.seconds(1)

/** How long the loop may be silent before it counts as stuck: a batch's confirms, and its deletion. */
const silence = Duration.seconds(30)

const attemptEvery = Duration.millis(500)
const heartbeats = { every: Duration.seconds(2), deadline: Duration.millis(2500) }

/** Made once per type: attributes make a key that is costly for every event. */
const latenessOf = new Map(
  GameEventType.literals.map((type) => [type, Metric.withAttributes(Metrics.confirmedLateness, { type })])
)

/** Publishes for as long as it runs; {@link run} runs it while the lock is held. */
export const publishAll = Effect.fn("Relay.publishAll")(function* () {
  const settings = yield* Settings
  const outbox = yield* OutboxRepository
  const publisher = yield* Publisher
  const signal = yield* OutboxSignal
  const listener = yield* Listener
  const health = yield* Health
  const tracer = (yield* SpanExport)?.recorded
  const beat = (next: Duration.Duration) => health.beat("outbox", Duration.sum(next, silence))
  const progress = (made: boolean) => health.progress("outbox", made)
  const { waitOut } = makeOutages("outbox", Effect.andThen(beat(Duration.zero), progress(true)))

  const context = yield* Effect.context()

  /** Events that were under way when the broker closed the channel: published alone until the culprit is found. */
  let suspects: ReadonlySet<string> = new Set()

  /** Publishes a batch, the events of each game one after the other; returns what was confirmed and what was not. */
  const publishBatch = Effect.fnUntraced(function* (events: ReadonlyArray<WaitingEvent>) {
    const clock = yield* Clock.Clock
    const began = clock.monotonicTimeNanosUnsafe()
    const confirmed: Array<WaitingEvent> = []
    const tracing = tracer === undefined ? undefined : tracePublishing(tracer, clock, settings)
    const sent = tracing === undefined ? events : events.map(tracing.begin)
    const failed = yield* publisher.publish(
      byGame(sent).map((game) => game.slice(0, perGame)),
      (event) => {
        confirmed.push(event)
        tracing?.confirmed(event)
        if (event.due_ms_ago === null) return
        const elapsed = Duration.nanos(clock.monotonicTimeNanosUnsafe() - began)
        latenessOf.get(event.type)?.updateUnsafe((event.due_ms_ago + Duration.toMillis(elapsed)) / 1000, context)
      }
    )
    for (const { error, event } of failed) tracing?.failed(event, error)
    return { confirmed, failed }
  })

  const recordRefusal = Effect.fnUntraced(function* (event: WaitingEvent, error: PublishError) {
    const refused = yield* outbox.recordFailure(
      event,
      { error: error.reason._tag, message: error.message },
      settings.maxAttempts
    )
    yield* Metric.update(Metric.withAttributes(Metrics.events, { outcome: refused.parked ? "parked" : "refused" }), 1)
    yield* (
      refused.parked
        ? Effect.logError(`An event was given up: ${error.message}`)
        : Effect.logWarning(`An event was refused and is tried again: ${error.message}`)
    ).pipe(
      Effect.annotateLogs({
        game_id: event.game_id,
        event_id: event.event_id,
        type: event.type,
        attempt: refused.attempts
      }),
      inTrace(event.traceparent)
    )
  })

  /** Games of which events are listed and not settled yet. */
  const underWay = new Set<string>()
  let inHand = 0
  const hold = (more: number) => Effect.suspend(() => Metric.update(Metrics.relayInHand, (inHand += more)))
  const listing = yield* Semaphore.make(1)
  /** How often something was listed. */
  let listings = 0
  /** Whether the last listing was full, so that the next batch can be read while this one waits for its confirms. */
  let backlog = false
  /** A reason to list what may be published; held for the first lane that is free. */
  const turns = yield* Queue.sliding<void>(1)

  /** What may be published beside what is under way; while there are suspects, one of them when nothing else is. */
  const listNext = Effect.gen(function* () {
    if (suspects.size > 0 && underWay.size > 0) return []
    // Read before the others: an event that comes in between then follows what is earlier of its game, and never precedes it.
    const outOfTurn = backlog && suspects.size === 0 ? yield* outbox.listLatest(latest, [...underWay]) : []
    const room = window - outOfTurn.length
    const first = yield* outbox.list(room, [...underWay])
    backlog = first.length === room
    const games = byGame(first)
    // A full window of few games is for the most part what must wait, so the other games get a window of their own.
    const crowded = backlog && games.length < window / perGame
    const others = crowded
      ? yield* outbox.list(window, [
          ...underWay,
          ...games.flatMap((game) => game.slice(0, 1).map(({ game_id }) => game_id))
        ])
      : []
    const listed = distinct([...outOfTurn, ...first, ...others])
    const suspected = listed.filter((event) => suspects.has(event.event_id)).slice(0, 1)
    if (suspected.length === 0) suspects = new Set()
    return suspected.length === 0 ? listed : suspected
  })

  /** Publishes events, forgets those that are confirmed, and draws the conclusions for those that are not. */
  const settle = Effect.fnUntraced(function* (events: ReadonlyArray<WaitingEvent>, alone: boolean) {
    const { confirmed, failed } = yield* publishBatch(events)
    const removed = yield* outbox.remove(confirmed.map((event) => event.id))
    yield* Metric.update(Metric.withAttributes(Metrics.events, { outcome: "confirmed" }), confirmed.length)
    yield* beat(Duration.zero)
    yield* progress(removed > 0 || failed.length > 0)
    if (alone) suspects = without(suspects, events)

    let unavailable: PublishError | undefined
    const closedOver: Array<string> = []
    for (const { event, error } of failed) {
      if (error.reason._tag === "BrokerUnavailable") {
        unavailable = error
        if (alone) suspects = new Set([...suspects, event.event_id])
      } else if (error.reason._tag === "ChannelClosed" && !alone) closedOver.push(event.event_id)
      else yield* recordRefusal(event, error)
    }
    if (closedOver.length > 0) suspects = new Set([...suspects, ...closedOver])
    if (unavailable !== undefined) yield* unavailable
    return confirmed.length + failed.length
  })

  /**
   * One batch, and whether there may be another one that nobody tells of: more than fits into a batch, what waits for an
   * event of its game that was in this one, and suspects. Not interruptible: what was sent is waited for, so that a stop
   * does not send it twice.
   */
  const step = Effect.gen(function* () {
    const { alone, events, listed } = yield* listing.withPermit(
      Effect.map(listNext, (events) => {
        for (const { game_id } of events) underWay.add(game_id)
        return { events, alone: suspects.size > 0, listed: ++listings }
      })
    )
    yield* signal.setBehind(backlog)
    if (events.length === 0) return false
    if (backlog) yield* Queue.offer(turns, undefined)
    yield* hold(events.length)
    const settled = yield* Effect.ensuring(
      settle(events, alone),
      Effect.suspend(() => {
        for (const { game_id } of events) underWay.delete(game_id)
        return hold(-events.length)
      })
    )
    return backlog || listings > listed || settled < events.length || suspects.size > 0
  }).pipe(Effect.uninterruptible)

  /** Waiting for the broker is no standstill. */
  const brokerAwaited = Effect.raceFirst(
    publisher.ready,
    Effect.forever(Effect.andThen(Effect.andThen(beat(impatience), progress(true)), Effect.sleep(impatience)))
  )
  const brokerReady = Effect.flatMap(publisher.state, (state) => (state === "connected" ? Effect.void : brokerAwaited))

  /** Batch after batch while there may be one that nobody tells of. */
  const drain = Effect.andThen(brokerReady, step).pipe(Effect.repeat({ while: (more) => more }))

  /** How many lanes have something to do. */
  let busy = 0

  /** How long the relay may rest while nobody tells of an event. */
  const look = Effect.gen(function* () {
    const { retry, waiting } = yield* outbox.look
    // Nothing was listed a moment ago. What came since is told of; what is hidden will be there again.
    if (busy === 0) yield* progress(!waiting || Option.isSome(retry))
    // While no hint can come from other processes, the look must be one's own.
    if (!waiting) return (yield* listener.isUp) ? settings.backstop : Duration.min(deafPoll, settings.backstop)
    return Duration.min(
      impatience,
      Option.getOrElse(retry, () => impatience)
    )
  })

  return yield* Effect.scoped(
    Effect.gen(function* () {
      const hints = yield* listener.subscribe(channels.outbox)
      yield* outbox.startOver
      yield* beat(Duration.zero)
      const idle = yield* Queue.sliding<void>(1)

      const lane = Effect.gen(function* () {
        yield* Queue.take(turns)
        busy++
        yield* waitOut(drain)
        if (--busy === 0) yield* Queue.offer(idle, undefined)
      })

      const wake = (cause: WakeUp) =>
        Effect.andThen(
          Metric.update(Metric.withAttributes(Metrics.wakeUps, { loop: "outbox", cause }), 1),
          Queue.offer(turns, undefined)
        )

      /** Whenever the lanes have come to an end, looks how long they may rest, and wakes one if nobody else does. */
      const rest = Effect.gen(function* () {
        const limit = yield* waitOut(look)
        yield* beat(limit)
        const cause: WakeUp | undefined = yield* Effect.sleep(Duration.max(limit, Duration.millis(1))).pipe(
          Effect.as(Duration.equals(limit, settings.backstop) ? ("backstop" as const) : ("timer" as const)),
          Effect.raceFirst(Effect.as(Queue.take(idle), undefined))
        )
        if (cause === undefined) return
        yield* wake(cause)
        yield* Queue.take(idle)
      })

      yield* Queue.offer(turns, undefined)
      return yield* Effect.all(
        [
          ...Array.from({ length: lanes }, () => Effect.forever(lane)),
          Effect.andThen(Queue.take(idle), Effect.forever(rest)),
          Effect.forever(Effect.flatMap(Queue.take(hints), ({ cause }) => wake(cause))),
          Effect.forever(Effect.flatMap(Queue.take(signal.wakeUps), wake))
        ],
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.andThen(Effect.never))
    })
  )
})

const byGame = (events: ReadonlyArray<WaitingEvent>): ReadonlyArray<ReadonlyArray<WaitingEvent>> => [
  ...Map.groupBy(events, (event) => event.game_id).values()
]

const distinct = (events: ReadonlyArray<WaitingEvent>): ReadonlyArray<WaitingEvent> => [
  ...new Map(events.map((event) => [event.id, event])).values()
]

const without = (ids: ReadonlySet<string>, events: ReadonlyArray<WaitingEvent>): ReadonlySet<string> => {
  const gone = new Set(events.map((event) => event.event_id))
  return new Set([...ids].filter((id) => !gone.has(id)))
}

/** Longest time that the lock's session waits for somebody who holds the outbox, in PostgreSQL's notation. */
const lookPatience = "1s"

/**
 * Relays while it holds the lock, and stands by otherwise. The URL must lead to PostgreSQL directly: behind a
 * transaction pooler a session's lock is nobody's.
 */
export const run = Effect.fn("Relay.run")(function* (url: Redacted.Redacted) {
  const health = yield* Health
  const outbox = yield* OutboxRepository
  const signal = yield* OutboxSignal
  const context = yield* Effect.context<Settings | OutboxRepository | Publisher | OutboxSignal | Listener | Health>()
  const beat = health.beat("outbox", silence)

  // Who does not relay cannot judge how the events get on.
  const setRelaying = (relaying: boolean) =>
    Effect.all(
      [
        signal.setRelaying(relaying),
        Metric.update(Metrics.relayLeader, relaying ? 1 : 0),
        health.progress("outbox", true)
      ],
      { discard: true }
    )

  yield* beat
  return yield* keepSession({ url, name: "relay", outages: makeOutages("outbox", beat) }, (session) =>
    Effect.gen(function* () {
      // Trying, never waiting: a lock call that waits holds a snapshot, and with it vacuum back.
      const tryLock = session.connection.queryValues("SELECT pg_try_advisory_lock($1::bigint)", [relayLock]).pipe(
        session.within(heartbeats.deadline),
        Effect.tap(() => Effect.andThen(session.up, beat)),
        Effect.map(([row]) => row?.[0] === true)
      )
      while (!(yield* tryLock)) yield* Effect.sleep(attemptEvery)
      yield* session.within(heartbeats.deadline)(session.connection.query(`SET lock_timeout = '${lookPatience}'`))

      // Who commits events may be killed before its hint, so the heartbeat looks whether any wait. An answer is one also
      // when it is an error: what is wrong with the outbox is for those to say who work on it.
      const look = Effect.flatMap(outbox.firstWaiting, ([text, parameters]) =>
        session.connection.queryValues(text, parameters)
      ).pipe(
        Effect.tap((rows) => (rows.length > 0 ? signal.found : Effect.void)),
        Effect.catchIf(isAnswer, () => Effect.void)
      )

      yield* Effect.addFinalizer(() => setRelaying(false))
      yield* setRelaying(true)
      yield* Effect.logInfo("This process relays the events")
      yield* Effect.raceFirst(
        Effect.provideContext(publishAll(), context),
        heartbeat(session, heartbeats, look, () => Effect.void)
      )
    })
  )
})
