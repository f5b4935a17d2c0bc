/**
 * Whether it matters how much is pending: the engine's own statements on tables of every size, on one session as in the
 * service, and right after very many rows were executed, whose index entries nobody has cleaned up yet.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect, Layer, Option, Redacted } from "effect"
import { GameRepository } from "../../src/games/GameRepository.ts"
import { Database } from "../../src/postgres/Database.ts"
import type { From } from "../../src/scheduling/DueRepository.ts"
import { StatusTransitionRepository } from "../../src/scheduling/StatusTransitionRepository.ts"
import { BenchError } from "../BenchError.ts"
import { now } from "../clock.ts"
import { fillGames } from "../fill.ts"
import { migrate } from "../kickoff.ts"
import { Progress } from "../Progress.ts"
import type { Row, Scenario } from "../Scenario.ts"
import { Servers } from "../Servers.ts"
import { connect } from "../sql.ts"
import { median } from "../statistics.ts"

/** Pending rows of the schedule; a game has two. */
const sizes = [10_000, 1_000_000, 10_000_000] as const

/** How often each statement is timed; the first few warm up and are not counted. */
const looks = 200
const looksAtAll = 5
const singles = 200
const batches = 25
const ignored = 3

const batch = 1000

/**
 * Of the server of this scenario alone: the indexes of ten million rows fit into its memory, and no checkpoint begins
 * while something is timed, so that what is compared is the size of the tables and not that of a cache.
 */
const settings = { shared_buffers: "2GB", max_wal_size: "16GB", checkpoint_timeout: "30min" }

/** Rows that are executed before the look that meets their dead index entries, and then while a snapshot is held. */
const executed = 1_000_000
const executedUnderSnapshot = 100_000

/** Claims at the beginning and at the end of many. */
const edge = 20

/** Medians, ms. */
interface AtSize {
  readonly pending: number
  readonly look: number
  readonly claim: number
  readonly batch: number
  /** The same for games that were planned at many different times. */
  readonly scattered: number
  readonly insert: number
}

const millisOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const began = now()
    const result = yield* effect
    return { result, millis: now() - began }
  })

/** How long an effect took each time, after what is done before it and not timed. */
const times = <E, R, E2 = never, R2 = never>(
  count: number,
  effect: Effect.Effect<unknown, E, R>,
  before: Effect.Effect<unknown, E2, R2> = Effect.void
) =>
  Effect.map(
    Effect.forEach(Array.from({ length: ignored + count }).keys(), () =>
      Effect.map(Effect.andThen(before, millisOf(effect)), ({ millis }) => millis)
    ),
    (millis) => millis.slice(ignored)
  )

/** Games that are due already, as another application would insert them. */
const insertDue = (database: PgConnection.PgConnection, games: number) =>
  database.query(
    `WITH game AS (
      INSERT INTO game_sessions (guild_id, title, scheduled_at)
      SELECT 'due', 'Game ' || n, clock_timestamp() FROM generate_series(1, $1::int) AS n
      RETURNING id, scheduled_at
    )
    INSERT INTO game_status_schedule (game_id, target_status, transition_time)
    SELECT id, target_status, scheduled_at + later
    FROM game CROSS JOIN (VALUES ('IN_PROGRESS', interval '0'), ('COMPLETED', interval '1 hour')) AS row (target_status, later)`,
    [games]
  )

/** The same, but each with ids beside those of a game and row that are planned, which were chosen by chance. */
const insertDueBetween = (database: PgConnection.PgConnection, games: number) => {
  const beside = (id: string) =>
    `encode(overlay(uuid_send(${id}) PLACING substring(uuid_send(gen_random_uuid()) FROM 9) FROM 9), 'hex')::uuid`
  return database.query(
    `WITH place AS MATERIALIZED (
      SELECT ${beside("game_id")} AS game_id, ${beside("id")} AS start_id, ${beside("id")} AS completion_id
      FROM (
        SELECT id, game_id FROM game_status_schedule
        WHERE executed = FALSE AND hold IS NULL AND transition_time > (SELECT now() + (2 + 200 * random()) * interval '1 day')
        ORDER BY transition_time LIMIT $1::int
      ) AS planned
    ), game AS (
      INSERT INTO game_sessions (id, guild_id, title, scheduled_at) SELECT game_id, 'due', 'Game', now() FROM place
    )
    INSERT INTO game_status_schedule (id, game_id, target_status, transition_time)
    SELECT start_id, game_id, 'IN_PROGRESS', now() FROM place
    UNION ALL
    SELECT completion_id, game_id, 'COMPLETED', now() + interval '1 hour' FROM place`,
    [games]
  )
}

/** The statements on sessions as the service has them: the loop's plans its own once, the API's for each time. */
const engine = (url: string) => {
  const session = (steady: boolean) =>
    Database.layer({ url: Redacted.make(url), connections: 1, name: "bench", steady })
  return Layer.mergeAll(
    Layer.provide(StatusTransitionRepository.layer, session(true)),
    Layer.provide(GameRepository.layer, session(false))
  )
}

interface Executed {
  readonly claims: ReadonlyArray<number>
  readonly looks: ReadonlyArray<number>
  readonly all: ReadonlyArray<number>
}

const deadRow = (name: string, { all, claims, looks }: Executed): Row => ({
  name,
  cells: [
    claims.length === 0 ? null : median(claims.slice(0, edge)),
    claims.length === 0 ? null : median(claims.slice(-edge)),
    looks[0] ?? null,
    median(looks),
    all[0] ?? null,
    median(all)
  ]
})

export const scale: Scenario = {
  name: "scale",
  summary: "the engine's statements with up to ten million rows pending, and after a million were executed",
  prepare: Effect.fnUntraced(function* () {
    const progress = yield* Progress
    const servers = yield* (yield* Servers).withPostgres(settings)

    const open = Effect.fnUntraced(function* (name: string) {
      const url = yield* servers.createDatabase(name)
      yield* migrate(url)
      const database = yield* connect(url)
      yield* database.query("CREATE EXTENSION pg_prewarm")
      return { url, database }
    })

    /** Plans games, and has the indexes in memory afterwards: those that were just built are on the disk alone. */
    const fill = Effect.fnUntraced(function* (
      database: PgConnection.PgConnection,
      games: Parameters<typeof fillGames>[1]
    ) {
      yield* fillGames(database, games)
      yield* database.query(
        `SELECT pg_prewarm(indexrelid) FROM pg_index
         WHERE indrelid IN ('game_sessions'::regclass, 'game_status_schedule'::regclass)`
      )
    })

    /** The statements as the loop asks them: a look begins where the last one found its first row. */
    const loop = Effect.map(StatusTransitionRepository, (repository) => {
      let from: From
      return {
        look: Effect.suspend(() => repository.look(from)).pipe(
          Effect.tap((look) =>
            Effect.sync(() => {
              from = look.from
            })
          )
        ),
        /** Of a process that was just started, or once per backstop. */
        lookAtAll: repository.look(undefined),
        claim: (limit: number) =>
          Effect.suspend(() => repository.applyDue(limit, from)).pipe(
            Effect.filterOrFail(
              (rows) => rows.length === limit,
              (rows) => new BenchError({ detail: `a claim of ${limit} found ${rows.length} rows` })
            )
          )
      }
    })

    const every = <E, R>(count: number, effect: Effect.Effect<unknown, E, R>) =>
      Effect.map(Effect.replicateEffect(millisOf(effect), count), (all) => all.map(({ millis }) => millis))

    /** Everything that is timed at one size, on the tables as they are. */
    const measureAll = Effect.fnUntraced(function* (database: PgConnection.PgConnection, pending: number) {
      const at = `at ${pending.toLocaleString("en-US")} pending rows`
      const games = yield* GameRepository
      const { claim, look } = yield* loop
      yield* progress.say(`${at}: looks and inserts`)
      // As the relay leaves it: events of the sizes before would make it grow with each size.
      yield* database.query("TRUNCATE outbox")
      const looked = yield* times(looks, look)
      const scheduled_at = new Date(Date.now() + 86_400_000)
      const inserted = yield* times(
        singles,
        games.create({ guild_id: "bench", title: "Planned", scheduled_at }, Option.none())
      )
      yield* progress.say(`${at}: claims`)
      yield* insertDue(database, ignored + singles)
      const claimed = yield* times(singles, claim(1))
      // Just before its claim, so that what the claim writes to is in memory at every size.
      const claimedBatch = yield* times(batches, claim(batch), insertDue(database, batch))
      const scattered = yield* times(batches, claim(batch), insertDueBetween(database, batch))
      return {
        pending,
        look: median(looked),
        claim: median(claimed),
        batch: median(claimedBatch),
        scattered: median(scattered),
        insert: median(inserted)
      } satisfies AtSize
    })

    const bySize = Effect.gen(function* () {
      const { database, url } = yield* open("kickoff_scale")
      const measured: Array<AtSize> = []
      let pending = 0
      for (const size of sizes) {
        yield* progress.say(`filling up to ${size.toLocaleString("en-US")} pending rows`)
        yield* fill(database, { games: (size - pending) / 2, from: "1 day", within: "300 days" })
        pending = size
        measured.push(yield* Effect.provide(measureAll(database, size), engine(url)))
      }
      const [least] = measured
      const most = measured.at(-1)
      const ratio = (key: keyof AtSize) => (most?.[key] ?? Number.NaN) / (least?.[key] ?? Number.NaN)
      const cells = (of: (key: "look" | "claim" | "batch" | "scattered" | "insert") => number) =>
        [of("look"), of("claim"), of("batch"), of("scattered"), of("insert")] as const
      return {
        settings: { looks, "claims of 1, inserts": singles, "claims of 1,000": batches, ...settings },
        tables: [
          {
            title: "Medians by size, ms",
            columns: ["look", "claim of 1", "claim of 1,000", "of 1,000, scattered", "insert of a game"],
            rows: [
              ...measured.map((size): Row => ({
                name: `${size.pending.toLocaleString("en-US")} rows pending`,
                cells: cells((key) => size[key])
              })),
              { name: "the most ÷ the least", cells: cells(ratio) }
            ]
          }
        ],
        notes: [
          "The engine's own statements, by its own driver on a session as the loop has it, which plans a statement once; an insert " +
            "is the API's statement, on a session of the API, for a " +
            `game with its schedule and event. First and last claims are medians of ${edge}. ` +
            "The games that are claimed were planned last, so they lie beside each other in the indexes by id; those that are scattered lie " +
            "there as games do of which each was planned at another time. A look begins where the last one found its first row; one at all is that of a process that was just started. " +
            "The cache is warm at every size: the server has memory for all indexes, which are read into it beforehand."
        ],
        figures: { scale_look: ratio("look"), scale_claim_1: ratio("claim"), scale_claim_1000: ratio("batch") }
      }
    })

    const dead = Effect.gen(function* () {
      const { database, url } = yield* open("kickoff_scale_dead")
      yield* progress.say("filling a million pending rows, and games that are due")
      yield* fill(database, { games: 500_000, from: "1 day", within: "300 days" })
      yield* fill(database, { games: executed, from: "-30 minutes", within: "10 minutes", inOrder: true })
      yield* fill(database, { games: executedUnderSnapshot, from: "-10 minutes", within: "0" })
      const { free, held, released } = yield* Effect.gen(function* () {
        const { claim, look, lookAtAll } = yield* loop
        /** Claims all that is due in batches; what each took, and what the looks take then, from the very first one on. */
        const execute = Effect.fnUntraced(function* (rows: number) {
          const claims: Array<number> = []
          for (let done = 0; done < rows; done += batch) {
            yield* look
            claims.push((yield* millisOf(claim(batch))).millis)
          }
          return { claims, looks: yield* every(looks, look), all: yield* every(looksAtAll, lookAtAll) }
        })

        yield* progress.say(`executing ${executed.toLocaleString("en-US")} rows`)
        const free = yield* execute(executed)
        yield* progress.say(`executing ${executedUnderSnapshot.toLocaleString("en-US")} rows while a snapshot is held`)
        const held = yield* Effect.scoped(
          Effect.gen(function* () {
            const holder = yield* connect(url)
            yield* holder.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
            yield* holder.query("SELECT FROM game_sessions LIMIT 1")
            return yield* execute(executedUnderSnapshot)
          })
        )
        return { free, held, released: yield* execute(0) }
      }).pipe(Effect.provide(engine(url)))
      return {
        tables: [
          {
            title: "Among 1,000,000 pending rows, after others were executed in claims of 1,000, ms",
            columns: ["first claims", "last claims", "first look", "look, p50", "first at all", "look at all, p50"],
            rows: [
              deadRow(`${executed.toLocaleString("en-US")} executed, due within 10 minutes`, free),
              deadRow(
                `${executedUnderSnapshot.toLocaleString("en-US")} more, due at one instant, while a snapshot is held`,
                held
              ),
              deadRow("after the snapshot was released", released)
            ]
          }
        ],
        figures: { scale_look_after: free.looks[0] ?? Number.NaN }
      }
    })

    return [
      { name: "tables of every size", run: bySize },
      { name: "a million executed rows", run: dead }
    ]
  })
}
