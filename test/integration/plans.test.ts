/**
 * The statements of the loops stay bound to their indexes, however much lies in the tables and whatever the planner knows.
 *
 * What is explained is what the repositories really send, see `support/plans.ts`.
 */
import { assert, describe, layer, type Vitest } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import {
  countedExactly,
  DatabaseMetricsRepository,
  fromTheBeginning
} from "../../src/operations/DatabaseMetricsRepository.ts"
import { OutboxRepository, type WaitingEvent } from "../../src/outbox/OutboxRepository.ts"
import { Database } from "../../src/postgres/Database.ts"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { assertBound, assertReads, planOf, prepare, rolledBack, statementsOf } from "../support/plans.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** Games that are still to come, and as many that are over; each has two rows of both schedules. */
const games = 100_000

/** Events that wait; two of each game. */
const events = 200_000

/** Pauses of each kind that are over. */
const pauses = 1000

/** Dead letters; every other one is settled. */
const letters = 60_000

/** Lets the server gather no statistics by itself. */
const quieten = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  for (const table of ["game_sessions", "game_status_schedule", "notification_schedule", "outbox", "pauses"]) {
    yield* sql`ALTER TABLE ${sql(table)} SET (autovacuum_enabled = false)`
  }
})

/**
 * Games of the past with their rows done, and games to come, from `first` on, a minute apart. Without triggers and keys
 * being checked, which would only take time.
 */
const fill = Effect.fnUntraced(function* (first: string) {
  const sql = yield* SqlClient.SqlClient
  const database = yield* Database
  yield* database.transaction(
    Effect.gen(function* () {
      yield* sql`SET LOCAL session_replication_role = replica`
      yield* sql`SET LOCAL statement_timeout = 0`
      yield* sql`
        INSERT INTO game_sessions (guild_id, title, status, scheduled_at)
        SELECT 'guild ' || n % 1000, 'a game', 'COMPLETED', now() - interval '3 years' + n * interval '1 minute'
        FROM generate_series(1, ${games}::int) AS n`
      yield* sql`
        INSERT INTO game_sessions (guild_id, title, scheduled_at)
        SELECT 'guild ' || n % 1000, 'a game', now() + ${first}::interval + n * interval '1 minute'
        FROM generate_series(1, ${games}::int) AS n`
      yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time, executed, executed_at, outcome)
        SELECT id, target, scheduled_at + duration, done, CASE WHEN done THEN scheduled_at + duration END,
          CASE WHEN done THEN 'applied' END
        FROM game_sessions
        CROSS JOIN (VALUES ('IN_PROGRESS', interval '0'), ('COMPLETED', interval '1 hour')) AS row (target, duration)
        CROSS JOIN LATERAL (SELECT status = 'COMPLETED' AS done)`
      yield* sql`
        INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time, sent, sent_at, outcome)
        SELECT id, minutes, scheduled_at - minutes * interval '1 minute', done, CASE WHEN done THEN scheduled_at END,
          CASE WHEN done THEN 'sent' END
        FROM game_sessions
        CROSS JOIN (VALUES (60), (15)) AS row (minutes)
        CROSS JOIN LATERAL (SELECT status = 'COMPLETED' AS done)`
      yield* sql`
        INSERT INTO outbox (game_id, type, data)
        SELECT id, type, '{"title": "a game"}'
        FROM (SELECT id FROM game_sessions ORDER BY scheduled_at LIMIT ${events / 2}) AS game
        CROSS JOIN (VALUES ('game.created'), ('game.updated')) AS event (type)`
      // Some that failed: a hundred of each kind are tried again now, a hundred later, a hundred were given up.
      for (const [table, due, done] of [
        ["game_status_schedule", "transition_time", "executed"],
        ["notification_schedule", "notification_time", "sent"]
      ] as const) {
        yield* sql`
          WITH failed AS (
            SELECT id, row_number() OVER (ORDER BY ${sql(due)}) AS n
            FROM ${sql(table)} WHERE ${sql(done)} = FALSE ORDER BY ${sql(due)} LIMIT 300
          )
          UPDATE ${sql(table)} AS row
          SET attempts = 1, hold = CASE WHEN n <= 200 THEN 'retry' ELSE 'parked' END,
            retry_at = CASE WHEN n <= 100 THEN now() WHEN n <= 200 THEN now() + interval '20 seconds' END
          FROM failed WHERE row.id = failed.id`
      }
      yield* sql`
        UPDATE game_status_schedule SET hold = 'waiting'
        WHERE id IN (
          SELECT id FROM game_status_schedule WHERE executed = FALSE AND hold IS NULL AND target_status = 'COMPLETED'
          ORDER BY transition_time LIMIT 100
        )`
      yield* sql`
        INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload, resolved_at)
        SELECT 'event', gen_random_uuid(), 'EventRefused', 'refused', 8, '{}', CASE WHEN n % 2 = 0 THEN now() END
        FROM generate_series(1, ${letters}::int) AS n`
      yield* sql`
        INSERT INTO pauses (kind, paused_at, paused_by, resumed_at)
        SELECT kind, now() - n * interval '1 hour', 'an operator', now() - n * interval '1 hour' + interval '1 minute'
        FROM generate_series(1, ${pauses}::int) AS n CROSS JOIN (VALUES ('status-transition'), ('notification')) AS of (kind)`
      // A batch every ten seconds.
      yield* sql`
        INSERT INTO ledger (recorded_at, replica, kind, source_ids, game_ids, targets, due_at, outcomes, attempts, event_ids)
        SELECT now() - n * interval '10 seconds', 'a replica', kind, ARRAY[gen_random_uuid()], ARRAY[gen_random_uuid()],
          ARRAY['IN_PROGRESS'], ARRAY[now()], ARRAY['superseded'], ARRAY[0], ARRAY[gen_random_uuid()]
        FROM generate_series(1, 20000) AS n
        CROSS JOIN (VALUES ('status-transition'), ('notification')) AS kinds (kind)`
      yield* sql`
        UPDATE outbox SET attempts = 1, retry_at = now() + (id % 2) * interval '20 seconds'
        WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT 200)`
    })
  )
})

/** A database of its own with many rows, and what reads them. */
const filled = (first: string) =>
  Layer.mergeAll(
    Layer.effectDiscard(Effect.andThen(quieten, fill(first))),
    StatusTransitionRepository.layer,
    NotificationRepository.layer,
    OutboxRepository.layer,
    DatabaseMetricsRepository.layer
  ).pipe(Layer.provideMerge(TestDatabase.layerWith({ connections: 1 })))

/** Lets the server gather statistics. */
const analysed = Layer.effectDiscard(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`ANALYZE`
  })
)

const scenarios = [
  // Fewer than a batch takes, so that nothing ends the reading but the plan.
  { name: "few rows are due", first: "-8 hours" },
  { name: "all rows are overdue", first: "-1 year" }
]

for (const { first, name } of scenarios) {
  layer(filled(first), { timeout: "120 seconds" })(`when ${name}`, (it) => {
    // In this order: what was gathered cannot be forgotten.
    describe("and there are no statistics", () => statements(it))
    it.layer(analysed, { timeout: "60 seconds" })("and statistics are fresh", (it) => statements(it))
  })
}

/** Events have come and gone. */
const used = Layer.effectDiscard(
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      INSERT INTO outbox (game_id, type, data)
      SELECT gen_random_uuid(), 'game.started', '{"title": "a game"}' FROM generate_series(1, 3000)`
    yield* sql`DELETE FROM outbox`
    yield* sql`ANALYZE`
  })
)

/** Tables without rows: as they are at first, or as they are left by a busy evening when the server has noticed its end. */
const empty = (usedBefore: boolean) =>
  Layer.mergeAll(
    Layer.effectDiscard(quieten),
    StatusTransitionRepository.layer,
    NotificationRepository.layer,
    OutboxRepository.layer,
    DatabaseMetricsRepository.layer
  ).pipe(
    Layer.provideMerge(usedBefore ? used : Layer.empty),
    Layer.provideMerge(TestDatabase.layerWith({ connections: 1, steady: true }))
  )

for (const { name, usedBefore } of [
  { name: "when they were planned while the tables were empty", usedBefore: false },
  { name: "when they were planned while the tables were empty again", usedBefore: true }
]) {
  layer(empty(usedBefore), { timeout: "120 seconds" })(name, (it) => {
    it.effect(
      "they find their rows by the indexes all the same",
      () =>
        Effect.gen(function* () {
          const outbox = yield* OutboxRepository
          const row = { id: "00000000-0000-4000-8000-000000000000", due: "2026-01-01 00:00:00+00" }
          const failure = { error: "ConstraintError", message: "refused" }
          const effects: Array<Effect.Effect<unknown, SqlError.SqlError>> = [
            outbox.look,
            outbox.list(1000),
            outbox.list(1000, [row.id]),
            outbox.listLatest(100),
            outbox.listLatest(100, [row.id]),
            outbox.remove(["1", "2"])
          ]
          for (const due of [yield* StatusTransitionRepository, yield* NotificationRepository]) {
            effects.push(
              due.look(undefined),
              due.applyDue(1000, undefined),
              due.applyThese([row]),
              due.listDue(1000),
              due.listRetries(10),
              due.findLeft(Duration.seconds(15), undefined),
              due.recordFailure(row, failure, 8)
            )
          }
          effects.push((yield* StatusTransitionRepository).releaseStalled)
          const metrics = yield* DatabaseMetricsRepository
          const early = (yield* Effect.forEach(questions(metrics), statementsOf)).flat()
          const sent = (yield* Effect.forEach(effects, statementsOf)).flat()
          yield* Effect.forEach(sent, (statement, index) => prepare(`early_${index}`, statement))
          yield* Effect.forEach(early, (statement, index) => prepare(`asked_${index}`, statement))
          yield* fill("-1 year")
          yield* Effect.forEach(sent, (statement, index) =>
            Effect.map(rolledBack(planOf(`early_${index}`, statement)), (plan) =>
              assertBound(10_000, plan, statement.text)
            )
          )
          yield* Effect.forEach(early, (statement, index) =>
            Effect.map(rolledBack(planOf(`asked_${index}`, statement)), (plan) =>
              assertBound(questionReads, plan, statement.text)
            )
          )
        }),
      60_000
    )
  })
}

layer(OutboxRepository.layer.pipe(Layer.provideMerge(TestDatabase.layerWith({ connections: 2 }))))(
  "while somebody keeps an old snapshot",
  (it) => {
    it.effect("listing events passes nothing that is gone", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const database = yield* Database
        const outbox = yield* OutboxRepository
        yield* quieten
        const held = yield* Deferred.make<void>()
        const over = yield* Deferred.make<void>()
        const holder = yield* Effect.forkScoped(
          database.transaction(
            Effect.gen(function* () {
              yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
              yield* sql`SELECT FROM outbox LIMIT 1`
              yield* Deferred.succeed(held, undefined)
              yield* Deferred.await(over)
            })
          )
        )
        yield* Deferred.await(held)
        const append = (count: number) => sql`
          INSERT INTO outbox (game_id, type, data)
          SELECT gen_random_uuid(), 'game.created', '{"title": "a game"}' FROM generate_series(1, ${count}::int)`
        yield* append(20_000)
        for (let listed = yield* outbox.list(1000); listed.length > 0; listed = yield* outbox.list(1000)) {
          yield* outbox.remove(listed.map(({ id }) => id))
        }
        const blocksOf = (name: string) =>
          Effect.gen(function* () {
            const [sent] = yield* statementsOf(outbox.list(1000))
            assert.isDefined(sent)
            yield* prepare(name, sent)
            const plan = yield* planOf(name, sent)
            return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
          })
        // As after every backlog, and when the relay is woken next.
        yield* outbox.look
        yield* append(1)
        yield* outbox.look
        assert.isBelow(yield* blocksOf("later"), 50)
        yield* outbox.startOver
        assert.isAbove(yield* blocksOf("at_first"), 200)
        yield* Deferred.succeed(over, undefined)
        yield* Fiber.join(holder)
      }).pipe(Effect.scoped)
    )
  }
)

/** What the metrics ask of tables. */
const questions = (metrics: DatabaseMetricsRepository["Service"]) => [
  metrics.listBacklogs(fromTheBeginning),
  metrics.outbox,
  metrics.countOpenLetters
]

/** Most rows that one of them reads: the heads of both schedules, and what rests. */
const questionReads = 2 * countedExactly + 1000

function statements(
  it: Vitest.MethodsNonLive<
    | StatusTransitionRepository
    | NotificationRepository
    | OutboxRepository
    | DatabaseMetricsRepository
    | SqlClient.SqlClient
    | Database
  >
) {
  const kinds: ReadonlyArray<{
    readonly kind: string
    readonly repository: Effect.Effect<DueRepository, never, StatusTransitionRepository | NotificationRepository>
  }> = [
    { kind: "status transitions", repository: StatusTransitionRepository },
    { kind: "notifications", repository: NotificationRepository }
  ]

  for (const { kind, repository } of kinds) {
    it.effect(`the look at the ${kind} reads the heads of its indexes`, () =>
      Effect.gen(function* () {
        yield* assertReads(10, (yield* repository).look(undefined))
      })
    )

    it.effect(`applying due ${kind} reads a few rows for each that it applies`, () =>
      Effect.gen(function* () {
        const due = yield* repository
        yield* assertReads(100, due.applyDue(10, undefined))
        yield* assertReads(10_000, due.applyDue(1000, undefined))
      })
    )

    it.effect(`applying named ${kind} reads a few rows for each of them`, () =>
      Effect.gen(function* () {
        const due = yield* repository
        const rows = yield* due.listDue(1000)
        assert.isNotEmpty(rows)
        yield* assertReads(10 * rows.length, due.applyThese(rows))
        yield* assertReads(10, due.applyThese(rows.slice(0, 1)))
      })
    )

    it.effect(`listing due ${kind} reads what it lists`, () =>
      Effect.gen(function* () {
        yield* assertReads(1000, (yield* repository).listDue(1000))
      })
    )

    it.effect(`listing failed ${kind} reads what it lists, and their games`, () =>
      Effect.gen(function* () {
        yield* assertReads(20, (yield* repository).listRetries(10))
      })
    )

    it.effect(`finding what is left undone of the ${kind} reads that row and its game`, () =>
      Effect.gen(function* () {
        yield* assertReads(4, (yield* repository).findLeft(Duration.seconds(15), undefined))
      })
    )

    it.effect(`recording that one of the ${kind} failed reads that row`, () =>
      Effect.gen(function* () {
        const due = yield* repository
        const [row] = yield* due.listDue(1)
        assert.isDefined(row)
        const failure = { error: "ConstraintError", message: "refused" }
        yield* assertReads(4, due.recordFailure(row, failure, 8))
        yield* assertReads(4, due.recordFailure(row, failure, 1))
        const [retry] = yield* due.listRetries(1)
        assert.isDefined(retry)
        // It failed a while ago, so a few batches of since then are asked.
        yield* assertReads(20, due.recordFailure(retry, failure, 8, false))
      })
    )
  }

  it.effect("releasing waiting completions reads those that wait", () =>
    Effect.gen(function* () {
      yield* assertReads(500, (yield* StatusTransitionRepository).releaseStalled)
    })
  )

  it.effect("the questions for the metrics read so many rows at most", () =>
    Effect.gen(function* () {
      for (const question of questions(yield* DatabaseMetricsRepository)) yield* assertReads(questionReads, question)
    })
  )

  it.effect("the look at the outbox reads its head and what failed", () =>
    Effect.gen(function* () {
      yield* assertReads(300, (yield* OutboxRepository).look)
    })
  )

  it.effect("listing events reads what it lists and what failed", () =>
    Effect.gen(function* () {
      yield* assertReads(3000, (yield* OutboxRepository).list(1000))
    })
  )

  it.effect("listing the latest events reads those and what is earlier of their games", () =>
    Effect.gen(function* () {
      yield* assertReads(400, (yield* OutboxRepository).listLatest(100))
    })
  )

  it.effect("removing confirmed events reads those", () =>
    Effect.gen(function* () {
      const outbox = yield* OutboxRepository
      const listed = yield* outbox.list(1000)
      assert.lengthOf(listed, 1000)
      yield* assertReads(1000, outbox.remove(listed.map(({ id }) => id)))
    })
  )

  it.effect("recording that an event was refused reads that event", () =>
    Effect.gen(function* () {
      const outbox = yield* OutboxRepository
      const [event] = yield* outbox.list(1)
      assert.isDefined(event)
      const failure = { error: "Rejected", message: "refused" }
      const refuse = (event: WaitingEvent, attempts: number) => outbox.recordFailure(event, failure, attempts)
      yield* assertReads(4, refuse(event, 8))
      yield* assertReads(4, refuse(event, 1))
    })
  )
}
