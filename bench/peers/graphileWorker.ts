/**
 * graphile-worker: a job per game, whose task sets the status and publishes the event.
 *
 * For a burst as its documentation on performance says: many jobs at once, fetched in large batches and completed in
 * batches. For lateness with its defaults, which look for jobs every two seconds, and looking as often as is sensible.
 */
import { Deferred, Effect } from "effect"
import { Logger, type Runner, type RunnerOptions, run, runMigrations } from "graphile-worker"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"
import { gamesTable, insertGames, type OutgoingEvent, type Peer, runPeer, startedColumns } from "../peer.ts"

const settings = {
  defaults: {},
  "poll 100 ms": { pollInterval: 100 },
  "24 concurrent, local queue of 500, batched completion, poll 100 ms": {
    preset: {
      worker: {
        pollInterval: 100,
        concurrentJobs: 24,
        maxPoolSize: 25,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0
      }
    }
  }
} satisfies Readonly<Record<string, Partial<RunnerOptions>>>

type Setting = keyof typeof settings

const isSetting = (name: string | undefined): name is Setting => name !== undefined && Object.hasOwn(settings, name)

export const graphileWorker = (setting: Setting): Peer => ({
  name: `graphile-worker, ${setting}`,
  file: fileURLToPath(import.meta.url),
  args: [setting],
  schema: [gamesTable],
  plan: (answer) => `
    WITH planned AS (${insertGames}), jobs AS (
      SELECT count(*) FROM graphile_worker.add_jobs((
        SELECT array_agg(
          ('start', json_build_object('id', id), NULL, due_at, NULL, NULL, NULL, NULL)::graphile_worker.job_spec)
        FROM planned
      ))
    )
    ${answer}, jobs`,
  clear: "TRUNCATE games, graphile_worker._private_jobs"
})

/** As the plan makes it. */
interface Payload {
  readonly id: string
}

/** Also a game that has started already: the job may be tried again because its event was not confirmed. */
const startGame = `
  UPDATE games SET status = 'IN_PROGRESS', version = version + 1
  WHERE id = $1::uuid AND status IN ('SCHEDULED', 'IN_PROGRESS')
  RETURNING ${startedColumns}`

if (import.meta.main) {
  const [, , setting] = process.argv
  if (!isSetting(setting)) throw new Error(`unknown setting: ${setting}`)
  const logger = new Logger(() => (level, message) => {
    if (level === "error") process.stderr.write(`${message}\n`)
  })
  runPeer(
    Effect.fnUntraced(function* ({ publish, url }) {
      const shared = { connectionString: url, logger, noHandleSignals: true }
      yield* Effect.promise(() => runMigrations(shared))
      return Effect.fnUntraced(function* (games: number) {
        const done = yield* Deferred.make<void>()
        let confirmed = 0
        const start = () =>
          run({
            ...shared,
            ...settings[setting],
            taskList: {
              start: async (payload, helpers) => {
                const { rows } = await helpers.query<Omit<OutgoingEvent, "id">>(startGame, [(payload as Payload).id])
                await publish(rows.map((row) => ({ ...row, id: randomUUID() })))
                if (++confirmed === games) Deferred.doneUnsafe(done, Effect.void)
              }
            }
          })
        yield* Effect.acquireRelease(Effect.promise(start), (runner: Runner) => Effect.promise(() => runner.stop()))
        yield* Deferred.await(done)
      })
    })
  )
}
