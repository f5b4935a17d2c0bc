/**
 * The engine: one loop for every kind of schedule. Drains what is due, then waits for the earliest of: the next due
 * time, a hint, the backstop.
 *
 * What is due is judged by the database's clock alone; this process's clock only measures how long to sleep. A hint
 * never replaces a look at the table, and a hint that comes during the look is kept for the next one.
 */
import { Clock, Duration, Effect, LogLevel, Metric, Option, Queue, Schedule } from "effect"
import type { SqlError } from "effect/sql"
import type { ScheduleKind } from "../domain/ScheduleKind.ts"
import { Health, type Loop } from "../observability/Health.ts"
import * as Metrics from "../observability/Metrics.ts"
import { inTrace, SpanExport } from "../observability/traceContext.ts"
import { uptimeMillis } from "../observability/uptime.ts"
import { OutboxSignal } from "../outbox/OutboxSignal.ts"
import { channels } from "../postgres/channels.ts"
import { describeSqlError } from "../postgres/Database.ts"
import { classify } from "../postgres/failures.ts"
import { deafPoll, type Hint, Listener } from "../postgres/Listener.ts"
import { makeOutages, tagOf } from "../postgres/outages.ts"
import { Settings } from "../Settings.ts"
import { traceBatch, traceFailure } from "./batchTrace.ts"
import { isAboutRows, makeSuspects } from "./suspects.ts"
import type { DueRepository, DueRow, From, LeftRow, Look, Processed } from "./DueRepository.ts"

/** What ended a wait. `contended` is a pause because others hold what is due. */
export type WakeUp = "timer" | Hint["cause"] | "backstop" | "contended"

/** Most rows that one statement claims; fewer for a while after one that failed, which may have been too slow. */
const batchSize = 1000

/** How far batches get smaller because of rows that fail: below that, statements cost more than they save. */
const leastBatch = 250

/** How long rows of failed batches are looked through at most before others have their turn again. */
const searchShare = Duration.millis(25)

/** Most failed rows that are tried between two batches of fresh ones, each alone. */
const retriesPerRound = 10

/**
 * With the earliest row overdue by so much there is a backlog. What comes due meanwhile is claimed before it, because it
 * need not be late as well; rows that are committed up to so long after their time are among it.
 */
const backlogAfter = Duration.millis(200)

/**
 * How long a batch of a backlog waits at most for the relay to catch up, and how often it looks meanwhile for what has come
 * due. What is applied cannot be told before what was applied earlier; waiting, it leaves the server to the relay.
 */
const givesWay = { for: Duration.millis(100), every: Duration.millis(25) }

/** Most rows that are claimed out of turn between two batches of a backlog. */
const promptSize = 200

/**
 * Lets the relay of this process ask for the events before the loop counts what it did and looks for more, which would delay
 * them: the hint goes from fiber to fiber, one turn of the scheduler each, until it has become a statement.
 */
const relayFirst = Effect.repeat(Effect.yieldNow, { times: 3 })

/** How often a batch that met a deadlock or a timeout is tried before it is split. */
const passingRetries = Schedule.max([Schedule.exponential("20 millis").pipe(Schedule.jittered), Schedule.recurs(3)])

const shortestPause = Duration.millis(5)
const longestPause = Duration.millis(100)

/** How long a statement is on its way to the server at least: a timer that rings so much too early is on time. */
const onItsWay = Duration.micros(300n)

/** Most turns of the scheduler that are let pass where a timer rang earlier than that: a tenth of a millisecond, about. */
const turnsTillDue = 50

/** How much later than planned a wait may end before the loop counts as stuck: it covers one statement's deadline. */
const slack = Duration.seconds(30)

/** How long a row must be overdue, and how often one that is gets looked for, before the loop doubts itself. */
const overdueAfter = Duration.seconds(15)
const judgeEvery = Duration.seconds(5)

/**
 * Runs one kind of schedule until interrupted. Failures of the server are waited out; a row that fails is tried again
 * later, then becomes a dead letter, while the others go on.
 */
export const run = Effect.fn("DueLoop.run")(function* (repository: DueRepository) {
  const settings = yield* Settings
  const health = yield* Health
  const listener = yield* Listener
  const signal = yield* OutboxSignal
  const tracer = (yield* SpanExport)?.recorded
  const loop: Loop = repository.kind === "status-transition" ? "status-transitions" : "notifications"
  const beat = (next: Duration.Duration) => health.beat(loop, Duration.sum(next, slack))
  const progress = (made: boolean) => health.progress(loop, made)
  const { waitOut } = makeOutages(loop, Effect.andThen(beat(Duration.zero), progress(true)))

  const ofKind = { kind: repository.kind }
  const committedLateness = Metric.withAttributes(Metrics.committedLateness, ofKind)
  const batchSeconds = Metric.withAttributes(Metrics.batchSeconds, ofKind)
  const batchRows = Metric.withAttributes(Metrics.batchRows, ofKind)
  const context = yield* Effect.context()

  /** The relay waits meanwhile, so a thousand rows are counted in one go. */
  const report = Effect.fnUntraced(function* (rows: ReadonlyArray<Processed>, elapsed: Duration.Duration) {
    for (const row of rows) {
      if (row.outcome === "applied" || row.outcome === "sent") {
        committedLateness.updateUnsafe((row.lateness_ms + Duration.toMillis(elapsed)) / 1000, context)
      }
    }
    for (const [outcome, { length }] of Map.groupBy(rows, (row) => row.outcome)) {
      yield* Metric.update(Metric.withAttributes(Metrics.scheduleRows, { kind: repository.kind, outcome }), length)
    }
    const debug = yield* LogLevel.isEnabled("Debug")
    for (const row of rows) {
      if (row.outcome === "parked") {
        yield* logParked(row, "it can never be applied, see its dead letter").pipe(inTrace(row.traceparent))
      } else if (debug) {
        yield* Effect.logDebug(`A ${repository.kind} was dealt with: ${row.outcome}`).pipe(
          Effect.annotateLogs({ ...fieldsOf(repository.kind, row), lateness_ms: row.lateness_ms }),
          inTrace(row.traceparent)
        )
      }
    }
  })

  const logParked = (
    row: { readonly game_id: string; readonly target: string; readonly due_at: string },
    why: string
  ) =>
    Effect.logError(`A ${repository.kind} was given up: ${why}`).pipe(
      Effect.annotateLogs(fieldsOf(repository.kind, row))
    )

  /**
   * Whether a statement may have committed events that were not signalled: its answer was lost, or the deadline came
   * first and the server finished it later. At the start, that may be one of the process before.
   */
  let mayHaveTold = true

  /** One statement, its measures, and the signal to the relay; not interruptible, so that it ends before a stop. */
  const commit = (
    apply: Effect.Effect<ReadonlyArray<Processed>, SqlError.SqlError>,
    handOver: Effect.Effect<void> = Effect.void
  ) =>
    Effect.gen(function* () {
      const began = yield* Clock.monotonicTimeNanos
      const rows = yield* Effect.tapError(apply, () => Effect.sync(() => (mayHaveTold = true)))
      const elapsed = Duration.nanos((yield* Clock.monotonicTimeNanos) - began)
      const ended = yield* Clock.currentTimeNanos
      if (rows.length > 0) {
        yield* signal.committed
        yield* handOver
        yield* Metric.update(batchSeconds, Duration.toSeconds(elapsed))
        yield* Metric.update(batchRows, rows.length)
        yield* report(rows, elapsed)
        yield* beat(Duration.zero)
        if (tracer !== undefined) {
          // The relay need not wait for that.
          yield* Effect.yieldNow
          traceBatch(tracer, repository.kind, rows, { began: ended - Duration.toNanosUnsafe(elapsed), ended })
        }
      }
      return rows.length
    }).pipe(Effect.uninterruptible)

  /** Counts the failure of a row; one that may be the server's only if others have gone through since the row's last try. */
  const recordFailure = Effect.fnUntraced(function* (row: DueRow, error: SqlError.SqlError, certain: boolean) {
    const failure = { error: tagOf(error), message: describeSqlError(error) }
    const recorded = yield* repository.recordFailure(row, failure, settings.maxAttempts, certain)
    if (Option.isNone(recorded)) return
    const failed = recorded.value
    yield* Metric.update(
      Metric.withAttributes(Metrics.scheduleRows, {
        kind: repository.kind,
        outcome: failed.parked ? "parked" : "failed"
      }),
      1
    )
    if (tracer !== undefined) {
      traceFailure(tracer, repository.kind, failed, yield* Clock.currentTimeNanos, failure.message)
    }
    if (failed.parked) {
      yield* logParked(failed, `${failure.message} (attempt ${failed.attempts}, the last)`).pipe(
        inTrace(failed.planned_in)
      )
    } else {
      const uncounted = failed.counted ? "" : " (that counts no attempt: no other one went through meanwhile)"
      yield* Effect.logWarning(`A ${repository.kind} failed and is tried again: ${failure.message}${uncounted}`).pipe(
        Effect.annotateLogs({ ...fieldsOf(repository.kind, failed), attempt: failed.attempts }),
        inTrace(failed.planned_in)
      )
    }
  })

  const retryPassing = <A>(effect: Effect.Effect<A, SqlError.SqlError>) =>
    Effect.retry(effect, { schedule: passingRetries, while: (error) => classify(error) === "passing" })

  const applyThese = (rows: ReadonlyArray<DueRow>) => retryPassing(commit(repository.applyThese(rows)))

  const suspects = makeSuspects(applyThese, (row, error) => recordFailure(row, error, true))

  let limit = batchSize

  /** Where looks may begin: a bound that is lowered by hints, and dropped wherever one may have been missed. */
  let from: From

  /** Takes a batch of fresh rows that failed under suspicion, and returns how many they are. */
  const suspect = Effect.fnUntraced(function* (error: SqlError.SqlError, size: number, begin: From) {
    const doubtful = classify(error) === "doubtful"
    const rows = yield* repository.listDue(doubtful ? batchSize : size, suspects.rows(), begin)
    let handled = 0
    if (doubtful) {
      // A few of them show whether it is the server, which then is not asked a thousand times.
      const few = [0, 0.5, 1].flatMap((part) => rows.slice(Math.round(part * (rows.length - 1)))[0] ?? [])
      for (const row of few) {
        handled += yield* applyThese([row]).pipe(Effect.catchIf(isAboutRows, () => Effect.succeed(0)))
      }
      if (handled === 0) yield* error
    }
    // Another culprit may be near, and what a batch does before it fails is in vain. It may also have been too slow.
    limit = Math.min(limit, Math.max(Math.ceil(limit / 2), classify(error) === "passing" ? 1 : leastBatch))
    suspects.add(rows, handled)
    return rows.length
  })

  // The server may be so slow that a whole batch never ends in time; a single row does.
  const claimFewer = Effect.sync(() => (limit = Math.max(1, Math.floor(limit / 4))))

  /** Applies the next batch of fresh rows and returns how many were dealt with. */
  const applyFresh = (handOver?: Effect.Effect<void>): Effect.Effect<number, SqlError.SqlError> =>
    Effect.suspend(() => commit(repository.applyDue(limit, from, suspects.rows()), handOver)).pipe(
      retryPassing,
      Effect.tap((handled) =>
        Effect.sync(() => {
          // Where others hold everything, nothing was learned of the server's speed.
          if (handled > 0) limit = Math.min(limit + Math.ceil(limit / 8), batchSize)
        })
      ),
      Effect.catchIf(isAboutRows, (error) => suspect(error, limit, from)),
      Effect.tapError(() => claimFewer)
    )

  /** From when on rows are claimed out of turn, while there is a backlog. */
  let promptFrom: From

  /** While there is a backlog, applies what has come due since it did so last. */
  const applyPrompt = Effect.fnUntraced(function* (look: Look) {
    const recently = look.now - Duration.toMillis(backlogAfter)
    if (!isOverdue(look, backlogAfter)) {
      promptFrom = undefined
      return 0
    }
    if (!suspects.hasRoom()) return 0
    const size = Math.min(limit, promptSize)
    const begin = promptFrom ?? recently
    const handled = yield* commit(repository.applyDue(size, begin, suspects.rows())).pipe(
      Effect.catchIf(isAboutRows, (error) => suspect(error, size, begin)),
      Effect.tapError(() => claimFewer)
    )
    if (handled < size) promptFrom = recently
    return handled
  })

  /** Looks through the suspects for a while. */
  const search = Effect.gen(function* () {
    const end = (yield* uptimeMillis) + Duration.toMillis(searchShare)
    do yield* suspects.tryNext
    while (suspects.areThere() && (yield* uptimeMillis) < end)
  })

  const applyRetries: Effect.Effect<number, SqlError.SqlError> = Effect.gen(function* () {
    const rows = yield* repository.listRetries(retriesPerRound)
    let handled = 0
    for (const row of rows) {
      handled += yield* applyThese([row]).pipe(
        Effect.catchIf(isAboutRows, (error) => Effect.as(recordFailure(row, error, classify(error) === "row"), 1))
      )
    }
    return handled
  })

  return yield* Effect.scoped(
    Effect.gen(function* () {
      const hints = yield* listener.subscribe(repository.channel, channels.pauses)

      /** Lowers the bound to what a hint names; where it names nothing, everything is looked at. */
      const follow = ({ cause, earliest }: Hint): Hint["cause"] => {
        from = from === undefined || earliest === undefined ? undefined : Math.min(from, earliest)
        return cause
      }

      const wait = (limit: Duration.Duration, atLimit: WakeUp) =>
        Effect.gen(function* () {
          yield* beat(limit)
          const end = (yield* Clock.monotonicTimeNanos) + Duration.toNanosUnsafe(Duration.subtract(limit, onItsWay))
          const woken: WakeUp = yield* Effect.raceFirst(
            Effect.map(Queue.take(hints), follow),
            Effect.as(Effect.sleep(Duration.millis(wholeMillis(limit))), atLimit)
          )
          yield* Metric.update(Metric.withAttributes(Metrics.wakeUps, { loop, cause: woken }), 1)
          if (woken !== "timer") return woken
          for (let turn = 0; turn < turnsTillDue && (yield* Clock.monotonicTimeNanos) < end; turn++) {
            yield* Effect.yieldNow
          }
          return woken
        })

      /** When everything was looked at: once per backstop also where rows are due all the time, and it never rings. */
      let wholeAt = Number.NEGATIVE_INFINITY

      /** The overdue row that could have been applied when it was looked for last, and when that was. */
      let left: LeftRow | undefined
      let saidOf: LeftRow | undefined
      let lookedForLeftAt = Number.NEGATIVE_INFINITY

      /** Whether what is overdue gets done: a row that nobody holds must not be there the next time as well. */
      const judgeProgress = Effect.fnUntraced(function* (look: Look) {
        if (!isOverdue(look, overdueAfter)) {
          left = undefined
          yield* progress(true)
          return
        }
        const now = yield* uptimeMillis
        if (now - lookedForLeftAt < Duration.toMillis(judgeEvery)) return
        lookedForLeftAt = now
        const before = left
        left = Option.getOrUndefined(yield* repository.findLeft(overdueAfter, look.from, suspects.rows()))
        const isSame = (other: LeftRow | undefined) => left?.id === other?.id && left?.due === other?.due
        const stuck = left !== undefined && isSame(before)
        yield* progress(!stuck)
        if (left !== undefined && stuck && !isSame(saidOf)) {
          saidOf = left
          yield* Effect.logError(`A ${repository.kind} is overdue and nobody holds it, yet it does not get done`).pipe(
            Effect.annotateLogs(fieldsOf(repository.kind, { ...left, due_at: left.due }))
          )
        }
      })

      let saidPaused = false
      const notePause = Effect.fnUntraced(function* (paused: boolean) {
        if (paused === saidPaused) return
        saidPaused = paused
        yield* paused
          ? Effect.logWarning(`Nothing of the kind ${repository.kind} is done while it is paused, see "kickoff status"`)
          : Effect.logInfo(`The kind ${repository.kind} is not paused any more`)
      })

      let gaveWay = Duration.zero
      /** Whether the next batch is left for a moment, because of a backlog that the relay has not told of yet. */
      const giveWay = Effect.fnUntraced(function* (look: Look) {
        const inTurn = !isOverdue(look, backlogAfter) || Duration.isGreaterThanOrEqualTo(gaveWay, givesWay.for)
        if (inTurn || (yield* Effect.timeoutOption(signal.caughtUp, givesWay.every)).pipe(Option.isSome)) {
          gaveWay = Duration.zero
          return false
        }
        gaveWay = Duration.sum(gaveWay, givesWay.every)
        return true
      })

      /** From one wake-up to the next: everything that is due, then the wait. */
      const cycle = Effect.fnUntraced(function* (woken: WakeUp | undefined) {
        if (woken === "backstop") from = undefined
        // A timer rings because a row is due: applying it at once saves it the time of a look.
        if (woken === "timer") yield* applyFresh(relayFirst)
        let pause = shortestPause
        for (;;) {
          // Hints that came meanwhile: what they name must not wait for the end of a backlog.
          Option.map(yield* Queue.poll(hints), follow)
          const now = yield* uptimeMillis
          if (now - wholeAt >= Duration.toMillis(settings.backstop)) from = undefined
          const whole = from === undefined
          if (whole) wholeAt = now
          const look = yield* repository.look(from, suspects.rows())
          // During a pause nothing was learned of where pending rows begin.
          from = look.paused ? undefined : look.from
          yield* notePause(look.paused)
          if (whole && look.stalled) yield* repository.releaseStalled
          yield* judgeProgress(look)
          const prompt = yield* applyPrompt(look)
          if (yield* giveWay(look)) continue
          const fresh = isDue(look.fresh) && suspects.hasRoom() ? yield* applyFresh() : 0
          const searching = suspects.areThere()
          if (searching) yield* search
          const retried = isDue(look.retry) ? yield* applyRetries : 0
          if (!isDue(look.fresh) && !isDue(look.retry) && !searching) {
            // What an abandoned statement still had in hand would look due until its commit, so now it is over.
            if (mayHaveTold) {
              mayHaveTold = false
              yield* signal.committed
            }
            // While no hint can come, the look must be one's own.
            const backstop = (yield* listener.isUp) ? settings.backstop : Duration.min(deafPoll, settings.backstop)
            const next = Option.getOrElse(earliest(look.fresh, look.retry), () => backstop)
            return Duration.isLessThan(next, backstop) ? yield* wait(next, "timer") : yield* wait(backstop, "backstop")
          }
          if (prompt + fresh + retried > 0 || searching) {
            pause = shortestPause
            yield* beat(Duration.zero)
          } else {
            yield* wait(pause, "contended")
            pause = Duration.min(Duration.times(pause, 2), longestPause)
          }
        }
      })

      yield* beat(Duration.zero)
      // Not `Effect.forever`, which lets everybody else have a turn before a game that is due.
      for (let woken: WakeUp | undefined; ;) woken = yield* waitOut(cycle(woken))
    })
  )
})

/** What the log says of a row, under the names that its table has for it. */
const fieldsOf = (
  kind: ScheduleKind,
  row: { readonly game_id: string; readonly target: string; readonly due_at: string }
) =>
  kind === "status-transition"
    ? { game_id: row.game_id, transition_time: row.due_at, target_status: row.target }
    : { game_id: row.game_id, notification_time: row.due_at, reminder_minutes: Number(row.target) }

const isOverdue = (look: Look, by: Duration.Duration): boolean =>
  Option.exists(look.fresh, Duration.isLessThan(Duration.negate(by)))

/** What a timer is set to, which counts whole milliseconds, and may ring almost one early; never zero. */
const wholeMillis = (wait: Duration.Duration): number => Math.max(1, Math.round(Duration.toMillis(wait)))

const isDue = (until: Option.Option<Duration.Duration>): boolean =>
  Option.exists(until, Duration.isLessThanOrEqualTo(Duration.zero))

const earliest = (a: Option.Option<Duration.Duration>, b: Option.Option<Duration.Duration>) =>
  Option.isSome(a) && Option.isSome(b) ? Option.some(Duration.min(a.value, b.value)) : Option.orElse(a, () => b)
