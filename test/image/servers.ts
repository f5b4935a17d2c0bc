/** A PostgreSQL and a RabbitMQ of a test file's own, which it may stop and fill as it likes. */
import { Context, Effect, Layer } from "effect"
import { embeddedBinaries, type PostgresServer, startPostgres } from "../support/postgres.ts"
import { type Broker, makeBroker } from "../support/rabbitmq.ts"

export class Servers extends Context.Service<Servers, { readonly postgres: PostgresServer; readonly broker: Broker }>()(
  "kickoff/test/image/Servers"
) {
  static readonly layer = Layer.effect(
    Servers,
    Effect.gen(function* () {
      const [postgres, broker] = yield* Effect.all(
        [
          Effect.acquireRelease(
            Effect.promise(async () => startPostgres(await embeddedBinaries())),
            (server) => Effect.promise(() => server.stop())
          ),
          Effect.acquireRelease(
            Effect.promise(() => makeBroker()),
            (server) => Effect.promise(() => server.stop())
          )
        ],
        { concurrency: "unbounded" }
      )
      return { postgres, broker }
    })
  )
}
