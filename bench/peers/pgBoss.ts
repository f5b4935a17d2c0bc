/**
 * pg-boss: a job per game, whose handler sets the status and publishes the event.
 *
 * For a burst with a few workers that fetch large batches and fetch again at once while batches are full. What the handler
 * makes of a batch is up to its author: each job by itself, so that a game that cannot be started fails alone, or all of
 * them by one statement, which fails with its first. For lateness looking every two seconds, which is its default, and as
 * often as it allows.
 */
import { Deferred, Effect } from "effect"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"
import { type Job, type JobResult, PgBoss, type WorkOptions } from "pg-boss"
import { BenchError } from "../BenchError.ts"
import { gamesTable, insertGames, type Peer, runPeer, startedColumns } from "../peer.ts"

const burst = { localConcurrency: 4, batchSize: 500, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 }

const settings = {
  // Left to itself it takes one job per look, which is one every two seconds.
  "default polling, batches of 500": { batchSize: 500 },
  "poll 0.5 s, batches of 500": { batchSize: 500, pollingIntervalSeconds: 0.5 },
  "4 workers, batches of 500, each job by itself": { ...burst, perJobResults: true },
  "4 workers, batches of 500, a statement per batch": burst
} satisfies Readonly<Record<string, WorkOptions>>

type Setting = keyof typeof settings

const isSetting = (name: string | undefined): name is Setting => name !== undefined && Object.hasOwn(settings, name)

const queue = "start"

export const pgBoss = (setting: Setting): Peer => ({
  name: `pg-boss, ${setting}`,
  file: fileURLToPath(import.meta.url),
  args: [setting],
  schema: [gamesTable],
  plan: (answer) => `
    WITH planned AS (${insertGames}), jobs AS (
      INSERT INTO pgboss.job (name, data, start_after, keep_until, policy)
      SELECT '${queue}', json_build_object('id', id), due_at, due_at + interval '14 days', 'standard' FROM planned
    )
    ${answer}`,
  clear: "TRUNCATE games, pgboss.job"
})

/** Also games that have started already: a job may be tried again because its event was not confirmed. */
const startGames = `
  UPDATE games SET status = 'IN_PROGRESS', version = version + 1
  WHERE id = ANY($1::uuid[]) AND status IN ('SCHEDULED', 'IN_PROGRESS')
  RETURNING ${startedColumns}`

if (import.meta.main) {
  const [, , setting] = process.argv
  if (!isSetting(setting)) throw new Error(`unknown setting: ${setting}`)
  runPeer(
    Effect.fnUntraced(function* ({ connect, publish, url }) {
      const boss = new PgBoss(url)
      boss.on("error", (error) => process.stderr.write(`${String(error)}\n`))
      yield* Effect.promise(() => boss.start())
      yield* Effect.promise(() => boss.createQueue(queue))
      const sessions = yield* Effect.all(Array.from({ length: 10 }, () => connect))
      let turn = 0
      return Effect.fnUntraced(function* (games: number) {
        const done = yield* Deferred.make<void>()
        let confirmed = 0
        const startAll = async (jobs: ReadonlyArray<Job<{ readonly id: string }>>) => {
          const session = sessions[turn++ % sessions.length]
          if (session === undefined) throw new BenchError({ detail: "pg-boss has no session" })
          const started = await Effect.runPromise(session.queryValues(startGames, [jobs.map(({ data }) => data.id)]))
          await publish(
            started.map(([id, time, data]) => ({
              id: randomUUID(),
              game_id: String(id),
              time: String(time),
              data: String(data)
            }))
          )
          confirmed += started.length
          if (confirmed === games) Deferred.doneUnsafe(done, Effect.void)
        }
        const startEach = (jobs: ReadonlyArray<Job<{ readonly id: string }>>): Promise<Array<JobResult>> =>
          Promise.all(
            jobs.map(async (job) => {
              const started = await Promise.allSettled([startAll([job])])
              return { id: job.id, status: started[0].status === "fulfilled" ? "completed" : "failed" }
            })
          )
        yield* Effect.acquireRelease(
          Effect.promise(() =>
            boss.work(queue, settings[setting], setting.endsWith("by itself") ? startEach : startAll)
          ),
          () => Effect.promise(() => boss.offWork(queue))
        )
        yield* Deferred.await(done)
      })
    })
  )
}
