/** One suite for every schedule: the two tables, and the schedule in memory that stands for them in unit tests. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { MemorySchedule } from "../../src/scheduling/MemoryDueRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { eventually, insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const first = <A>(rows: ReadonlyArray<A>): A => Option.getOrThrow(Option.fromNullishOr(rows[0]))

interface Harness {
  readonly repository: DueRepository
  /** Adds a row of a game of its own and returns its id. */
  readonly add: (dueInMs: number) => Effect.Effect<string>
  readonly isDone: (id: string) => Effect.Effect<boolean>
  /** Ids of dead letters' sources with their attempts. */
  readonly deadLetters: Effect.Effect<ReadonlyArray<readonly [string, number]>>
  /** Ends the pause of every row that failed. */
  readonly endPauses: Effect.Effect<void>
  /** Pauses the kind, or lets it go on. */
  readonly setPaused: (paused: boolean) => Effect.Effect<void>
}

const onTable = (table: "game_status_schedule" | "notification_schedule") =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const context = yield* Effect.context<SqlClient.SqlClient>()
    const done = sql(table === "game_status_schedule" ? "executed" : "sent")
    return {
      add: (dueInMs: number) =>
        Effect.gen(function* () {
          const game = yield* insertGame(3_600_000)
          return yield* table === "game_status_schedule"
            ? insertTransition(game, "IN_PROGRESS", dueInMs)
            : insertReminder(game, 15, dueInMs)
        }).pipe(Effect.provide(context), Effect.orDie),
      isDone: (id: string) =>
        sql<{ readonly done: boolean }>`SELECT ${done} AS done FROM ${sql(table)} WHERE id = ${id}`.pipe(
          Effect.map(([row]) => row?.done === true),
          Effect.orDie
        ),
      deadLetters: sql<{ readonly source_id: string; readonly attempts: number }>`
        SELECT source_id, attempts FROM dead_letters`.pipe(
        Effect.map((rows) => rows.map((row) => [row.source_id, row.attempts] as const)),
        Effect.orDie
      ),
      endPauses: sql`UPDATE ${sql(table)} SET retry_at = now() WHERE retry_at IS NOT NULL`.pipe(
        Effect.asVoid,
        Effect.orDie
      ),
      setPaused: (paused: boolean) => {
        const kind = table === "game_status_schedule" ? "status-transition" : "notification"
        const change = paused
          ? sql`INSERT INTO pauses (kind) VALUES (${kind})`
          : sql`UPDATE pauses SET resumed_at = now() WHERE kind = ${kind} AND resumed_at IS NULL`
        return change.pipe(Effect.asVoid, Effect.orDie)
      }
    }
  })

const inMemory = Effect.gen(function* (): Effect.fn.Return<Harness, never, MemorySchedule> {
  const schedule = yield* MemorySchedule
  return {
    repository: schedule.repository,
    add: (dueInMs) => {
      const id = randomUUID()
      return Effect.as(schedule.add(id, Duration.millis(dueInMs)), id)
    },
    isDone: (id) => Effect.sync(() => schedule.rows.get(id)?.done === true),
    deadLetters: Effect.sync(() => schedule.deadLetters.map((letter) => [letter.source_id, letter.attempts] as const)),
    endPauses: Effect.sync(() => {
      for (const row of schedule.rows.values()) row.retryAt = 0
    }),
    setPaused: (paused) =>
      Effect.sync(() => {
        schedule.paused = paused
      })
  }
})

const suite = <R, E>(name: string, make: Effect.Effect<Harness, E, R>, layer: Layer.Layer<R, E>) => {
  const failure = { error: "ConstraintError", message: "a row was refused" }
  const run = <E2>(test: (harness: Harness) => Effect.Effect<void, E2>) =>
    Effect.provide(Effect.flatMap(make, test), layer)

  describe(`DueRepository (${name})`, () => {
    it.live("sees nothing in an empty schedule", () =>
      run(({ repository }) =>
        Effect.gen(function* () {
          const look = yield* repository.look(undefined)
          assert.deepStrictEqual([look.fresh, look.retry, look.stalled], [Option.none(), Option.none(), false])
          assert.deepStrictEqual(yield* repository.applyDue(10, undefined), [])
        })
      )
    )

    it.live("tells how long it is until the earliest row is due", () =>
      run(({ add, repository }) =>
        Effect.gen(function* () {
          yield* add(90_000)
          yield* add(59_999.5)
          const { fresh } = yield* repository.look(undefined)
          const millis = Duration.toMillis(Option.getOrThrow(fresh))
          assert.isAtMost(millis, 59_999.5)
          assert.isAtLeast(millis, 50_000)
          assert.isFalse(Number.isInteger(millis / 1000), "it is not cut to whole seconds")
        })
      )
    )

    it.live("applies what is due, each row once, and nothing early", () =>
      run(({ add, isDone, repository }) =>
        Effect.gen(function* () {
          const due = yield* add(-1000)
          const early = yield* add(60_000)
          const processed = yield* repository.applyDue(10, undefined)
          assert.deepStrictEqual(
            processed.map((row) => row.id),
            [due]
          )
          assert.isAtLeast(processed[0]?.lateness_ms ?? -1, 1000)
          assert.isTrue(yield* isDone(due))
          assert.isFalse(yield* isDone(early))
          assert.deepStrictEqual(yield* repository.applyDue(10, undefined), [])
        })
      )
    )

    it.live("takes the earliest rows when there are more than asked for", () =>
      run(({ add, isDone, repository }) =>
        Effect.gen(function* () {
          const last = yield* add(-1000)
          const first = yield* add(-3000)
          const second = yield* add(-2000)
          assert.strictEqual((yield* repository.applyDue(2, undefined)).length, 2)
          assert.deepStrictEqual(yield* Effect.forEach([first, second, last], isDone), [true, true, false])
        })
      )
    )

    it.live("takes none that were due before the instant from which it shall, by the clock of its look", () =>
      run(({ add, isDone, repository }) =>
        Effect.gen(function* () {
          const before = yield* add(-60_000)
          const after = yield* add(-20_000)
          const { now } = yield* repository.look(undefined)
          yield* repository.applyDue(10, now - 40_000)
          assert.deepStrictEqual(yield* Effect.forEach([before, after], isDone), [false, true])
        })
      )
    )

    it.live("lists due rows without a claim and applies exactly the ones it is told", () =>
      run(({ add, isDone, repository }) =>
        Effect.gen(function* () {
          const a = yield* add(-2000)
          const b = yield* add(-1000)
          yield* add(60_000)
          const rows = yield* repository.listDue(10)
          assert.deepStrictEqual(
            rows.map((row) => row.id),
            [a, b]
          )
          assert.strictEqual((yield* repository.applyThese(rows.slice(1))).length, 1)
          assert.deepStrictEqual(yield* Effect.forEach([a, b], isDone), [false, true])
        })
      )
    )

    it.live("gives a failed row its pause, out of the fresh ones, and lists it when the pause is over", () =>
      run(({ add, endPauses, isDone, repository }) =>
        Effect.gen(function* () {
          const id = yield* add(-1000)
          const row = first(yield* repository.listDue(1))
          const failed = Option.getOrThrow(yield* repository.recordFailure(row, failure, 8))
          assert.deepStrictEqual([failed.attempts, failed.parked], [1, false])
          const look = yield* repository.look(undefined)
          assert.isTrue(Option.isNone(look.fresh))
          assert.isAtMost(Duration.toMillis(Option.getOrThrow(look.retry)), 500)
          assert.deepStrictEqual(yield* repository.applyDue(10, undefined), [])
          assert.deepStrictEqual(yield* repository.listRetries(10), [])
          yield* endPauses
          const retries = yield* repository.listRetries(10)
          assert.deepStrictEqual(retries, [row])
          assert.strictEqual((yield* repository.applyThese(retries)).length, 1)
          assert.isTrue(yield* isDone(id))
        })
      )
    )

    it.live("passes over the rows that it is told to, as they were read", () =>
      run(({ add, isDone, repository }) =>
        Effect.gen(function* () {
          const ids = [yield* add(-30_000), yield* add(-20_000), yield* add(3_600_000)]
          const due = yield* repository.listDue(10)
          assert.deepStrictEqual(yield* repository.listDue(10, due), [])
          assert.deepStrictEqual(yield* repository.listDue(10, due.slice(1)), due.slice(0, 1))
          const { now } = yield* repository.look(undefined)
          assert.deepStrictEqual(yield* repository.listDue(10, [], now - 25_000), due.slice(1))
          const { fresh, from } = yield* repository.look(undefined, due)
          assert.isAbove(Duration.toMinutes(Option.getOrThrow(fresh)), 50)
          const left = (except: typeof due) => repository.findLeft(Duration.seconds(10), undefined, except)
          assert.isTrue(Option.isNone(yield* left(due)))
          assert.strictEqual(Option.getOrThrow(yield* left(due.slice(0, 1))).id, ids[1])
          assert.deepStrictEqual(yield* repository.applyDue(10, undefined, due), [])
          const moved = due.map((row) => ({ ...row, due: name === "in memory" ? "1" : "2001-01-01 00:00:00+00" }))
          assert.deepStrictEqual(yield* repository.listDue(10, moved), due)
          // They are still before where the next look begins.
          assert.strictEqual((yield* repository.applyDue(10, from)).length, 2)
          assert.isFalse(yield* isDone(ids[2] ?? ""))
        })
      )
    )

    it.live("counts a failure that may be the server's if another row took effect since the one before", () =>
      run(({ add, isDone, repository }) =>
        Effect.gen(function* () {
          const before = yield* add(-2000)
          yield* repository.applyDue(1, undefined)
          assert.isTrue(yield* isDone(before))
          yield* add(-1000)
          const row = first(yield* repository.listDue(1))
          // Of those that fail for the first time somebody else must know.
          assert.isTrue(Option.getOrThrow(yield* repository.recordFailure(row, failure, 3, false)).counted)
          const fails = Effect.andThen(
            eventually(repository.listRetries(1), (rows) => rows.length > 0),
            Effect.map(repository.recordFailure(row, failure, 3, false), Option.getOrThrow)
          )
          const { attempts, counted, parked } = yield* fails
          assert.deepStrictEqual({ attempts, counted, parked }, { attempts: 1, counted: false, parked: false })
          const { retry } = yield* repository.look(undefined)
          assert.isAtMost(Duration.toMillis(Option.getOrThrow(retry)), 500)
          yield* add(-1000)
          yield* repository.applyDue(1, undefined)
          const next = yield* fails
          assert.deepStrictEqual([next.attempts, next.counted], [2, true])
        })
      )
    )

    it.live("makes a dead letter of a row after its last attempt", () =>
      run(({ add, deadLetters, endPauses, isDone, repository }) =>
        Effect.gen(function* () {
          const id = yield* add(-1000)
          const row = first(yield* repository.listDue(1))
          yield* repository.recordFailure(row, failure, 2)
          yield* endPauses
          assert.deepStrictEqual(yield* deadLetters, [])
          assert.isTrue(Option.getOrThrow(yield* repository.recordFailure(row, failure, 2)).parked)
          assert.deepStrictEqual(yield* deadLetters, [[id, 2]])
          const look = yield* repository.look(undefined)
          assert.deepStrictEqual([look.fresh, look.retry], [Option.none(), Option.none()])
          assert.deepStrictEqual(yield* repository.applyThese([row]), [])
          assert.isFalse(yield* isDone(id))
        })
      )
    )

    it.live("counts the same failure once when two engines have met it, and writes one dead letter", () =>
      run(({ add, deadLetters, endPauses, repository }) =>
        Effect.gen(function* () {
          const id = yield* add(-1000)
          const row = first(yield* repository.listDue(1))
          const fail = repository.recordFailure(row, failure, 2)
          assert.deepStrictEqual((yield* Effect.all([fail, fail])).map(Option.isSome), [true, false])
          yield* endPauses
          assert.deepStrictEqual((yield* Effect.all([fail, fail])).map(Option.isSome), [true, false])
          assert.deepStrictEqual(yield* deadLetters, [[id, 2]])
        })
      )
    )

    it.live("finds the earliest row that is left undone for a while, of those that are fresh", () =>
      run(({ add, repository }) =>
        Effect.gen(function* () {
          yield* add(-5000)
          assert.isTrue(Option.isNone(yield* repository.findLeft(Duration.seconds(10), undefined)))
          yield* add(-20_000)
          const earliest = yield* add(-30_000)
          const { id, due } = Option.getOrThrow(yield* repository.findLeft(Duration.seconds(10), undefined))
          assert.deepStrictEqual({ id, due }, first(yield* repository.listDue(1)))
          assert.strictEqual(id, earliest)
          yield* repository.recordFailure({ id, due }, failure, 8)
          yield* repository.applyDue(10, undefined)
          assert.isTrue(Option.isNone(yield* repository.findLeft(Duration.seconds(10), undefined)))
        })
      )
    )

    it.live("claims nothing while the kind is paused, neither fresh nor failed rows, and everything afterwards", () =>
      run(({ add, endPauses, isDone, repository, setPaused }) =>
        Effect.gen(function* () {
          const failed = yield* add(-2000)
          yield* repository.recordFailure(first(yield* repository.listDue(1)), failure, 8)
          yield* endPauses
          const fresh = yield* add(-1000)
          const rows = [...(yield* repository.listRetries(10)), ...(yield* repository.listDue(10))]
          assert.lengthOf(rows, 2)
          yield* setPaused(true)
          const during = yield* repository.look(undefined)
          assert.deepStrictEqual([during.paused, during.fresh, during.retry], [true, Option.none(), Option.none()])
          assert.deepStrictEqual(yield* repository.applyDue(10, undefined), [])
          assert.deepStrictEqual(yield* repository.applyThese(rows), [])
          assert.deepStrictEqual(yield* Effect.forEach([failed, fresh], isDone), [false, false])

          yield* setPaused(false)
          const after = yield* repository.look(undefined)
          assert.isFalse(after.paused)
          assert.isAtMost(Duration.toMillis(Option.getOrThrow(after.fresh)), -1000)
          assert.isTrue(Option.isSome(after.retry))
          assert.strictEqual((yield* repository.applyThese(rows)).length, 2)
          assert.deepStrictEqual(yield* Effect.forEach([failed, fresh], isDone), [true, true])
          yield* setPaused(true)
          assert.isTrue((yield* repository.look(undefined)).paused)
        })
      )
    )

    it.live("neither applies nor counts a row that was moved since it was read", () =>
      run(({ add, repository }) =>
        Effect.gen(function* () {
          yield* add(-1000)
          const row = first(yield* repository.listDue(1))
          const moved = { ...row, due: name === "in memory" ? "1" : "2001-01-01 00:00:00+00" }
          assert.deepStrictEqual(yield* repository.applyThese([moved]), [])
          assert.isTrue(Option.isNone(yield* repository.recordFailure(moved, failure, 8)))
          assert.strictEqual((yield* repository.applyThese([row])).length, 1)
        })
      )
    )
  })
}

suite("in memory", inMemory, MemorySchedule.layer)
suite(
  "game_status_schedule",
  Effect.gen(function* () {
    return { repository: yield* StatusTransitionRepository, ...(yield* onTable("game_status_schedule")) }
  }),
  StatusTransitionRepository.layer.pipe(Layer.provideMerge(TestDatabase.layer))
)
suite(
  "notification_schedule",
  Effect.gen(function* () {
    return { repository: yield* NotificationRepository, ...(yield* onTable("notification_schedule")) }
  }),
  NotificationRepository.layer.pipe(Layer.provideMerge(TestDatabase.layer))
)

describe("DueRepository (notification_schedule)", () => {
  it.live("sends one reminder of a game with each statement, earlier ones first", () =>
    Effect.gen(function* () {
      const repository = yield* NotificationRepository
      const game = yield* insertGame(3_600_000)
      const later = yield* insertReminder(game, 15, -1000)
      const earlier = yield* insertReminder(game, 60, -2000)
      const applied = Effect.map(repository.applyDue(10, undefined), (rows) => rows.map(({ id }) => id))
      assert.deepStrictEqual([yield* applied, yield* applied, yield* applied], [[earlier], [later], []])
    }).pipe(Effect.provide(NotificationRepository.layer.pipe(Layer.provideMerge(TestDatabase.layer))))
  )
})
