import { PgClient } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { inject } from "vitest"
import { Database, sqlState } from "../../src/postgres/Database.ts"
import { channels } from "../../src/postgres/channels.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

/** The two schedules, whose triggers behave alike. */
const schedules = [
  {
    table: "game_status_schedule",
    channel: channels.statusTransitions,
    due: "transition_time",
    done: "executed",
    doneAt: "executed_at",
    outcome: "applied",
    key: "target_status",
    keys: ["IN_PROGRESS", "COMPLETED"],
    kind: "status-transition"
  },
  {
    table: "notification_schedule",
    channel: channels.notifications,
    due: "notification_time",
    done: "sent",
    doneAt: "sent_at",
    outcome: "sent",
    key: "reminder_minutes",
    keys: [60, 15],
    kind: "notification"
  }
] as const

type Schedule = (typeof schedules)[number]

interface Row {
  readonly id: string
  readonly hold: string | null
  readonly attempts: number
  readonly retry_at: Date | null
  readonly outcome: string | null
  readonly done_at: Date | null
}

const insertGame = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [game] = yield* sql<{ readonly id: string }>`
    INSERT INTO game_sessions (guild_id, title, scheduled_at) VALUES ('guild', 'A game', now() + interval '1 day')
    RETURNING id`
  return game?.id ?? ""
})

/** Inserts as another application would, naming the contract's columns alone; `after` is an interval from now. */
const insertRows = (schedule: Schedule, ...after: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const games = yield* Effect.all(after.map(() => insertGame))
    const rows = yield* sql<{ readonly id: string; readonly game_id: string }>`
      INSERT INTO ${sql(schedule.table)} (game_id, ${sql(schedule.key)}, ${sql(schedule.due)})
      SELECT game_id, ${schedule.keys[0]}, statement_timestamp() + after
      FROM unnest(${games}::uuid[], ${after}::interval[]) AS planned (game_id, after)
      RETURNING id, game_id`
    return games.map((game) => rows.find((row) => row.game_id === game)?.id ?? "")
  })

const insertRow = (schedule: Schedule, after: string) => Effect.map(insertRows(schedule, after), ([id]) => id ?? "")

const getRow = (schedule: Schedule, id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<Row>`
      SELECT id, hold, attempts, retry_at, outcome, ${sql(schedule.doneAt)} AS done_at
      FROM ${sql(schedule.table)} WHERE id = ${id}::uuid`
    assert.isDefined(row)
    return row
  })

/** Makes a row as it stands after tries that failed. */
const fail = (schedule: Schedule, id: string, hold: "retry" | "parked") =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      UPDATE ${sql(schedule.table)}
      SET hold = ${hold}, attempts = 3, retry_at = now() + interval '10 seconds' WHERE id = ${id}::uuid`
  })

const move = (schedule: Schedule, id: string, by: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      UPDATE ${sql(schedule.table)} SET ${sql(schedule.due)} = ${sql(schedule.due)} + ${by}::interval
      WHERE id = ${id}::uuid`
  })

const setDone = (schedule: Schedule, id: string, done: boolean) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`UPDATE ${sql(schedule.table)} SET ${sql(schedule.done)} = ${done} WHERE id = ${id}::uuid`
  })

const insertDeadLetter = (schedule: Schedule, source: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      INSERT INTO dead_letters (kind, source_id, error, message, attempts, payload)
      VALUES (${schedule.kind}, ${source}::uuid, 'Broken', 'It is broken', 8, '{}')`
  })

const resolutionOf = (source: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [letter] = yield* sql<{ readonly resolution: string | null; readonly resolved: boolean }>`
      SELECT resolution, resolved_at IS NOT NULL AS resolved FROM dead_letters WHERE source_id = ${source}::uuid`
    return letter
  })

/** Runs an effect and returns the payloads that its commits sent; a notification of our own marks the end. */
const notifiedBy = <A, E, R>(schedule: Schedule, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const pg = yield* PgClient.PgClient
    const notifications = yield* pg.listen(schedule.channel)
    yield* effect
    yield* pg.notify(schedule.channel, "end")
    const payloads: Array<string> = []
    for (;;) {
      const { payload } = yield* Queue.take(notifications)
      if (payload === "end") return payloads
      payloads.push(payload)
    }
  }).pipe(Effect.scoped)

const idsOf = (payloads: ReadonlyArray<string>) =>
  payloads.map((payload) => {
    const { id }: { readonly id: string } = JSON.parse(payload)
    return id
  })

const stateOf = (error: SqlError.SqlError) => sqlState(error)

const checkViolation = "23514"

const postgres15Url = inject("postgres15Url")
const servers = [
  { version: 18, server: inject("postgresUrl") },
  ...(postgres15Url === null ? [] : [{ version: 15, server: postgres15Url }])
]

describe.each(servers)("On PostgreSQL $version", ({ server }) => {
  const database = TestDatabase.layerWith({ server })

  for (const schedule of schedules) {
    layer(database)(`the triggers of ${schedule.table}`, (it) => {
      it.effect("notify of a row that is due within five minutes, with its id and time", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          let id = ""
          const payloads = yield* notifiedBy(
            schedule,
            Effect.map(insertRow(schedule, "4 minutes 59 seconds"), (inserted) => {
              id = inserted
            })
          )
          const [row] = yield* sql<{ readonly due: string }>`
            SELECT to_json(${sql(schedule.due)} AT TIME ZONE 'UTC') #>> '{}' AS due
            FROM ${sql(schedule.table)} WHERE id = ${id}::uuid`
          assert.lengthOf(payloads, 1)
          const { [schedule.due]: time, ...rest }: Record<string, string> = JSON.parse(payloads[0] ?? "")
          assert.deepStrictEqual(rest, { id })
          assert.match(time ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
          assert.strictEqual(time?.replace(/\.?0*Z$/, ""), row?.due.replace(/\.0*$/, ""))
          assert.strictEqual(payloads[0], `{"id": "${id}", "${schedule.due}": "${time}"}`)
        })
      )

      it.effect("notify of a row that is overdue", () =>
        Effect.gen(function* () {
          assert.lengthOf(yield* notifiedBy(schedule, insertRow(schedule, "-400 days")), 1)
        })
      )

      it.effect("say nothing of a row that is due later, inserted or moved", () =>
        Effect.gen(function* () {
          const payloads = yield* notifiedBy(
            schedule,
            Effect.flatMap(insertRow(schedule, "5 minutes 5 seconds"), (id) => move(schedule, id, "1 hour"))
          )
          assert.isEmpty(payloads)
        })
      )

      it.effect("notify of a row that was moved into the next five minutes", () =>
        Effect.gen(function* () {
          const id = yield* insertRow(schedule, "1 hour")
          assert.deepStrictEqual(idsOf(yield* notifiedBy(schedule, move(schedule, id, "-59 minutes"))), [id])
        })
      )

      it.effect("name the earliest row of a statement that inserts many, and send one notification for it", () =>
        Effect.gen(function* () {
          let ids: ReadonlyArray<string> = []
          const payloads = yield* notifiedBy(
            schedule,
            Effect.map(insertRows(schedule, "3 minutes", "1 minute", "2 minutes", "1 hour"), (inserted) => {
              ids = inserted
            })
          )
          assert.deepStrictEqual(idsOf(payloads), [ids[1]])
        })
      )

      it.effect("notify of a row although an earlier one is pending or overdue", () =>
        Effect.gen(function* () {
          yield* insertRow(schedule, "-1 minute")
          assert.lengthOf(yield* notifiedBy(schedule, insertRow(schedule, "3 minutes")), 1)
        })
      )

      it.effect("judge every statement by its own rows, also after others of its transaction", () =>
        Effect.gen(function* () {
          const db = yield* Database
          let ids: ReadonlyArray<string> = []
          const payloads = yield* notifiedBy(
            schedule,
            db.transaction(
              Effect.gen(function* () {
                yield* insertRow(schedule, "1 hour")
                const first = yield* insertRow(schedule, "3 minutes")
                yield* insertRow(schedule, "2 hours")
                ids = [first, yield* insertRow(schedule, "1 minute")]
              })
            )
          )
          assert.deepStrictEqual(idsOf(payloads), ids)
        })
      )

      it.effect("notify of a statement also where another one runs within it", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const far = yield* insertRow(schedule, "1 hour")
          const id = yield* insertRow(schedule, "1 day")
          yield* sql`
            CREATE FUNCTION touch_another() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
            BEGIN
              IF NEW.id = '${id}' THEN UPDATE ${schedule.table} SET created_at = now() WHERE id = '${far}'; END IF;
              RETURN NEW;
            END $$`)}`
          yield* sql`
            CREATE TRIGGER touch_another BEFORE UPDATE ON ${sql(schedule.table)}
            FOR EACH ROW EXECUTE FUNCTION touch_another()`
          const payloads = yield* notifiedBy(schedule, move(schedule, id, "-1439 minutes"))
          yield* sql`DROP TRIGGER touch_another ON ${sql(schedule.table)}`
          yield* sql`DROP FUNCTION touch_another`
          assert.deepStrictEqual(idsOf(payloads), [id])
        })
      )

      it.effect("say nothing of a row that is done, and name it again when it is pending again", () =>
        Effect.gen(function* () {
          const id = yield* insertRow(schedule, "1 minute")
          assert.isEmpty(yield* notifiedBy(schedule, setDone(schedule, id, true)))
          assert.deepStrictEqual(idsOf(yield* notifiedBy(schedule, setDone(schedule, id, false))), [id])
        })
      )

      it.effect("say nothing when a try has failed, which would wake the loop for the row that it just put off", () =>
        Effect.gen(function* () {
          const id = yield* insertRow(schedule, "-1 second")
          assert.isEmpty(yield* notifiedBy(schedule, fail(schedule, id, "retry")))
        })
      )

      it.effect("say nothing of what was rolled back", () =>
        Effect.gen(function* () {
          const db = yield* Database
          const payloads = yield* notifiedBy(
            schedule,
            Effect.flip(db.transaction(Effect.andThen(insertRow(schedule, "1 minute"), Effect.fail("rolled back"))))
          )
          assert.isEmpty(payloads)
        })
      )

      it.effect("make a failed row a fresh one when its time changes, also when it was parked", () =>
        Effect.gen(function* () {
          for (const hold of ["retry", "parked"] as const) {
            const id = yield* insertRow(schedule, "-1 minute")
            yield* fail(schedule, id, hold)
            assert.strictEqual((yield* getRow(schedule, id)).attempts, 3)
            const payloads = yield* notifiedBy(schedule, move(schedule, id, "1 second"))
            const { attempts, hold: held, retry_at } = yield* getRow(schedule, id)
            assert.deepStrictEqual({ attempts, held, retry_at }, { attempts: 0, held: null, retry_at: null })
            assert.deepStrictEqual(idsOf(payloads), [id])
          }
        })
      )

      it.effect("make a failed row a fresh one when its flag changes", () =>
        Effect.gen(function* () {
          const id = yield* insertRow(schedule, "-1 minute")
          yield* fail(schedule, id, "retry")
          yield* setDone(schedule, id, true)
          const { attempts, hold, retry_at } = yield* getRow(schedule, id)
          assert.deepStrictEqual({ attempts, hold, retry_at }, { attempts: 0, hold: null, retry_at: null })
        })
      )

      it.effect("leave a failed row alone when neither its time nor its flag changes", () =>
        Effect.gen(function* () {
          const id = yield* insertRow(schedule, "-1 minute")
          yield* fail(schedule, id, "retry")
          yield* move(schedule, id, "0 seconds")
          yield* setDone(schedule, id, false)
          const { attempts, hold, retry_at } = yield* getRow(schedule, id)
          assert.deepStrictEqual({ attempts, hold }, { attempts: 3, hold: "retry" })
          assert.isNotNull(retry_at)
        })
      )

      it.effect("resolve the dead letter of a parked row that is changed as superseded, and no other", () =>
        Effect.gen(function* () {
          const [moved = "", done = "", other = ""] = yield* insertRows(schedule, "-1 minute", "-1 minute", "-1 minute")
          for (const id of [moved, done, other]) {
            yield* fail(schedule, id, "parked")
            yield* insertDeadLetter(schedule, id)
          }
          yield* move(schedule, moved, "1 hour")
          yield* setDone(schedule, done, true)
          assert.deepStrictEqual(yield* resolutionOf(moved), { resolution: "superseded", resolved: true })
          assert.deepStrictEqual(yield* resolutionOf(done), { resolution: "superseded", resolved: true })
          assert.deepStrictEqual(yield* resolutionOf(other), { resolution: null, resolved: false })
        })
      )

      it.effect("let a row that is pending again forget its outcome", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const id = yield* insertRow(schedule, "1 hour")
          yield* sql`
            UPDATE ${sql(schedule.table)}
            SET ${sql(schedule.done)} = TRUE, ${sql(schedule.doneAt)} = now(), outcome = ${schedule.outcome}
            WHERE id = ${id}::uuid`
          assert.strictEqual((yield* getRow(schedule, id)).outcome, schedule.outcome)
          yield* setDone(schedule, id, false)
          const { done_at, outcome } = yield* getRow(schedule, id)
          assert.deepStrictEqual({ done_at, outcome }, { done_at: null, outcome: null })
        })
      )

      it.effect("work for a writer whose search path lacks the schema", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const db = yield* Database
          const id = yield* insertRow(schedule, "-1 minute")
          yield* fail(schedule, id, "parked")
          yield* insertDeadLetter(schedule, id)
          yield* db.transaction(
            Effect.gen(function* () {
              yield* sql`SET LOCAL search_path = pg_catalog`
              yield* sql`
                UPDATE ${sql(`public.${schedule.table}`)} SET ${sql(schedule.done)} = TRUE WHERE id = ${id}::uuid`
            })
          )
          assert.deepStrictEqual(yield* resolutionOf(id), { resolution: "superseded", resolved: true })
        })
      )

      it.effect("stand beside a check that refuses infinity as a due time", () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const game = yield* insertGame
          const id = yield* insertRow(schedule, "1 hour")
          for (const time of ["infinity", "-infinity"]) {
            const inserted = yield* Effect.flip(sql`
              INSERT INTO ${sql(schedule.table)} (game_id, ${sql(schedule.key)}, ${sql(schedule.due)})
              VALUES (${game}::uuid, ${schedule.keys[0]}, ${time}::timestamptz)`)
            const updated = yield* Effect.flip(sql`
              UPDATE ${sql(schedule.table)} SET ${sql(schedule.due)} = ${time}::timestamptz WHERE id = ${id}::uuid`)
            const scheduled = yield* Effect.flip(sql`
              UPDATE game_sessions SET scheduled_at = ${time}::timestamptz WHERE id = ${game}::uuid`)
            assert.deepStrictEqual(
              [inserted, updated, scheduled].map(stateOf),
              Array.from({ length: 3 }, () => checkViolation)
            )
          }
        })
      )
    })
  }

  layer(database)("a game", (it) => {
    it.effect("has a start that everybody can read, and no reminder without a time", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const insert = (scheduledAt: string, reminders: string) => sql`
          INSERT INTO game_sessions (guild_id, title, scheduled_at, reminder_minutes)
          VALUES ('guild', 'a game', ${scheduledAt}::text::timestamptz, ${reminders}::text::int[])`
        yield* insert("9999-12-31T23:59:59.999999Z", "{1}")
        assert.strictEqual(stateOf(yield* Effect.flip(insert("10000-01-01T00:00:00Z", "{1}"))), checkViolation)
        assert.strictEqual(stateOf(yield* Effect.flip(insert("2030-01-01T00:00:00Z", "{1,NULL}"))), checkViolation)
      })
    )
  })

  layer(database)("a completion that waits for its start", (it) => {
    const [schedule] = schedules

    /** A game whose start is parked or late and whose completion waits for it. */
    const insertWaiting = Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const game = yield* insertGame
      const rows = yield* sql<{ readonly id: string; readonly target_status: string }>`
        INSERT INTO game_status_schedule (game_id, target_status, transition_time, hold)
        VALUES (${game}::uuid, 'IN_PROGRESS', now() - interval '2 minutes', 'retry'),
               (${game}::uuid, 'COMPLETED', now() - interval '1 minute', 'waiting')
        RETURNING id, target_status`
      const idOf = (target: string) => rows.find((row) => row.target_status === target)?.id ?? ""
      return { start: idOf("IN_PROGRESS"), completion: idOf("COMPLETED") }
    })

    it.effect("is released and named when the start is executed, by whomever, and that of no other game", () =>
      Effect.gen(function* () {
        const game = yield* insertWaiting
        const other = yield* insertWaiting
        const payloads = yield* notifiedBy(schedule, setDone(schedule, game.start, true))
        assert.isNull((yield* getRow(schedule, game.completion)).hold)
        assert.deepStrictEqual(idsOf(payloads), [game.completion])
        assert.strictEqual((yield* getRow(schedule, other.completion)).hold, "waiting")
      })
    )

    it.effect("goes on waiting when the start is only moved", () =>
      Effect.gen(function* () {
        const game = yield* insertWaiting
        yield* move(schedule, game.start, "1 hour")
        assert.strictEqual((yield* getRow(schedule, game.completion)).hold, "waiting")
      })
    )
  })
})
