/**
 * The real service for the model: its HTTP API, two engines and other applications on one PostgreSQL, and what can be
 * seen of every game from outside.
 *
 * Engines either do a step when they are told, or run by themselves. Nothing waits for real time; see `stoppedClock.ts`.
 */
import {
  type Cause,
  Context,
  DateTime,
  Deferred,
  Duration,
  Effect,
  Layer,
  Logger,
  Option,
  type Redacted,
  Schedule
} from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import type { CloudEvent } from "../../src/domain/GameEvent.ts"
import { GameRepository } from "../../src/games/GameRepository.ts"
import { LedgerRepository } from "../../src/ledger/LedgerRepository.ts"
import { verify } from "../../src/ledger/Verification.ts"
import { EventRefused, Publisher, PublishError } from "../../src/messaging/Publisher.ts"
import { Health } from "../../src/observability/Health.ts"
import { Replica } from "../../src/observability/Replica.ts"
import { OutboxRepository } from "../../src/outbox/OutboxRepository.ts"
import { OutboxSignal } from "../../src/outbox/OutboxSignal.ts"
import * as Relay from "../../src/outbox/Relay.ts"
import { channels } from "../../src/postgres/channels.ts"
import { Database, describeSqlError, sqlState } from "../../src/postgres/Database.ts"
import { Listener } from "../../src/postgres/Listener.ts"
import { run } from "../../src/scheduling/DueLoop.ts"
import type { DueRepository } from "../../src/scheduling/DueRepository.ts"
import { NotificationRepository } from "../../src/scheduling/NotificationRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { Settings } from "../../src/Settings.ts"
import { type Answer as HttpAnswer, httpLayer, request } from "../http/apiServer.ts"
import { answeringPublisher } from "../support/answeringPublisher.ts"
import { repositories, runDaemons } from "../support/daemons.ts"
import type { Engine, Kind, RowName, Status } from "./commands.ts"
import { type Act, type Answer, type Fields, maxAttempts, type Patch, type PlannedRow } from "./model.ts"
import { isGameRow, isSchedule, makeSight, type Observation, showGameRow, showRows } from "./sight.ts"
import { makeDatabase } from "./stoppedClock.ts"
import { minutesOf, minutesPerStep, targetOf, toDate, toMinutes } from "./units.ts"

/** Longest that anything may take that has nothing to wait for. */
const patience = "10 seconds"

/** Shortest rest that is none because of somebody else's lock, ms. */
const realRest = 200
/** What loops add to a rest before they count as stuck, ms. */
const slack = 30_000

/** Statements that change something take up to this long while several things happen at once, seconds. */
const jitter = 0.002

export class World extends Context.Service<
  World,
  {
    /** Forgets everything, and begins at step 0. */
    readonly reset: Effect.Effect<void>
    /** Lets statements take a little longer, so that what happens at the same time really meets. */
    readonly crowd: (crowded: boolean) => Effect.Effect<void>
    readonly passTo: (step: number) => Effect.Effect<void>
    readonly observe: Effect.Effect<Observation>
    /** The same as soon as engines that run by themselves have nothing to do. */
    readonly observeAtRest: Effect.Effect<Observation, Cause.TimeoutError>
    /** A game and its rows as the API shows them; null if it says that there is none. */
    readonly read: (id: string) => Effect.Effect<object | null>
    /** How many offenders each check of `verify` finds, if any. */
    readonly verify: Effect.Effect<Readonly<Record<string, number>>>

    /** Over HTTP; answers the id of the game, if there is one. */
    readonly create: (
      fields: Fields,
      options: { readonly key: string | null; readonly twice?: boolean }
    ) => Effect.Effect<{ readonly answer: Answer; readonly id: string | null }>
    /** Another application inserts a game with some of its rows. */
    readonly insert: (fields: Fields, rows: ReadonlyArray<PlannedRow>) => Effect.Effect<string>
    readonly act: (
      id: string,
      act: Exclude<Act, { readonly _tag: "Repeat" | "Settle" | "Backfill" }>
    ) => Effect.Effect<Answer>
    readonly settle: (verb: "replay" | "discard", letterId: string) => Effect.Effect<Answer>
    readonly backfill: Effect.Effect<Answer>
    readonly setPaused: (kind: Kind, paused: boolean) => Effect.Effect<Answer>

    readonly claim: (engine: Engine, kind: Kind) => Effect.Effect<Answer>
    readonly drain: (engine: Engine, kind: Kind) => Effect.Effect<Answer>
    readonly publish: (engine: Engine, refusedGame: string | null) => Effect.Effect<Answer>
  }
>()("kickoff/test/model/World") {
  /** Engines that do a step when they are told. */
  static readonly layerSteps = Layer.effect(
    World,
    Effect.suspend(() => make("steps"))
  )
  /** Engines that run by themselves: loops, listeners and relays. */
  static readonly layerLive = Layer.effect(
    World,
    Effect.suspend(() => make("live"))
  )
}

/** A broker with a memory: what was offered to it, in order, and what it took. */
const makeBroker = () => {
  const offered: Array<CloudEvent> = []
  const taken: Array<CloudEvent> = []
  const refused = new Set<string>()
  const publisher = answeringPublisher((event) =>
    Effect.suspend(() => {
      offered.push(event)
      if (refused.has(event.subject)) {
        return Effect.fail(
          new PublishError({ event_id: event.id, reason: new EventRefused({ detail: "the model says so" }) })
        )
      }
      taken.push(event)
      return Effect.void
    })
  )
  return { offered, taken, refused, publisher }
}

/** The services of one process, on connections of its own. */
const makeProcess = (
  name: string,
  url: Redacted.Redacted,
  publisher: Publisher["Service"],
  attempts: number,
  live: boolean
) =>
  Layer.mergeAll(
    repositories,
    live ? OutboxSignal.layer : OutboxSignal.layerMemory,
    live ? Listener.layer(url) : Listener.layerMemory
  ).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Health.layer,
        Settings.layerWith({ maxAttempts: attempts, httpPort: 0, backstop: Duration.minutes(2) }),
        Layer.succeed(Publisher, publisher),
        Layer.succeed(Replica, name),
        Database.layer({ url, connections: 4, name })
      )
    )
  )

type Process = Layer.Success<ReturnType<typeof makeProcess>>

const make = Effect.fnUntraced(function* (mode: "steps" | "live") {
  const live = mode === "live"
  const url = yield* makeDatabase
  const broker = makeBroker()
  const processLayer = (name: string, attempts = 1) => makeProcess(name, url, broker.publisher, attempts, live)

  const outside = yield* Layer.build(Layer.fresh(Database.layer({ url, connections: 4, name: "model" })))
  const api = yield* Layer.build(
    Layer.fresh(
      httpLayer().pipe(
        Layer.provideMerge(Layer.merge(GameRepository.layer, LedgerRepository.layer)),
        Layer.provideMerge(processLayer("api"))
      )
    )
  )
  const engines: Readonly<Record<Engine, Context.Context<Process>>> = {
    A: yield* Layer.build(Layer.fresh(processLayer("engine A", maxAttempts.A))),
    B: yield* Layer.build(Layer.fresh(processLayer("engine B", maxAttempts.B)))
  }
  const sql = Context.get(outside, SqlClient.SqlClient)

  if (live) {
    const daemons = Effect.provide(runDaemons(url), Logger.layer([]))
    for (const engine of [engines.A, engines.B]) {
      yield* Effect.forkScoped(Effect.provideContext(daemons, engine))
      yield* Context.get(engine, Listener).isUp.pipe(
        Effect.repeat({ until: (up) => up, schedule: Schedule.spaced("5 millis") })
      )
    }
    yield* Effect.forkScoped(
      Effect.provideContext(
        Effect.flatMap(OutboxSignal, (signal) => signal.run),
        api
      )
    )
  }

  const sight = makeSight(sql, broker)

  const reset = Effect.gen(function* () {
    yield* sql`DELETE FROM game_sessions`
    for (const table of [
      "outbox",
      "ledger",
      "confirmations",
      "dead_letters",
      "idempotency_keys",
      "pauses",
      "poisoned"
    ]) {
      yield* sql`DELETE FROM ${sql(table)}`
    }
    yield* sql`UPDATE clock SET instant = ${toDate(0)}, jitter = 0`
    sight.forget()
    broker.offered.length = 0
    broker.taken.length = 0
    broker.refused.clear()
    // Engines that run by themselves may still be at work on what a history that failed has left.
  }).pipe(Effect.retry({ times: 5 }), Effect.orDie)

  const http = (method: string, path: string, options: Parameters<typeof request>[2] = {}) =>
    Effect.provideContext(request(method, path, options), api)

  /** A game and its rows, of one moment: two requests between which the game did not change. */
  const readBoth = (id: string) =>
    Effect.gen(function* () {
      const game = yield* http("GET", `/v1/games/${id}`)
      const schedule = yield* http("GET", `/v1/games/${id}/schedule`)
      const unchanged = (yield* http("GET", `/v1/games/${id}`)).text === game.text
      return { game, schedule, unchanged }
    }).pipe(Effect.repeat({ until: ({ unchanged }) => unchanged }))

  const read: World["Service"]["read"] = Effect.fnUntraced(function* (id) {
    const { game, schedule } = yield* readBoth(id)
    if (game.status === 404 && schedule.status === 404) return null
    if (!isGameRow(game.body) || !isSchedule(schedule.body)) {
      return yield* Effect.die(new Error(`not readable: ${game.text} ${schedule.text}`))
    }
    return {
      game: showGameRow(game.body),
      rows: showRows(schedule.body.status_transitions, schedule.body.notifications)
    }
  })

  const findings = Effect.gen(function* () {
    const year = { from: DateTime.fromDateUnsafe(toDate(-50_000)), to: DateTime.fromDateUnsafe(toDate(50_000)) }
    const { checks } = yield* verify(year)
    return Object.fromEntries(checks.filter(({ count }) => count > 0).map(({ count, name }) => [name, count]))
  })

  const ifMatch = (version: number | null) => (version === null ? {} : { "if-match": `"${version}"` })

  const create: World["Service"]["create"] = Effect.fnUntraced(function* (fields, { key, twice }) {
    const send = http("POST", "/v1/games", {
      body: { guild_id: "guild", ...toBody({ ...fields, status: undefined }) },
      headers: key === null ? {} : { "idempotency-key": key }
    })
    const answers = yield* Effect.all(twice === true ? [send, send] : [send], { concurrency: "unbounded" })
    const ids = new Set(answers.map(({ body }) => body["id"]))
    // The other one may tell of a game that has moved on since.
    const [first] = answers.toSorted((left, right) => Number(left.body["version"]) - Number(right.body["version"]))
    const [id] = ids
    if (first === undefined || ids.size > 1 || answers.some(({ status }) => status !== first.status)) {
      return { answer: { statuses: answers.map(({ status }) => status), ids: ids.size }, id: null }
    }
    return { answer: showAnswer(first), id: typeof id === "string" ? id : null }
  })

  const insert: World["Service"]["insert"] = Effect.fnUntraced(function* (fields, rows) {
    const planned = (kind: "status" | "reminder") =>
      JSON.stringify(
        rows
          .filter(({ row }) => (row === "start" || row === "end") === (kind === "status"))
          .map(({ due, row }) => ({ name: kind === "status" ? targetOf(row) : minutesOf(row), due: toDate(due) }))
      )
    const [game] = yield* sql<{ readonly id: string }>`
      WITH game AS (
        INSERT INTO game_sessions
          (guild_id, title, status, scheduled_at, expected_duration_minutes, reminder_minutes)
        VALUES ('guild', ${fields.title}, ${fields.status}, ${toDate(fields.startsAt)},
          ${fields.duration * minutesPerStep}, ${toMinutes(fields.reminders)})
        RETURNING id
      ), transitions AS (
        INSERT INTO game_status_schedule (game_id, target_status, transition_time)
        SELECT game.id, planned.name, planned.due
        FROM game, jsonb_to_recordset(${planned("status")}::jsonb) AS planned (name text, due timestamptz)
      ), reminders AS (
        INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
        SELECT game.id, planned.name, planned.due
        FROM game, jsonb_to_recordset(${planned("reminder")}::jsonb) AS planned (name int, due timestamptz)
      )
      SELECT id FROM game`
    return game?.id ?? ""
  }, Effect.orDie)

  /** What another application writes to a row of a game. */
  const writeRow = (id: string, row: RowName, change: "move" | "mark" | "delete", value: Date | boolean | null) => {
    const transition = row === "start" || row === "end"
    const table = sql(transition ? "game_status_schedule" : "notification_schedule")
    const where = transition
      ? sql`game_id = ${id}::uuid AND target_status = ${targetOf(row)}`
      : sql`game_id = ${id}::uuid AND reminder_minutes = ${minutesOf(row)}`
    const time = sql(transition ? "transition_time" : "notification_time")
    const flag = sql(transition ? "executed" : "sent")
    return change === "delete"
      ? sql`DELETE FROM ${table} WHERE ${where}`
      : sql`UPDATE ${table} SET ${change === "move" ? time : flag} = ${value} WHERE ${where}`
  }

  const insertRow = (id: string, row: RowName, due: number) =>
    row === "start" || row === "end"
      ? sql`
          INSERT INTO game_status_schedule (game_id, target_status, transition_time)
          VALUES (${id}::uuid, ${targetOf(row)}, ${toDate(due)}) ON CONFLICT DO NOTHING`
      : sql`
          INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
          VALUES (${id}::uuid, ${minutesOf(row)}, ${toDate(due)}) ON CONFLICT DO NOTHING`

  const act: World["Service"]["act"] = (id, act) => {
    switch (act._tag) {
      case "Edit":
        return Effect.map(
          http("PATCH", `/v1/games/${id}`, { body: toBody(act.patch), headers: ifMatch(act.ifMatch) }),
          showAnswer
        )
      case "Cancel":
        return Effect.map(http("POST", `/v1/games/${id}/cancel`, { headers: ifMatch(act.ifMatch) }), showAnswer)
      case "Delete":
        return Effect.map(http("DELETE", `/v1/games/${id}`, { headers: ifMatch(act.ifMatch) }), showAnswer)
      case "InsertRow":
        return written(insertRow(id, act.row, act.due))
      case "MoveRow":
        return written(writeRow(id, act.row, "move", toDate(act.due)))
      case "MarkRow":
        return written(writeRow(id, act.row, "mark", act.done))
      case "DeleteRow":
        return written(writeRow(id, act.row, "delete", null))
      case "UpdateGame": {
        const { startsAt, ...columns } = act.patch
        const changes = { ...columns, ...(startsAt === undefined ? {} : { scheduled_at: toDate(startsAt) }) }
        return written(
          Object.keys(changes).length === 0
            ? sql`UPDATE game_sessions SET version = version + 1 WHERE id = ${id}::uuid`
            : sql`UPDATE game_sessions SET ${sql.update(changes)}, version = version + 1 WHERE id = ${id}::uuid`
        )
      }
      default:
        return written(
          act.on
            ? sql`INSERT INTO poisoned VALUES (${id}::uuid)`
            : sql`DELETE FROM poisoned WHERE game_id = ${id}::uuid`
        )
    }
  }

  const repositoryOf = (engine: Engine, kind: Kind): DueRepository =>
    kind === "status-transition"
      ? Context.get(engines[engine], StatusTransitionRepository)
      : Context.get(engines[engine], NotificationRepository)

  const claim: World["Service"]["claim"] = (engine, kind) =>
    repositoryOf(engine, kind)
      .applyDue(1000, undefined)
      .pipe(
        Effect.as({ engine: "done" }),
        Effect.catch((error) =>
          Effect.succeed({ engine: sqlState(error) === "P0001" ? "refused" : describeSqlError(error) })
        )
      )

  /** Runs a daemon until it says that it rests. */
  const untilRest = <R>(
    daemon: (rests: Effect.Effect<void>) => Effect.Effect<never, never, R>,
    process: Context.Context<R>
  ) =>
    Effect.gen(function* () {
      const rests = yield* Deferred.make<void>()
      return yield* Effect.raceFirst(
        Effect.provideContext(daemon(Effect.asVoid(Deferred.succeed(rests, undefined))), process),
        Deferred.await(rests)
      )
    }).pipe(Effect.provide(Logger.layer([])))

  const drain: World["Service"]["drain"] = (engine, kind) => {
    const repository = repositoryOf(engine, kind)
    const once = untilRest<Process>(
      (rests) =>
        run(repository).pipe(
          Effect.provideService(
            Health,
            Health.of({
              ...Context.get(engines[engine], Health),
              beat: (_loop, next) => (Duration.toMillis(next) - slack >= realRest ? rests : Effect.void)
            })
          )
        ),
      engines[engine]
    )
    // No hint reaches these loops, so what their last statement has released is found by the next round.
    return Effect.andThen(once, Effect.orDie(repository.look(undefined))).pipe(
      Effect.repeat({ until: ({ fresh }) => !Option.exists(fresh, Duration.isLessThanOrEqualTo(Duration.zero)) }),
      inTime({ engine: "done" })
    )
  }

  const publish: World["Service"]["publish"] = (engine, refusedGame) =>
    Effect.gen(function* () {
      if (refusedGame !== null) broker.refused.add(refusedGame)
      const outbox = Context.get(engines[engine], OutboxRepository)
      yield* untilRest<Process>(
        (rests) =>
          Effect.provideService(
            Relay.publishAll(),
            OutboxRepository,
            OutboxRepository.of({ ...outbox, look: Effect.tap(outbox.look, () => rests) })
          ),
        engines[engine]
      )
      broker.refused.clear()
    }).pipe(inTime({ engine: "done" }))

  return World.of({
    reset,
    crowd: (crowded) => Effect.asVoid(Effect.orDie(sql`UPDATE clock SET jitter = ${crowded ? jitter : 0}`)),
    passTo: (step) =>
      Effect.gen(function* () {
        yield* sql`UPDATE clock SET instant = ${toDate(step)}`
        // Loops that sleep do so by their own clock: this stands for the ring of their timers.
        if (live)
          yield* sql`SELECT pg_notify(${channels.statusTransitions}, ''), pg_notify(${channels.notifications}, '')`
      }).pipe(Effect.orDie),
    observe: sight.observe,
    observeAtRest: sight.observe.pipe(
      Effect.repeat({ until: ({ quiet }) => quiet, schedule: Schedule.spaced("2 millis") }),
      Effect.timeout(patience)
    ),
    read,
    verify: Effect.orDie(Effect.provideContext(findings, api)),
    create,
    insert,
    act,
    settle: (verb, letterId) =>
      Effect.map(http("POST", `/v1/dead-letters/${letterId}/${verb}`), ({ body, status }) =>
        status === 200 ? { status, resolution: body["resolution"] } : { status }
      ),
    backfill: written(Context.get(api, GameRepository).backfill),
    setPaused: (kind, paused) =>
      Effect.map(
        paused
          ? http("PUT", `/v1/pauses/${kind}`, { body: { reason: "the model says so" } })
          : http("DELETE", `/v1/pauses/${kind}`),
        ({ status }) => ({ status })
      ),
    claim,
    drain,
    publish
  })
})

/** The answer of something that has nothing to wait for, which may therefore not take long. */
const inTime =
  (answer: Answer) =>
  <R>(effect: Effect.Effect<unknown, never, R>): Effect.Effect<Answer, never, R> =>
    effect.pipe(
      Effect.as(answer),
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed({ engine: "does not come to rest" }) })
    )

/** A foreign key is what tells another application that the game is gone. */
const written = (statement: Effect.Effect<unknown, SqlError.SqlError>): Effect.Effect<Answer> =>
  statement.pipe(
    Effect.as({ sql: "done" }),
    Effect.catch((error) =>
      Effect.succeed({ sql: sqlState(error) === "23503" ? "no such game" : describeSqlError(error) })
    )
  )

/** The members of a request. */
const toBody = ({
  duration,
  reminders,
  startsAt,
  status,
  title
}: Omit<Patch, "status"> & { readonly status?: Status | undefined }) => ({
  ...(title === undefined ? {} : { title }),
  ...(startsAt === undefined ? {} : { scheduled_at: toDate(startsAt).toISOString() }),
  ...(duration === undefined ? {} : { expected_duration_minutes: duration * minutesPerStep }),
  ...(reminders === undefined ? {} : { reminder_minutes: toMinutes(reminders) }),
  ...(status === undefined ? {} : { status })
})

const showAnswer = ({ body, status, text }: HttpAnswer): Answer => {
  if (isGameRow(body)) return { status, game: showGameRow(body) }
  // Requests are well-formed, so these are never right, and the reason is of interest.
  return status === 400 || status >= 500 ? { status, text } : { status }
}
