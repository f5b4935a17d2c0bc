/** The spans of what the loops and the relay do to games that carry a trace, on a real database. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Queue, Tracer } from "effect"
import { SqlClient } from "effect/sql"
import { EventRefused, PublishError } from "../../src/messaging/Publisher.ts"
import { SpanExport, toTraceparent } from "../../src/observability/traceContext.ts"
import { Broker, engine, engineLayer } from "../support/engine.ts"
import { eventually, insertGame } from "../support/games.ts"
import { acceptGames, refuseGames } from "../support/refuse.ts"

const planner = Tracer.externalSpan({ traceId: "a".repeat(32), spanId: "b".repeat(16) })
const traceparent = toTraceparent(planner)
const unrecorded = traceparent.replace(/01$/, "00")

interface Told {
  readonly spans: ReadonlyArray<Tracer.Span>
  /** Waits until so many spans have ended, and returns them. */
  readonly ended: (count: number) => Effect.Effect<ReadonlyArray<Tracer.Span>>
}

/** Runs a test with the whole engine, and what it tells of itself in spans. */
const withSpans = <A, E, R>(test: (told: Told) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const spans: Array<Tracer.Span> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const over = () => spans.filter(({ status }) => status._tag === "Ended")
    const ended = (count: number) => eventually(Effect.sync(over), (found) => found.length >= count).pipe(Effect.orDie)
    return Effect.andThen(Effect.forkScoped(engine), test({ spans, ended })).pipe(
      Effect.provide(engineLayer({ maxAttempts: 2 })),
      Effect.provideService(SpanExport, { requests: tracer, recorded: tracer })
    )
  })

/** Plans a start in so many milliseconds, in a trace or in none: one statement, because the engine is at work. */
const planStart = Effect.fnUntraced(function* (dueInMs: number, trace: string | null = null) {
  const sql = yield* SqlClient.SqlClient
  const game = yield* insertGame(dueInMs)
  yield* sql`
    INSERT INTO game_status_schedule (game_id, target_status, transition_time, traceparent)
    VALUES (${game}, 'IN_PROGRESS', clock_timestamp() + ${dueInMs}::float8 * interval '1 millisecond', ${trace})`
})

const parentOf = ({ parent }: Tracer.Span) => Option.getOrUndefined(parent)?.spanId

const exitOf = ({ status }: Tracer.Span) => (status._tag === "Ended" ? status.exit : undefined)

describe("the engine that exports spans", () => {
  it.live("records a reminder in the trace of its plan, and its publishing after that", () =>
    withSpans(({ ended }) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const game = yield* insertGame(60_000)
        yield* sql`
          INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time, traceparent)
          VALUES (${game}, 15, clock_timestamp(), ${traceparent})`
        const spans = yield* ended(3)
        const named = (name: string) => Effect.orDie(Effect.fromNullishOr(spans.find((span) => span.name === name)))
        const reminder = yield* named("notification")
        const published = yield* named("publish game.reminder_due")
        const batch = yield* named("notification batch")
        assert.deepStrictEqual([reminder.traceId, published.traceId], [planner.traceId, planner.traceId])
        assert.deepStrictEqual([parentOf(reminder), parentOf(published)], [planner.spanId, reminder.spanId])
        assert.strictEqual(reminder.attributes.get("kickoff.reminder_minutes"), 15)
        assert.strictEqual(reminder.attributes.get("kickoff.game_id"), game)
        assert.strictEqual(reminder.links[0]?.span, batch)
        assert.isUndefined(parentOf(batch))
        assert.strictEqual(published.kind, "producer")
      })
    )
  )

  it.live("makes no span for rows without a recorded trace, and none for their batch", () =>
    withSpans(({ ended, spans }) =>
      Effect.gen(function* () {
        const { received } = yield* Broker
        yield* planStart(-1)
        yield* planStart(-1, unrecorded)
        for (let n = 0; n < 2; n++) yield* Queue.take(received)
        yield* planStart(-1, traceparent)
        yield* Queue.take(received)
        yield* ended(3)
        assert.sameMembers(
          spans.map(({ name }) => name),
          ["status-transition batch", "status-transition", "publish game.started"]
        )
      })
    )
  )

  it.live("records each failure of a row and its success at last, all under the plan", () =>
    withSpans(({ ended }) =>
      Effect.gen(function* () {
        yield* refuseGames()
        yield* planStart(-1, traceparent)
        const [failure] = yield* ended(1)
        assert.isDefined(failure)
        if (failure === undefined) return
        assert.strictEqual(parentOf(failure), planner.spanId)
        assert.strictEqual(failure.attributes.get("kickoff.outcome"), "failed")
        assert.deepStrictEqual(exitOf(failure), Exit.fail("this game is refused"))
        yield* acceptGames
        const applied = (yield* ended(4)).find((span) => span.attributes.get("kickoff.outcome") === "applied")
        assert.isDefined(applied)
        if (applied !== undefined) assert.strictEqual(parentOf(applied), planner.spanId)
      })
    )
  )

  it.live("records each try to publish an event", () =>
    withSpans(({ ended }) =>
      Effect.gen(function* () {
        const broker = yield* Broker
        broker.answer = (event) => {
          broker.answer = () => Effect.void
          return Effect.fail(
            new PublishError({ event_id: event.id, reason: new EventRefused({ detail: "a queue refused it" }) })
          )
        }
        yield* planStart(-1, traceparent)
        const tries = (yield* ended(4)).filter(({ name }) => name === "publish game.started")
        assert.lengthOf(tries, 2)
        assert.strictEqual(new Set(tries.map(({ spanId }) => spanId)).size, 2)
        assert.strictEqual(new Set(tries.map(parentOf)).size, 1)
        assert.deepStrictEqual(
          tries.map((span) => Exit.isSuccess(exitOf(span) ?? Exit.void)),
          [false, true]
        )
      })
    )
  )
})
