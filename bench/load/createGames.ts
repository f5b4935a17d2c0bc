/** A program that plans many games through the API, all at the same time, when it is told to. */
import { DateTime, Effect, Schema } from "effect"
import { fileURLToPath } from "node:url"
import type { BenchError } from "../BenchError.ts"
import { now } from "../clock.ts"
import { startProgram } from "../childProcess.ts"

const Result = Schema.Struct({
  /** Duration of each request, ms. */
  millis: Schema.Array(Schema.Finite),
  /** What came instead of 201. */
  errors: Schema.Array(Schema.String)
})
export type Created = typeof Result.Type

const isResult = Schema.is(Result)

/** Starts the program; the function that it returns plans games and waits for all answers. */
export const startCreation = Effect.fnUntraced(function* (url: string) {
  const program = yield* startProgram({ name: "the load generator", args: [fileURLToPath(import.meta.url)] })
  return (count: number): Effect.Effect<Created, BenchError> =>
    Effect.andThen(
      program.send({ url, count }),
      program.next((output) => (output._tag === "message" && isResult(output.message) ? output.message : undefined))
    )
})

const create = (url: string, n: number) =>
  Effect.gen(function* () {
    const began = now()
    const scheduled_at = DateTime.formatIso(DateTime.add(yield* DateTime.now, { days: 1 }))
    const error = yield* Effect.tryPromise({
      try: async () => {
        const response = await fetch(`${url}/v1/games`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ guild_id: "bench-api", title: `Planned meanwhile ${n}`, scheduled_at })
        })
        const text = await response.text()
        return response.status === 201 ? undefined : `${response.status} ${text}`
      },
      catch: String
    }).pipe(Effect.catch((error) => Effect.succeed(error)))
    return { millis: now() - began, error }
  })

if (import.meta.main) {
  process.on("message", ({ count, url }: { readonly url: string; readonly count: number }) => {
    Effect.runFork(
      Effect.map(
        Effect.forEach(Array.from({ length: count }).keys(), (n) => create(url, n), { concurrency: "unbounded" }),
        (answers) =>
          process.send?.({
            millis: answers.map((answer) => answer.millis),
            errors: answers.flatMap((answer) => answer.error ?? [])
          })
      )
    )
  })
}
