/** A program that plans far-future games by plain SQL, a transaction each, on a few sessions at once, when it is told to. */
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Schema } from "effect"
import { fileURLToPath } from "node:url"
import { startProgram } from "../childProcess.ts"
import { now } from "../clock.ts"
import { connect } from "../sql.ts"

export interface Order {
  readonly seconds: number
}

const sessions = 10

const Result = Schema.Struct({ perSecond: Schema.Finite })

const isResult = Schema.is(Result)

/** Starts the program on a database; what it returns answers commits per second. */
export const startCommits = Effect.fnUntraced(function* (databaseUrl: string) {
  const program = yield* startProgram({
    name: "the writer",
    args: [fileURLToPath(import.meta.url)],
    env: { DATABASE_URL: databaseUrl }
  })
  return (order: Order) =>
    Effect.andThen(
      program.send({ ...order }),
      program.next((output) =>
        output._tag === "message" && isResult(output.message) ? output.message.perSecond : undefined
      )
    )
})

/** As the README shows it, but for a time that is far away. */
const insert = `
  WITH game AS (
    INSERT INTO game_sessions (guild_id, title, scheduled_at) VALUES ('bench', 'Go', now() + interval '30 days') RETURNING *
  ), transitions AS (
    INSERT INTO game_status_schedule (game_id, target_status, transition_time)
    SELECT id, 'IN_PROGRESS', scheduled_at FROM game UNION ALL SELECT id, 'COMPLETED', scheduled_at + interval '1 hour' FROM game
  )
  INSERT INTO notification_schedule (game_id, reminder_minutes, notification_time)
  SELECT id, 15, scheduled_at - interval '15 minutes' FROM game`

if (import.meta.main) {
  Effect.gen(function* () {
    const databases = yield* Effect.all(
      Array.from({ length: sessions }, () => connect(process.env["DATABASE_URL"] ?? ""))
    )
    process.once("disconnect", () => process.exit())
    for (;;) {
      const { seconds } = yield* Effect.callback<Order>((resume) => {
        process.once("message", (order: Order) => resume(Effect.succeed(order)))
      })
      const began = now()
      let commits = 0
      yield* Effect.forEach(
        databases,
        Effect.fnUntraced(function* (database) {
          while (now() - began < seconds * 1000) {
            yield* database.query(insert)
            commits++
          }
        }),
        { concurrency: "unbounded", discard: true }
      )
      process.send?.({ perSecond: commits / ((now() - began) / 1000) })
    }
  }).pipe(Effect.scoped, NodeRuntime.runMain)
}
