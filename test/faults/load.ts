/**
 * The work under which the faults happen: games planned by plain SQL and by the API, due within seconds, and some of them
 * moved, cancelled, deleted or started by hand meanwhile.
 *
 * Faults make requests fail; that is expected, and what became of them is read from the database.
 */
import { Clock, Effect, Ref, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { Dice } from "./Dice.ts"
import { Site } from "./Site.ts"

/** Guilds say where a game came from: the first version of those of SQL was told of by nobody. */
export const guilds = { sql: "sql", api: "api" }

export interface Load {
  /** How many games the API has acknowledged, and how many requests failed for a reason other than the game's state. */
  readonly counts: () => { readonly planned: number; readonly acknowledged: number; readonly failed: number }
  /** Games whose creation was acknowledged with 201, less those whose deletion was tried. */
  readonly acknowledged: () => ReadonlySet<string>
  /** Games whose deletion was acknowledged with 204. */
  readonly deleted: () => ReadonlySet<string>
  /** Plans no more, and waits for the requests under way. */
  readonly stop: Effect.Effect<unknown>
}

const tick = 250
const shareOfApi = 0.2
/** What could not be planned while a server was away is made up for, but no more than so much of it, seconds. */
const arrears = 4
const requestLimit = 5000

/** Plans so many games per second until it is stopped or the scope closes. */
export const startLoad = Effect.fnUntraced(function* (seed: number, rate: number) {
  const sql = yield* SqlClient.SqlClient
  const { replicas } = yield* Site
  const dice = new Dice(seed, "load")
  const apiDice = new Dice(seed, "api")
  const stopped = yield* Ref.make(false)
  const acknowledged = new Set<string>()
  const deleted = new Set<string>()
  let planned = 0
  let failed = 0
  let underWay = 0
  /** Games that were planned by SQL lately and may still be changed. */
  const changeable: Array<string> = []

  /** Most within six seconds, some so late that they fall due in a long fault, when nothing can be planned. */
  const delay = (from: Dice) => Math.round(from.chance(0.7) ? from.between(500, 6000) : from.between(6000, 15_000))

  const planBySql = (count: number) =>
    Effect.gen(function* () {
      const games = Array.from({ length: count }, () => ({
        start: delay(dice),
        lasts: dice.chance(0.5) ? 0 : Math.round(dice.between(0, 4000)),
        // Some before the game starts, some so late that they are skipped, most games none.
        reminder: dice.chance(0.2) ? Math.round(dice.between(-200, 1500)) : null
      }))
      const ids = yield* sql<{ readonly id: string }>`
        WITH plan AS (
          SELECT gen_random_uuid() AS id, statement_timestamp() + start * interval '1 millisecond' AS start,
            lasts * interval '1 millisecond' AS lasts, reminder * interval '1 millisecond' AS reminder
          FROM unnest(${games.map((game) => game.start)}::int[], ${games.map((game) => game.lasts)}::int[],
            ${games.map((game) => game.reminder)}::int[]) AS game (start, lasts, reminder)
        ), game AS (
          INSERT INTO game_sessions (id, guild_id, title, scheduled_at, expected_duration_minutes)
          SELECT id, ${guilds.sql}, 'a game', start, 0 FROM plan
        ), reminders AS (
          INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
          SELECT id, 1, start - reminder FROM plan WHERE reminder IS NOT NULL
        ), transitions AS (
          INSERT INTO game_status_schedule (game_id, target_status, transition_time)
          SELECT id, 'IN_PROGRESS', start FROM plan
          UNION ALL SELECT id, 'COMPLETED', start + lasts FROM plan
        )
        SELECT id FROM plan`
      planned += count
      changeable.push(...ids.map(({ id }) => id))
    })

  const some = (count: number) => Array.from({ length: count }, () => dice.draw(changeable) ?? []).flat()

  const changeBySql = (count: number) =>
    Effect.gen(function* () {
      const moved = some(Math.ceil(count * 0.1))
      const cancelled = some(Math.ceil(count * 0.03))
      const removed = some(Math.ceil(count * 0.03))
      changeable.splice(0, Math.max(0, changeable.length - count * 8))
      yield* sql`
        WITH game AS (
          UPDATE game_sessions SET scheduled_at = statement_timestamp() + ${delay(dice)}::int * interval '1 millisecond'
          WHERE id = ANY(${moved}::uuid[]) AND status = 'SCHEDULED'
          RETURNING id, scheduled_at
        )
        UPDATE game_status_schedule AS row
        SET transition_time = CASE target_status WHEN 'IN_PROGRESS' THEN game.scheduled_at
          ELSE game.scheduled_at + interval '1 second' END
        FROM game
        WHERE row.game_id = game.id AND row.executed = FALSE`
      // Its rows stay, and must be found outdated when they are due.
      yield* sql`
        UPDATE game_sessions SET status = 'CANCELLED' WHERE id = ANY(${cancelled}::uuid[]) AND status = 'SCHEDULED'`
      yield* sql`DELETE FROM game_sessions WHERE id = ANY(${removed}::uuid[])`
    })

  const request = (method: string, path: string, body?: unknown, key?: string) =>
    Effect.tryPromise(async () => {
      const url = replicas[Math.floor(apiDice.next() * replicas.length)]?.url() ?? ""
      const response = await fetch(`${url}/v1${path}`, {
        method,
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(key === undefined ? {} : { "idempotency-key": key })
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(requestLimit)
      })
      const answer: unknown = response.status === 204 ? null : await response.json()
      return { status: response.status, answer }
    }).pipe(
      Effect.orElseSucceed(() => ({ status: 0, answer: null })),
      Effect.tap(({ status }) =>
        Effect.sync(() => {
          if (status === 0 || status >= 500) failed++
        })
      )
    )

  const instantIn = (millis: number) =>
    Effect.map(Clock.currentTimeMillis, (now) => new Date(now + millis).toISOString())

  /** One game of the API, from its planning to its last change. */
  const playByApi = Effect.gen(function* () {
    const start = delay(apiDice) + 500
    const reminded = apiDice.chance(0.2)
    const fate = apiDice.next()
    const rest = apiDice.between(0, start)
    const moveTo = delay(apiDice)
    const created = yield* request(
      "POST",
      "/games",
      {
        guild_id: guilds.api,
        title: "a game",
        scheduled_at: yield* instantIn(reminded ? start + 60_000 : start),
        expected_duration_minutes: apiDice.chance(0.7) ? 0 : 1,
        reminder_minutes: reminded ? [1] : []
      },
      apiDice.chance(0.5) ? `key-${seed}-${Math.floor(apiDice.next() * 2 ** 50)}` : undefined
    )
    planned++
    if (created.status !== 201) return
    // The API's own answer; what matters is checked against the database.
    const { id } = created.answer as { readonly id: string }
    acknowledged.add(id)
    if (fate > 0.4 || (yield* Ref.get(stopped))) return
    yield* Effect.sleep(rest)
    const path = `/games/${id}`
    if (fate < 0.2) yield* request("PATCH", path, { scheduled_at: yield* instantIn(moveTo) })
    else if (fate < 0.27) yield* request("POST", `${path}/cancel`)
    else if (fate < 0.34) {
      acknowledged.delete(id)
      const { status } = yield* request("DELETE", path)
      if (status === 204) deleted.add(id)
    } else yield* request("PATCH", path, { status: "IN_PROGRESS", title: "a game that was started by hand" })
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        underWay--
      })
    )
  )

  let owedBySql = 0
  let owedByApi = 0
  const step = Effect.fnUntraced(function* (seconds: number) {
    owedByApi = Math.min(owedByApi + rate * shareOfApi * seconds, rate * shareOfApi * arrears)
    // Some of them wait for seconds before their change, or for the answer of a replica that is frozen.
    while (owedByApi >= 1 && underWay < rate * 2) {
      owedByApi--
      underWay++
      yield* Effect.forkScoped(playByApi)
    }
    const bySql = rate * (1 - shareOfApi)
    owedBySql = Math.min(owedBySql + bySql * seconds, bySql * arrears)
    const count = Math.floor(owedBySql)
    yield* planBySql(count)
    owedBySql -= count
    yield* changeBySql(count)
  })
  yield* Effect.forkScoped(
    Effect.gen(function* () {
      let last = performance.now()
      while (!(yield* Ref.get(stopped))) {
        const began = performance.now()
        yield* Effect.ignore(step((began - last) / 1000))
        last = began
        yield* Effect.sleep(Math.max(1, tick - (performance.now() - began)))
      }
    })
  )

  const load: Load = {
    counts: () => ({ planned, acknowledged: acknowledged.size, failed }),
    acknowledged: () => acknowledged,
    deleted: () => deleted,
    stop: Effect.andThen(
      Ref.set(stopped, true),
      Effect.sync(() => underWay).pipe(
        Effect.repeat({ until: (count) => count === 0, schedule: Schedule.spaced("50 millis") })
      )
    )
  }
  return load
})
