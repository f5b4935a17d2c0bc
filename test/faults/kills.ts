/**
 * `npm run test:faults -- kills`: 3,000 games fall due within 20 s, while replicas are killed with SIGKILL again and again,
 * also while they start, and all sessions of the database five times. Each game must have one event of its start.
 */
import { Console, DateTime, Effect, Fiber, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { audit, databaseNow } from "./audit.ts"
import { consume } from "./consume.ts"
import { Dice } from "./Dice.ts"
import { FaultError } from "./FaultError.ts"
import { killBackends } from "./serverFaults.ts"
import { type Replica, Site } from "./Site.ts"
import { Tally } from "./Tally.ts"

const games = 3000
const seconds = 20
const leastKills = 10
const roundsOfSessions = 5
/** How long the last games may take after everything was left in peace. */
const patience = "30 seconds"

const plan = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly id: string }>`
    WITH plan AS (
      SELECT gen_random_uuid() AS id,
        statement_timestamp() + interval '1 second' + n * ${seconds}::float8 / ${games} * interval '1 second' AS start
      FROM generate_series(1, ${games}::int) AS n
    ), game AS (
      INSERT INTO game_sessions (id, guild_id, title, scheduled_at) SELECT id, 'sql', 'a game', start FROM plan
    ), transitions AS (
      INSERT INTO game_status_schedule (game_id, target_status, transition_time)
      SELECT id, 'IN_PROGRESS', start FROM plan UNION ALL SELECT id, 'COMPLETED', start + interval '1 hour' FROM plan
    )
    SELECT id FROM plan`
})

/** Plays the scenario, says what came of it, and fails if a promise was broken. */
export const playKills = Effect.fnUntraced(function* (seed: number) {
  const { broker, deaths, replicas } = yield* Site
  const sql = yield* SqlClient.SqlClient
  const tally = new Tally()
  yield* consume(broker.url, tally)
  const since = DateTime.subtract(yield* databaseNow, { seconds: 1 })
  const planned = yield* plan
  const end = Date.now() + (seconds + 1) * 1000
  let kills = 0
  let rounds = 0

  const killAgainAndAgain = Effect.fnUntraced(function* (replica: Replica) {
    const dice = new Dice(seed, replica.name)
    while (Date.now() < end) {
      yield* Effect.sleep(dice.between(0, 3000))
      yield* replica.signal("SIGKILL")
      kills++
      yield* replica.restart()
    }
  })
  const killSessions = Effect.gen(function* () {
    const dice = new Dice(seed, "sessions")
    for (; rounds < roundsOfSessions; rounds++) {
      yield* Effect.sleep(dice.between(0.5, 1.5) * ((seconds * 1000) / (roundsOfSessions + 1)))
      yield* Effect.retry(sql.unsafe(killBackends), { times: 3 })
    }
  })
  const report = Effect.suspend(() =>
    Console.error(`${tally.transitions} of ${games} games were started; ${kills} kills, ${rounds} rounds of sessions`)
  )
  const reporting = yield* Effect.forkScoped(Effect.repeat(report, Schedule.spaced("5 seconds")))
  yield* Effect.all([killSessions, ...replicas.map(killAgainAndAgain)], { concurrency: "unbounded" })

  yield* Effect.sync(() => planned.every(({ id }) => tally.hasTransition(id, "IN_PROGRESS"))).pipe(
    Effect.repeat({ until: (all) => all, schedule: Schedule.spaced("50 millis") }),
    Effect.timeoutOption(patience)
  )
  const findings = yield* audit(since, tally)
  yield* Fiber.interrupt(reporting)
  const once = planned.filter(({ id }) => tally.eventIds(id).length === 1).length
  const { disordered, early, twice } = tally.offences
  const violations = games - once + findings.lost + findings.objections + disordered + early + twice + deaths.length
  yield* Console.log(
    `${games} games fell due within ${seconds} s, while replicas were killed ${kills} times and all sessions ` +
      `${rounds} times. ${once} games have one event id; lost ${findings.lost}, twice ${twice}, early ${early}, ` +
      `disordered ${disordered}, verify ${findings.objections}. ${tally.repeated} of ${tally.deliveries} deliveries were ` +
      "repetitions by their id."
  )
  if (kills < leastKills) yield* new FaultError({ detail: `There were only ${kills} kills` })
  if (violations === 0) return
  yield* Console.error([...findings.examples, ...tally.takeExamples(), ...deaths].join("\n"))
  yield* new FaultError({ detail: `${violations} violations; --seed ${seed} repeats the choices of this run` })
})
