/**
 * How much later games start beside a few that cannot be started: all are due at one instant, and a trigger refuses some.
 *
 * The games that can be started are counted alone. With a trigger that refuses nobody, the same round is what it is held
 * against.
 */
import { Effect } from "effect"
import { measureOffset } from "../clock.ts"
import { startKickoff } from "../kickoff.ts"
import { Progress } from "../Progress.ts"
import type { Options, Row, Scenario } from "../Scenario.ts"
import { medians, quantileColumns, quantiles } from "../statistics.ts"

/** How many of the games are refused, spread over all of them. */
const refusals = [0, 4, 40]

/** How long before they are due the games are planned, ms. */
const lead = 5000

const measure = Effect.fnUntraced(function* (options: Options) {
  const games = options.games ?? 10_000
  const progress = yield* Progress
  const kickoff = yield* startKickoff({ name: "kickoff_culprits", profile: options.profile })
  const { database } = kickoff
  yield* database.query(`
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'this game is refused'; END $$`)

  const round = Effect.fnUntraced(function* (bad: number) {
    const titles = Array.from({ length: bad }, (_, n) => `'Game ${Math.floor(((n + 0.5) * games) / bad)}'`)
    const refused = titles.length === 0 ? "FALSE" : `NEW.title IN (${titles.join()})`
    yield* database.query(`
        CREATE TRIGGER refuse BEFORE UPDATE ON game_sessions
        FOR EACH ROW WHEN (${refused}) EXECUTE FUNCTION refuse()`)
    for (const statement of ["BEGIN", ...kickoff.bulk.before]) yield* database.query(statement)
    const offsets = Array.from({ length: games }, () => 0)
    yield* database.query(kickoff.plan("SELECT count(*) FROM planned"), [offsets, lead])
    for (const statement of [...kickoff.bulk.after, "COMMIT", "ANALYZE", "CHECKPOINT"]) yield* database.query(statement)
    yield* kickoff.consumer.whileAway(kickoff.lastConfirm(games - bad, yield* measureOffset(database)))
    const committed = yield* database.queryValues(`
        SELECT (extract(epoch FROM recorded_at - due) * 1000)::float8 FROM ledger CROSS JOIN LATERAL unnest(due_at) AS due`)
    const confirmed = yield* kickoff.confirmed
    yield* kickoff.settle
    yield* database.query("DROP TRIGGER refuse ON game_sessions")
    return { committed: quantiles(committed.map(([millis]) => Number(millis))), confirmed: quantiles(confirmed) }
  })

  yield* progress.say("warm-up")
  yield* round(0)
  const rounds: Array<{
    readonly bad: number
    readonly committed: ReadonlyArray<number>
    readonly confirmed: ReadonlyArray<number>
  }> = []
  for (let n = 1; n <= options.rounds; n++) {
    for (const bad of refusals) {
      yield* progress.say(`round ${n} of ${options.rounds}: ${bad} refused`)
      rounds.push({ bad, ...(yield* round(bad)) })
    }
  }
  const rows = (what: "committed" | "confirmed") =>
    refusals.map((bad): Row => ({
      name: `${bad} refused`,
      cells: medians(rounds.filter((each) => each.bad === bad).map((each) => each[what]))
    }))
  const title = `${games.toLocaleString("en-US")} games due at one instant, those that are not refused`
  return {
    settings: { rounds: options.rounds },
    tables: [
      { title: `${title}: due → committed, ms`, columns: quantileColumns, rows: rows("committed") },
      { title: `${title}: due → confirmed, ms`, columns: quantileColumns, rows: rows("confirmed") }
    ],
    notes: [
      "Nobody consumes meanwhile. The refused games are tried again with pauses, which is part of what is measured."
    ]
  }
})

export const culprits: Scenario = {
  name: "culprits",
  summary: "games due at one instant, of which a few cannot be started",
  prepare: (options) => Effect.succeed([{ name: "bursts with refusals", run: measure(options) }])
}
