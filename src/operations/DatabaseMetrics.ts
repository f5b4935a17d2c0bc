/**
 * The metrics that only the database knows, brought up to date when somebody scrapes them, and not more often than every
 * nine seconds: where nobody looks, nothing is asked.
 *
 * A database that does not answer holds up the scrape that asks it for a second, and none that come after. Then what it
 * was to say is missing, rather than old, and `kickoff_database_up` is 0. Every process says the same, whatever its roles.
 */
import { Clock, Context, Duration, Effect, Layer, Metric, Option, Result } from "effect"
import type { SqlError } from "effect/sql"
import { DeadLetterKind } from "../domain/DeadLetter.ts"
import * as Metrics from "../observability/Metrics.ts"
import { uptimeMillis } from "../observability/uptime.ts"
import { Database, describeSqlError, isAnswer } from "../postgres/Database.ts"
import { tagOf } from "../postgres/outages.ts"
import { shareQuestion } from "../postgres/sharedQuestion.ts"
import { DatabaseMetricsRepository, fromTheBeginning, type Holder } from "./DatabaseMetricsRepository.ts"

/** How old the values of a scrape may be; shorter than the usual interval of Prometheus. */
const freshFor = Duration.seconds(9)

/** How long a scrape waits for the database. */
const patience = Duration.seconds(1)

/** When questions are given up, so that their connection is not lost to a server that went away without a word. */
const abandonAfter = Duration.seconds(5)

/** How often the schedules are read from their beginning, past the index entries of what is done. */
const thoroughEvery = Duration.minutes(1)

/** From when on whoever holds vacuum back is named: seconds, or transactions where the time is not known. */
const namedFrom = { held: 30, age: 1000 }

/** Most names of applications that become a label. */
const namesAtMost = 50

type Series = readonly [metric: Metric.Gauge<number>, value: number]

export class DatabaseMetrics extends Context.Service<
  DatabaseMetrics,
  {
    /** Asks the database, if its last answers are too old, and shows what it says. Takes about a second at most. */
    readonly refresh: Effect.Effect<void>
  }
>()("kickoff/operations/DatabaseMetrics") {
  static readonly layer = Layer.effect(
    DatabaseMetrics,
    Effect.gen(function* () {
      const repository = yield* DatabaseMetricsRepository
      const database = yield* Database
      const context = yield* Effect.context()

      /** What belongs to the answer of one question: it comes and goes together. */
      const makeGroup = () => {
        let shown: ReadonlyArray<Series> = []
        return {
          isAnswered: false,
          show: (series: ReadonlyArray<Series>) => {
            for (const [metric] of shown) Metric.removeUnsafe(metric, context)
            for (const [metric, value] of series) metric.updateUnsafe(value, context)
            shown = series
          }
        }
      }

      const readClock = Effect.gen(function* () {
        const sent = yield* Clock.currentTimeMillis
        const began = yield* Clock.monotonicTimeNanos
        const now = yield* repository.now
        const roundTrip = Number((yield* Clock.monotonicTimeNanos) - began) / 1e9
        const offset = sent / 1000 + roundTrip / 2 - now / 1000
        return [[Metrics.databaseRoundTrip, roundTrip] as const, [Metrics.clockOffset, offset] as const]
      })

      const readTables = Effect.map(repository.listTables, (rows) =>
        rows.flatMap(({ dead, live, table }) => [
          [Metric.withAttributes(Metrics.tableDeadRows, { table }), dead] as const,
          [Metric.withAttributes(Metrics.tableLiveRows, { table }), live] as const
        ])
      )

      const names = new Set<string>()
      const label = (holder: Holder, age: number): string => {
        if (holder.held === null ? age < namedFrom.age : holder.held < namedFrom.held) return ""
        const application = applicationOf(holder)
        if (!names.has(application) && names.size >= namesAtMost) return "other"
        names.add(application)
        return application
      }
      const readHorizon = Effect.map(repository.listHolders, ([oldest]) => {
        const age = oldest?.age ?? 0
        const held = oldest === undefined ? 0 : oldest.held
        const application = oldest === undefined ? "" : label(oldest, age)
        return [
          [Metric.withAttributes(Metrics.xminAge, { application }), age] as const,
          ...(held === null ? [] : [[Metric.withAttributes(Metrics.xminHeld, { application }), held] as const])
        ]
      })

      let from = fromTheBeginning
      let thoroughAt = Number.NEGATIVE_INFINITY
      const readBacklogs = Effect.gen(function* () {
        const now = yield* uptimeMillis
        const thorough = now - thoroughAt >= Duration.toMillis(thoroughEvery)
        const backlogs = yield* repository.listBacklogs(thorough ? fromTheBeginning : from)
        if (thorough) thoroughAt = now
        for (const backlog of backlogs) from = { ...from, [backlog.kind]: backlog.from }
        return backlogs.flatMap(({ kind, next_due, overdue, paused, pending, retrying, waiting }) => [
          [Metric.withAttributes(Metrics.pendingRows, { kind }), pending] as const,
          [Metric.withAttributes(Metrics.overdueRows, { kind }), overdue] as const,
          [Metric.withAttributes(Metrics.pausedKinds, { kind }), paused ? 1 : 0] as const,
          ...(next_due === null ? [] : [[Metric.withAttributes(Metrics.nextDue, { kind }), next_due] as const]),
          [Metric.withAttributes(Metrics.restingRows, { kind, hold: "retry" }), retrying] as const,
          ...(kind === "status-transition"
            ? [[Metric.withAttributes(Metrics.restingRows, { kind, hold: "waiting" }), waiting] as const]
            : [])
        ])
      })

      const readOutbox = Effect.map(repository.outbox, ({ events, oldest, refused }) => [
        [Metrics.outboxEvents, events] as const,
        [Metrics.outboxRefused, refused] as const,
        [Metrics.outboxOldest, oldest] as const
      ])

      const readLetters = Effect.map(repository.countOpenLetters, (letters) =>
        DeadLetterKind.literals.map(
          (kind) => [Metric.withAttributes(Metrics.openLetters, { kind }), letters.get(kind) ?? 0] as const
        )
      )

      const clock = { ...makeGroup(), read: readClock }
      // What needs no table comes first: it is there also while somebody has one locked.
      const groups: ReadonlyArray<
        ReturnType<typeof makeGroup> & { readonly read: Effect.Effect<ReadonlyArray<Series>, SqlError.SqlError> }
      > = [
        clock,
        { ...makeGroup(), read: readHorizon },
        { ...makeGroup(), read: readTables },
        { ...makeGroup(), read: readBacklogs },
        { ...makeGroup(), read: readOutbox },
        { ...makeGroup(), read: readLetters }
      ]

      yield* Effect.addFinalizer(() => Effect.sync(() => groups.forEach((group) => group.show([]))))

      let said = false
      const note = Effect.fnUntraced(function* (failure: Option.Option<string>) {
        if (Option.isSome(failure) && !said) {
          yield* Effect.logWarning(`Metrics are missing until the database answers: ${failure.value}`)
        } else if (Option.isNone(failure) && said) yield* Effect.logInfo("The database answers again for all metrics")
        said = Option.isSome(failure)
      })

      /** What was not answered is not shown. */
      const conclude = Effect.suspend(() => {
        for (const group of groups) if (!group.isAnswered) group.show([])
        return Metric.update(Metrics.databaseUp, clock.isAnswered ? 1 : 0)
      })

      let answeredAt = Number.NEGATIVE_INFINITY
      /** Question after question; succeeds with why the first of those that failed did. */
      const ask = Effect.gen(function* () {
        for (const group of groups) group.isAnswered = false
        const began = yield* uptimeMillis
        let failure: string | undefined
        for (const group of groups) {
          const answer = yield* group.read.pipe(
            database.within(abandonAfter),
            // The first query after the server came back fails on a stale connection, the second does not.
            Effect.retry({ times: 1, while: (error) => !isAnswer(error) }),
            Effect.result
          )
          if (Result.isSuccess(answer)) {
            group.isAnswered = true
            group.show(answer.success)
            continue
          }
          const error = tagOf(answer.failure)
          yield* Metric.update(Metric.withAttributes(Metrics.databaseMetricsErrors, { error }), 1)
          failure ??= describeSqlError(answer.failure)
          // Whoever is away now will not answer the next question either.
          if (!isAnswer(answer.failure)) break
        }
        if (failure === undefined) answeredAt = began
        yield* conclude
        return Option.fromUndefinedOr(failure)
      })
      const question = yield* shareQuestion(ask, patience)

      const refresh = Effect.gen(function* () {
        if ((yield* uptimeMillis) - answeredAt < Duration.toMillis(freshFor)) return
        const answer = yield* question
        if (Option.isNone(answer)) yield* conclude
        yield* note(
          Option.match(answer, {
            onNone: () => Option.some(`no answer within ${Duration.format(patience)}`),
            onSome: Result.getOrThrow
          })
        )
      })
      return DatabaseMetrics.of({ refresh })
    })
  )
}

/** Whose it is, as a label: one for all replicas, and for all prepared transactions. */
const applicationOf = ({ kind, name }: Holder): string =>
  kind === "transaction"
    ? name.replace(/^(kickoff:[^@]+)@.*$/, "$1")
    : kind === "prepared transaction"
      ? kind
      : `${kind} ${name}`
