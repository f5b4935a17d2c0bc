/** Runs an embedded PostgreSQL in the folder of its first argument until it is told to stop, and prints its URL. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, Redacted } from "effect"
import { EmbeddedPostgres } from "../../src/postgres/EmbeddedPostgres.ts"

Effect.gen(function* () {
  const { url } = yield* EmbeddedPostgres
  process.stdout.write(`${Redacted.value(url)}\n`)
  yield* Effect.never
}).pipe(
  Effect.provide(EmbeddedPostgres.layer(process.argv[2] ?? "")),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
