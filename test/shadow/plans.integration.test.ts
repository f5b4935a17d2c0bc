/**
 * The statements of the loops in shadow stay bound to their indexes, however much is decided and stays pending.
 *
 * They run on a session of a loop, whose plans may stem from when the tables were empty.
 */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { Database } from "../../src/postgres/Database.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { notifications, statusTransitions } from "../../src/shadow/footing.ts"
import { ShadowRunRepository } from "../../src/shadow/ShadowRunRepository.ts"
import { assertBound, assertReads, planOf, prepare, rolledBack, statementsOf } from "../support/plans.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** Games of the last days and of the next; each has two rows of both schedules, none of them done. */
const games = 100_000

/** How many of them are due within the last hour, in which decided rows are passed over one by one. */
const recent = 1000

const fill = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const database = yield* Database
  yield* database.transaction(
    Effect.gen(function* () {
      yield* sql`SET LOCAL session_replication_role = replica`
      yield* sql`SET LOCAL statement_timeout = 0`
      yield* sql`UPDATE shadow_run SET since = now() - interval '1 year'`
      // A game every 3.6 seconds: 50,000 of them in the last two days, as many to come.
      yield* sql`
        INSERT INTO game_sessions (guild_id, title, scheduled_at)
        SELECT 'guild', 'a game', now() + (n - ${games / 2}::int) * ${3600 / recent}::float8 * interval '1 second'
        FROM generate_series(1, ${games}::int) AS n`
      yield* sql`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        SELECT id, target, scheduled_at + duration FROM game_sessions
        CROSS JOIN (VALUES ('IN_PROGRESS', interval '0'), ('COMPLETED', interval '1 day')) AS row (target, duration)`
      yield* sql`
        INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
        SELECT id, minutes, scheduled_at + interval '1 day' - minutes * interval '1 minute' FROM game_sessions
        CROSS JOIN (VALUES (60), (15)) AS row (minutes)`
      // All but the latest hundred of each kind are decided.
      yield* sql`
        INSERT INTO shadow_decisions (kind, due_at, source_id, game_id, target, outcome, game_status, replica)
        SELECT 'status-transition', transition_time, id, game_id, target_status, 'applied', 'SCHEDULED', 'r'
        FROM game_status_schedule WHERE transition_time <= now() ORDER BY transition_time DESC OFFSET 100`
      yield* sql`
        INSERT INTO shadow_decisions (kind, due_at, source_id, game_id, target, outcome, game_status, replica)
        SELECT 'notification', notification_time, id, game_id, reminder_minutes::text, 'sent', 'SCHEDULED', 'r'
        FROM notification_schedule WHERE notification_time <= now() ORDER BY notification_time DESC OFFSET 100`
    })
  )
})

const kinds = [StatusTransitionRepository, NotificationRepository] as const

/** Twice the rows of an hour, each with the decision on it, and room. */
const hourly = 2 * 2 * recent + 500

layer(
  Layer.merge(statusTransitions, notifications).pipe(
    Layer.provideMerge(Layer.effectDiscard(Effect.flatMap(ShadowRunRepository, (run) => run.begin))),
    Layer.provideMerge(ShadowRunRepository.layer),
    Layer.provideMerge(TestDatabase.layerWith({ connections: 1, steady: true }))
  ),
  { timeout: "120 seconds" }
)("the loops in shadow", (it) => {
  it.effect("read no more than the last hour and what is due, also by plans from when the tables were empty", () =>
    Effect.gen(function* () {
      const row = { id: "00000000-0000-4000-8000-000000000000", due: "2026-01-01 00:00:00+00" }
      const effects: Array<Effect.Effect<unknown, SqlError.SqlError>> = []
      for (const kind of kinds) {
        const due = yield* kind
        effects.push(
          due.look(undefined),
          due.applyDue(1000, undefined),
          due.applyThese([row]),
          due.listDue(1000),
          due.findLeft(Duration.seconds(15), undefined),
          due.recordFailure(row, { error: "DataError", message: "refused" }, 8)
        )
      }
      const sent = (yield* Effect.forEach(effects, statementsOf)).flat()
      assert.lengthOf(sent, effects.length)
      yield* Effect.forEach(sent, (statement, index) => prepare(`early_${index}`, statement))
      yield* fill
      yield* Effect.forEach(sent, (statement, index) =>
        Effect.map(rolledBack(planOf(`early_${index}`, statement)), (plan) => assertBound(hourly, plan, statement.text))
      )
      const sql = yield* SqlClient.SqlClient
      yield* sql`ANALYZE`
      for (const kind of kinds) {
        const due = yield* kind
        yield* assertReads(hourly, due.look(undefined))
        yield* assertReads(hourly, due.applyDue(1000, undefined))
        // A look that knows where the last one found its first pending row passes over nothing.
        const { from } = yield* due.look(undefined)
        yield* assertReads(30, due.look(from))
      }
    })
  )
})
