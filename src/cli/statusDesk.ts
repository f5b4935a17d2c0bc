/** What `status` loads when it runs: what the database and the broker of the settings say. */
import { Effect, Layer, Option } from "effect"
import { greet } from "../messaging/link.ts"
import { DatabaseMetricsRepository } from "../operations/DatabaseMetricsRepository.ts"
import { PauseRepository } from "../operations/PauseRepository.ts"
import { SessionRepository } from "../operations/SessionRepository.ts"
import { readStatus } from "../operations/status.ts"
import { MigrationRepository } from "../postgres/MigrationRepository.ts"
import { Settings } from "../Settings.ts"
import { withDatabase } from "./connection.ts"

export interface BrokerStatus {
  readonly state: "ok" | "away" | "not set"
  /** What it calls itself, or why it is away. */
  readonly detail: string | null
}

const readBroker: Effect.Effect<BrokerStatus, never, Settings> = Effect.gen(function* () {
  const { rabbitmqUrl } = yield* Settings
  if (Option.isNone(rabbitmqUrl)) return { state: "not set", detail: null }
  return yield* greet(rabbitmqUrl.value).pipe(
    Effect.map((name): BrokerStatus => ({ state: "ok", detail: name })),
    Effect.catchTag("LinkFailed", ({ detail }) => Effect.succeed<BrokerStatus>({ state: "away", detail }))
  )
})

/** Both at once, since one of them may be slow to say that it is away. */
export const read = withDatabase(
  Effect.all({ service: readStatus(), broker: readBroker }, { concurrency: 2 }).pipe(
    Effect.provide(
      Layer.mergeAll(
        MigrationRepository.layer,
        DatabaseMetricsRepository.layer,
        SessionRepository.layer,
        PauseRepository.layer
      )
    )
  )
)
