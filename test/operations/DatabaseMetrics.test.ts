import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { SqlError } from "effect/sql"
import { TestClock } from "effect/testing"
import { DatabaseMetrics } from "../../src/operations/DatabaseMetrics.ts"
import { DatabaseMetricsRepository, type Holder } from "../../src/operations/DatabaseMetricsRepository.ts"
import { Database } from "../../src/postgres/Database.ts"
import { idleBacklog } from "../support/backlog.ts"

const transaction: Holder = { kind: "transaction", name: "psql", pid: 42, age: 1, held: 60, abandoned: false }

/** The database went away, or refuses a statement that it has understood. */
const away = new SqlError.SqlError({
  reason: new SqlError.ConnectionError({ cause: new Error("connection refused"), message: "connection refused" })
})
const refused = new SqlError.SqlError({
  reason: new SqlError.AuthorizationError({
    cause: Object.assign(new Error("permission denied for table outbox"), { code: "42501" }),
    message: "permission denied"
  })
})

/** A database that answers as it is told to, and says what it was asked. */
const makeServer = () => {
  const asked: Array<string> = []
  const from: Array<number> = []
  const answers = {
    clock: 0,
    holders: [] as ReadonlyArray<Holder>,
    /** Stands before the answers to the questions named. */
    before: new Map<string, Effect.Effect<void, SqlError.SqlError>>()
  }
  const question = <A>(name: string, answer: () => A): Effect.Effect<A, SqlError.SqlError> =>
    Effect.suspend(() => {
      asked.push(name)
      return Effect.map(answers.before.get(name) ?? Effect.void, answer)
    })
  const repository = DatabaseMetricsRepository.of({
    now: question("now", () => answers.clock),
    listBacklogs: (bounds) => {
      from.push(bounds["status-transition"])
      return question("backlogs", () => [
        { ...idleBacklog, kind: "status-transition", pending: 3, overdue: 1, next_due: -2.5, from: 5000 },
        { ...idleBacklog, kind: "notification", paused: true }
      ])
    },
    outbox: question("outbox", () => ({ events: 7, refused: 2, oldest: 1.5 })),
    countOpenLetters: question("letters", () => new Map([["event" as const, 4]])),
    listTables: question("tables", () => [{ table: "outbox", autovacuum: true, dead: 11, live: 12 }]),
    listHolders: question("horizon", () => answers.holders)
  })
  const database = Database.of({ transaction: (effect) => effect, within: () => (effect) => effect })
  const layer = DatabaseMetrics.layer.pipe(
    Layer.provide(Layer.merge(Layer.succeed(DatabaseMetricsRepository, repository), Layer.succeed(Database, database)))
  )
  return { answers, asked, from, layer }
}

type Server = ReturnType<typeof makeServer>

/** In a registry of its own, because the tests of a file share one otherwise. */
const beside = <A, E>(test: (server: Server) => Effect.Effect<A, E, DatabaseMetrics>) => {
  const server = makeServer()
  return Effect.provide(test(server), server.layer).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
}

const scrape = Effect.flatMap(DatabaseMetrics, ({ refresh }) => Effect.andThen(refresh, PrometheusMetrics.format()))

describe("the metrics of the database", () => {
  it.effect("show what it says", () =>
    beside(() =>
      Effect.gen(function* () {
        const text = yield* scrape
        for (const line of [
          "kickoff_database_up 1",
          'kickoff_pending_rows{kind="status-transition"} 3',
          'kickoff_overdue_rows{kind="status-transition"} 1',
          'kickoff_next_due_seconds{kind="status-transition"} -2.5',
          'kickoff_pending_rows{kind="notification"} 0',
          'kickoff_paused{kind="status-transition"} 0',
          'kickoff_paused{kind="notification"} 1',
          'kickoff_resting_rows{kind="notification",hold="retry"} 0',
          "kickoff_outbox_events 7",
          "kickoff_outbox_refused_events 2",
          "kickoff_outbox_oldest_seconds 1.5",
          'kickoff_dead_letters_open{kind="event"} 4',
          'kickoff_dead_letters_open{kind="notification"} 0',
          'kickoff_table_dead_rows{table="outbox"} 11',
          'kickoff_xmin_age_transactions{application=""} 0'
        ]) {
          assert.include(text.split("\n"), line)
        }
        // Nothing is pending, so nothing is due next.
        assert.notInclude(text, 'kickoff_next_due_seconds{kind="notification"}')
      })
    )
  )

  it.effect("are asked for once by all who scrape within nine seconds, and by nobody otherwise", () =>
    beside(({ asked }) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("1 hour")
        assert.isEmpty(asked)
        yield* Effect.replicateEffect(scrape, 10, { concurrency: "unbounded" })
        yield* TestClock.adjust("8 seconds")
        yield* scrape
        assert.lengthOf(asked, new Set(asked).size)
        yield* TestClock.adjust("1 second")
        yield* scrape
        assert.lengthOf(asked, 2 * new Set(asked).size)
      })
    )
  )

  it.effect("are missing after a second when it does not answer, and there again when it does", () =>
    beside(({ answers }) =>
      Effect.gen(function* () {
        yield* scrape
        yield* TestClock.adjust("10 seconds")
        const asked = yield* Deferred.make<void>()
        const thawed = yield* Deferred.make<void>()
        answers.before.set("now", Effect.andThen(Deferred.succeed(asked, undefined), Deferred.await(thawed)))
        const scraping = yield* Effect.forkChild(scrape)
        yield* Deferred.await(asked)
        yield* TestClock.adjust("1 second")
        const frozen = yield* Fiber.join(scraping)
        assert.include(frozen, "kickoff_database_up 0\n")
        for (const name of ["pending", "overdue", "next", "outbox", "dead", "table", "xmin", "clock"]) {
          assert.notInclude(frozen, `kickoff_${name}_`)
        }
        answers.before.clear()
        yield* Deferred.succeed(thawed, undefined)
        const healed = yield* scrape
        assert.include(healed, "kickoff_database_up 1\n")
        assert.include(healed, "kickoff_outbox_events 7\n")
      })
    )
  )

  it.effect("are missing at once when it is away, and asked for again at the next scrape", () =>
    beside(({ answers }) =>
      Effect.gen(function* () {
        yield* scrape
        yield* TestClock.adjust("10 seconds")
        answers.before.set("now", Effect.fail(away))
        const text = yield* scrape
        assert.include(text, "kickoff_database_up 0\n")
        assert.notInclude(text, "kickoff_outbox_events")
        assert.include(text, 'kickoff_database_metrics_errors_total{error="ConnectionError"} 1\n')
        answers.before.clear()
        assert.include(yield* scrape, "kickoff_database_up 1\n")
      })
    )
  )

  it.effect("are complete but for the answer that it refuses", () =>
    beside(({ answers, asked }) =>
      Effect.gen(function* () {
        answers.before.set("outbox", Effect.fail(refused))
        const text = yield* scrape
        assert.include(text, "kickoff_database_up 1\n")
        assert.notInclude(text, "kickoff_outbox_events")
        assert.include(text, 'kickoff_dead_letters_open{kind="event"} 4\n')
        assert.include(text, 'kickoff_database_metrics_errors_total{error="AuthorizationError"} 1\n')
        assert.lengthOf(
          asked.filter((name) => name === "outbox"),
          1
        )
      })
    )
  )

  it.effect("survive a connection that was lost since they were last asked for", () =>
    beside(({ answers }) =>
      Effect.gen(function* () {
        let stale = true
        answers.before.set(
          "now",
          Effect.suspend(() => {
            if (!stale) return Effect.void
            stale = false
            return Effect.fail(away)
          })
        )
        assert.include(yield* scrape, "kickoff_database_up 1\n")
      })
    )
  )

  it.effect("say how far the process's clock is ahead, in the middle of the question", () =>
    beside(({ answers }) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("100 seconds")
        answers.clock = 99_000
        assert.include(yield* scrape, "kickoff_clock_offset_seconds 1\n")
        yield* TestClock.adjust("10 seconds")
        answers.clock = 110_100
        answers.before.set("now", TestClock.adjust("200 millis"))
        const text = yield* scrape
        assert.match(text, /^kickoff_clock_offset_seconds (0|-?\d\.\d+e-\d+)$/m)
        assert.include(text, "kickoff_database_round_trip_seconds 0.2\n")
      })
    )
  )

  it.effect("name who holds vacuum back once it lasts, and only then", () =>
    beside(({ answers }) =>
      Effect.gen(function* () {
        const held = Effect.fnUntraced(function* (holder: Holder) {
          answers.holders = [holder, { ...transaction, name: "younger", age: 1, held: 40 }]
          yield* TestClock.adjust("10 seconds")
          return (yield* scrape).split("\n").filter((line) => line.startsWith("kickoff_xmin"))
        })
        assert.deepStrictEqual(yield* held({ ...transaction, age: 5, held: 29 }), [
          'kickoff_xmin_age_transactions{application=""} 5',
          'kickoff_xmin_held_seconds{application=""} 29'
        ])
        assert.deepStrictEqual(yield* held({ ...transaction, age: 6, held: 30 }), [
          'kickoff_xmin_age_transactions{application="psql"} 6',
          'kickoff_xmin_held_seconds{application="psql"} 30'
        ])
        assert.deepStrictEqual(
          yield* held({ ...transaction, kind: "replication slot", name: "a", age: 1000, held: null }),
          ['kickoff_xmin_age_transactions{application="replication slot a"} 1000']
        )
        assert.deepStrictEqual(
          yield* held({ ...transaction, kind: "prepared transaction", name: "x", age: 7, held: 60 }),
          [
            'kickoff_xmin_age_transactions{application="prepared transaction"} 7',
            'kickoff_xmin_held_seconds{application="prepared transaction"} 60'
          ]
        )
      })
    )
  )

  it.effect("have a bounded number of names, whatever others call themselves", () =>
    beside(({ answers }) =>
      Effect.gen(function* () {
        const name = Effect.map(
          Effect.andThen(TestClock.adjust("10 seconds"), scrape),
          (text) => /^kickoff_xmin_held_seconds\{application="(.*)"\}/m.exec(text)?.[1]
        )
        // Our own sessions have the name of a part, not one for each process.
        answers.holders = [{ ...transaction, name: "kickoff:metrics@host:1" }]
        assert.strictEqual(yield* name, "kickoff:metrics")
        const names = new Set<string | undefined>(["kickoff:metrics"])
        for (let count = 0; count < 60; count++) {
          answers.holders = [{ ...transaction, name: `job ${count}` }]
          names.add(yield* name)
        }
        assert.strictEqual(names.size, 51)
        assert.isTrue(names.has("other"))
      })
    )
  )

  it.effect("begin where the last answer began, and once a minute at the beginning", () =>
    beside(({ from }) =>
      Effect.gen(function* () {
        for (let count = 0; count < 8; count++) {
          yield* scrape
          yield* TestClock.adjust("10 seconds")
        }
        assert.deepStrictEqual(from, [-1, 5000, 5000, 5000, 5000, 5000, -1, 5000])
      })
    )
  )
})
