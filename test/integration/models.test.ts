/** The models against the tables they stand for, and the pauses that SQL counts against the policy that names them. */
import { assert, describe, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { DeadLetter } from "../../src/domain/DeadLetter.ts"
import { Game } from "../../src/domain/Game.ts"
import { OutboxEvent } from "../../src/domain/GameEvent.ts"
import { Reminder } from "../../src/domain/Reminder.ts"
import { pauseAfter } from "../../src/domain/RetryPolicy.ts"
import { StatusTransition } from "../../src/domain/StatusTransition.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { insertGame, insertReminder, insertTransition } from "../support/games.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

/** A row as the clients of the table write it, with all that has a default left out, and the same with every column set. */
const tables: ReadonlyArray<{
  readonly table: string
  readonly model: Schema.ConstraintCodec<unknown, unknown> & { readonly fields: Readonly<Record<string, unknown>> }
  readonly insert: (game: string) => ReadonlyArray<string>
}> = [
  {
    table: "game_sessions",
    model: Game,
    insert: () => [
      `INSERT INTO game_sessions (guild_id, title, scheduled_at) VALUES ('guild', 'a game', now())`,
      `INSERT INTO game_sessions (guild_id, channel_id, host_id, title, description, location, status, scheduled_at,
         expected_duration_minutes, max_players, reminder_minutes, version)
       VALUES ('guild', 'channel', 'host', 'a game', 'described', 'somewhere', 'CANCELLED', now(), 0, 100, '{}', 7)`
    ]
  },
  {
    table: "game_status_schedule",
    model: StatusTransition,
    insert: (game) => [
      `INSERT INTO game_status_schedule (game_id, target_status, transition_time) VALUES ('${game}', 'IN_PROGRESS', now())`,
      `INSERT INTO game_status_schedule (game_id, target_status, transition_time, executed, executed_at, outcome, traceparent)
       VALUES ('${game}', 'COMPLETED', now(), TRUE, now(), 'superseded', '${traceparent}')`,
      `INSERT INTO game_status_schedule (game_id, target_status, transition_time, hold, attempts, retry_at)
       VALUES ('${game}', 'CANCELLED', now(), 'retry', 3, now())`
    ]
  },
  {
    table: "notification_schedule",
    model: Reminder,
    insert: (game) => [
      `INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time) VALUES ('${game}', 60, now())`,
      `INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time, sent, sent_at, outcome, traceparent)
       VALUES ('${game}', 15, now(), TRUE, now(), 'skipped', '${traceparent}')`,
      `INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time, hold, attempts, retry_at)
       VALUES ('${game}', 5, now(), 'parked', 8, now())`
    ]
  },
  {
    table: "outbox",
    model: OutboxEvent,
    insert: (game) => [
      `INSERT INTO outbox (game_id, type, data) VALUES ('${game}', 'game.created', '{"title": "a game", "version": 1}')`,
      `INSERT INTO outbox (game_id, type, data, due_at, attempts, retry_at, traceparent)
       VALUES ('${game}', 'game.started', '{"nested": [{"a": null}, 1.5, true]}', now(), 2, now(), '${traceparent}')`
    ]
  },
  {
    table: "dead_letters",
    model: DeadLetter,
    insert: (game) => [
      `INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload)
       VALUES ('event', gen_random_uuid(), 'Rejected', 'refused', 8, '{}')`,
      `INSERT INTO dead_letters (kind, source_id, game_id, due_at, error, message, attempts, payload, resolved_at,
         resolved_by, resolution)
       VALUES ('status-transition', gen_random_uuid(), '${game}', now(), 'ConstraintError', 'refused', 8,
         '{"id": "x"}', now(), 'somebody', 'replayed')`
    ]
  }
]

const repositories = Layer.mergeAll(
  StatusTransitionRepository.layer,
  NotificationRepository.layer,
  OutboxRepository.layer
).pipe(Layer.provideMerge(TestDatabase.layer))

layer(repositories, { timeout: "60 seconds" })((it) => {
  describe("the models of the tables", () => {
    for (const { insert, model, table } of tables) {
      it.effect(`have exactly the columns of ${table}`, () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const columns = yield* sql<{ readonly column_name: string }>`
            SELECT column_name FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name = ${table} ORDER BY ordinal_position`
          assert.deepStrictEqual(
            Object.keys(model.fields),
            columns.map((column) => column.column_name)
          )
        })
      )

      it.effect(`decode the rows of ${table} and encode what they have decoded`, () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const game = yield* insertGame(60_000)
          for (const statement of insert(game)) {
            const [row] = yield* sql.unsafe(`${statement} RETURNING *`)
            const decoded = yield* Schema.decodeUnknownEffect(model)(row)
            assert.deepStrictEqual(yield* Schema.encodeEffect(model)(decoded), row)
          }
        })
      )
    }
  })

  describe("the pause after a failure", () => {
    const attempts = [1, 2, 3, 4, 5, 6, 7, 8, 20, 40]
    const failure = { error: "ConstraintError", message: "refused" }
    const databaseClock = Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [row] = yield* sql<{ readonly now: string }>`SELECT clock_timestamp()::text AS now`
      return row?.now ?? ""
    })

    /** Records a failure that is the so-manieth of a row, and asserts when the row is tried again. */
    const assertPause = <E, R>(table: string, id: string, attempt: number, fail: Effect.Effect<number, E, R>) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        // The pause of the attempt before is over.
        yield* sql`
          UPDATE ${sql(table)}
          SET attempts = ${attempt - 1}, retry_at = CASE WHEN retry_at IS NOT NULL THEN clock_timestamp() END
          WHERE id::text = ${id}`
        const before = yield* databaseClock
        assert.strictEqual(yield* fail, attempt)
        const after = yield* databaseClock
        const pause = Duration.toSeconds(pauseAfter(attempt))
        const [row] = yield* sql<{ readonly as_named: boolean; readonly pause: number }>`
          SELECT retry_at - ${pause}::float8 * interval '1 second'
              BETWEEN ${before}::timestamptz AND ${after}::timestamptz AS as_named,
            extract(epoch FROM retry_at - ${before}::timestamptz)::float8 AS pause
          FROM ${sql(table)} WHERE id::text = ${id}`
        assert.isTrue(row?.as_named, `after attempt ${attempt}: ${row?.pause} s instead of ${pause} s`)
      })

    const scheduled = (repository: DueRepository, table: string, id: string) =>
      Effect.gen(function* () {
        const [row] = yield* repository.listDue(1)
        assert.strictEqual(row?.id, id)
        for (const attempt of attempts) {
          yield* assertPause(
            table,
            id,
            attempt,
            Effect.map(repository.recordFailure({ id, due: row?.due ?? "" }, failure, 100), (failed) =>
              Option.match(failed, { onNone: () => 0, onSome: (row) => row.attempts })
            )
          )
        }
      })

    it.effect("of a status transition is that of the policy", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`DELETE FROM game_status_schedule`
        const id = yield* insertTransition(yield* insertGame(0), "IN_PROGRESS", -1000)
        yield* scheduled(yield* StatusTransitionRepository, "game_status_schedule", id)
      })
    )

    it.effect("of a reminder is that of the policy", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`DELETE FROM notification_schedule`
        const id = yield* insertReminder(yield* insertGame(0), 15, -1000)
        yield* scheduled(yield* NotificationRepository, "notification_schedule", id)
      })
    )

    it.effect("of an event is that of the policy", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`DELETE FROM outbox`
        const game = yield* insertGame(0)
        yield* sql`INSERT INTO outbox (game_id, type, data) VALUES (${game}, 'game.created', '{}')`
        const outbox = yield* OutboxRepository
        const [event] = yield* outbox.list(1)
        assert.isDefined(event)
        for (const attempt of attempts) {
          yield* assertPause(
            "outbox",
            event.id,
            attempt,
            Effect.map(outbox.recordFailure(event, failure, 100), (refused) => refused.attempts)
          )
        }
      })
    )
  })
})
